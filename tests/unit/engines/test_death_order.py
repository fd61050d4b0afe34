# ruff: noqa: E501 - lines of logs are quoted whole
"""Which of several errors decides: that of the process that failed, and none of a request that an engine refused."""

from __future__ import annotations

import pytest

from llm_operator.engines.failures import GENERIC, diagnose, known_failure

VLLM = "VLLM"
PREFIX = "(EngineCore pid=84) ERROR 05-07 12:00:00 [core.py:1108] "
REQUESTS = [
    "ValueError: 'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context length is 8192 tokens and your request has 1210 input tokens (8192 > 8192 - 1210).",
    "ValueError: This model's maximum context length is 16384 tokens. However, you requested 122946 tokens (112946 in the messages, 10000 in the completion). Please reduce the length of the messages.",
    "ValueError: The prompt (total length 25938) is too long to fit into the model (context length 4096). Make sure that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens.",
    "openai_harmony.HarmonyError: Unexpected token 200012 while expecting start token 200006",
    "jinja2.exceptions.TemplateError: Conversation roles must alternate user/assistant/user/assistant/...",
]


@pytest.mark.parametrize("refused", REQUESTS)
def test_a_refused_request_ends_no_engine(refused: str) -> None:
    error = "(APIServer pid=1) ERROR 04-28 14:17:50 [serving_chat.py:257] "
    served = f'INFO:     Application startup complete.\n{error}{refused}\n(APIServer pid=1) INFO:     1.2.3.4:5 - "POST /v1/chat/completions HTTP/1.1" 400'
    assert known_failure(VLLM, served) is None
    assert diagnose(VLLM, 137, None, served).reason in GENERIC


@pytest.mark.parametrize(
    "line",
    [
        "(EngineCore_DP0 pid=26353) (Worker_TP7 pid=26373) INFO 12-17 13:32:44 [x.py:1] quantization=None, CUDA out of memory",
        "(RayWorkerWrapper pid=270291, ip=10.175.94.190) [rank3]:[W219 08:58:32.606233339 x.cpp:616] Warning: CUDA out of memory",
    ],
)
def test_the_names_of_two_processes_hide_no_level(line: str) -> None:
    assert known_failure(VLLM, line) is None
    said = "(EngineCore_DP0 pid=26353) (Worker_TP7 pid=26373) ERROR 12-17 13:32:44 [x.py:1] KeyError: 'blocks.0.attn.qkv.weight'"
    assert diagnose(VLLM, 1, None, said).reason == "WeightsMismatch"


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        ("ModuleNotFoundError: No module named 'cv2'", "PackageMissing"),
        ("RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)", "NCCLFailed"),
        ("torch.OutOfMemoryError: CUDA out of memory.", "GPUOutOfMemory"),
    ],
)
@pytest.mark.parametrize(
    "consequence",
    [
        "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 clients joined.",
        "RuntimeError: [1] is setting up NCCL communicator ... wait timeout after 600000ms, keys: /default_pg/0//cuda//0",
        "DistBackendError: NCCL error in: x.cpp:3690, remote process exited or there was a network error, NCCL version 2.27.3",
        "TimeoutError: RPC call to execute_model timed out.",
    ],
)
def test_what_the_other_processes_say_does_not_hide_the_one_that_failed(
    cause: str, reason: str, consequence: str
) -> None:
    text = f"(Worker_TP0 pid=3) ERROR 05-07 12:00:00 [x.py:1] {cause}\n(Worker_TP1 pid=4) ERROR 05-07 12:10:00 [x.py:1] {consequence}"
    assert diagnose(VLLM, 1, None, text).reason == reason


@pytest.mark.parametrize(
    "of_a_request",
    [
        "requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='pictures', port=443): Max retries exceeded with url: /1.png",
        "aiohttp.client_exceptions.ClientResponseError: 403 Client Error: Forbidden for url: https://pictures/1.png",
        "ValueError: 404 Client Error: Not Found for url: https://pictures/1.png",
        "ValueError: --max-model-len must be greater than 7",
    ],
)
def test_what_fails_only_at_a_start_is_no_cause_of_a_death_that_comes_later(of_a_request: str) -> None:
    error = "(APIServer pid=1) ERROR 05-07 12:00:00 [serving_chat.py:7] "
    served = f"INFO:     Application startup complete.\n{error}{of_a_request}\n"
    assert diagnose(VLLM, -11, None, served).reason == "EngineCrashed"
    assert (
        diagnose(VLLM, 1, None, f"{served}{PREFIX}torch.OutOfMemoryError: CUDA out of memory.").reason
        == "GPUOutOfMemory"
    )
    assert diagnose(VLLM, 1, None, f"{error}{of_a_request}").reason not in GENERIC - {"EngineCodeFailed"}


@pytest.mark.parametrize(("code", "reason"), [(-11, "EngineCrashed"), (-9, "EngineKilled"), (-15, "EngineFailed")])
def test_the_signal_of_a_worker_is_read(code: int, reason: str) -> None:
    """SIGTERM is how the others are ended, and tells nothing."""
    line = f"ERROR 07-26 14:50:35 multiproc_worker_utils.py:120] Worker VllmWorkerProcess pid 214281 died, exit code: {code}"
    assert diagnose(VLLM, 1, None, line).reason == reason


def test_nccl_s_own_monitor_decides_nothing() -> None:
    lines = (
        "x:25:25 [0] ras/client_support.cc:160 NCCL WARN Call to bind failed: Address already in use",
        "x:25:25 [0] NCCL INFO Channel 00 : 0[0] -> 1[1] via SHM/direct/direct",
    )
    assert diagnose(VLLM, 137, None, "\n".join(lines)).reason == "StartupHung"
    assert known_failure(VLLM, lines[0]) is None
