# ruff: noqa: E501 - lines of logs are quoted whole
"""What the engines say themselves when they end: TurboMind's checks, LMDeploy's checks of its environment, vLLM's processes.

The texts are those of the sources: lmdeploy/pytorch/check_env and src/turbomind of 0.9 to 0.18, vLLM 0.26 to 0.33.
"""

from __future__ import annotations

import pytest

from llm_operator.engines.failures import GENERIC, diagnose, known_failure

FATAL = "[TM][FATAL][0821.10:11:12.123456]"
TURBOMIND = [
    ("[attention.cu:55] Check failed: kernel No attention kernel found: sm=75", "KernelFailed"),
    ("[decoding.cu:55] Check failed: kernel No decoding kernel found: sm=75", "KernelFailed"),
    ("[gemm.cu:55] No feasible kernel found for the problem: sm70_u4", "KernelFailed"),
    ("[moe_utils_v2.cu:5] unsupported moe config: softmax=1 norm_topk=0", "KernelFailed"),
    ("[copy.cu:7] unsupported data type: 9", "KernelFailed"),
    ("[allocator.cc:5] CUDA Driver error: Unknown", "KernelFailed"),
    ("[allocator.cc:5] CUDA error: out of memory", "GPUOutOfMemory"),
    ("[device_comm.cc:55] Unknown communication backend: foo", "SettingRefused"),
    ("[cuda_ipc_comm.cu:5] NVLS not supported", "SettingRefused"),
    ("[nccl.cu:5] Check failed: comm != nullptr", "NCCLFailed"),
    ("[comm.cc:5] Check failed: getenv() != nullptr LMDEPLOY_DIST_INIT_ADDR not set", "SettingRefused"),
    (
        "[engine.cc:5] Check failed: !(moe_weights.empty() && ep_size > 1) Dense model is not supported with ep_size > 1",
        "SettingRefused",
    ),
    ("[attention_weight.cc:5] Check failed: w.head_num % tp_size == 0 (28 vs. 0) 28 8", "TensorDoesNotDivide"),
    ("[module.cc:3] Check failed: c != nullptr child 'layers' not found in model", "WeightsMismatch"),
    ("[linear_weight.cc:3] 'weights' Must be non NULL", "WeightsMismatch"),
    ("[engine.cc:5] Check failed: dtype == kBfloat16", "ModelCodeFailed"),
    ("[unified_attention_layer.cc:5] Check failed: q_count > 0", "ModelCodeFailed"),
    ("[tensor.cc:5] Check failed: ndim == 2 (3 vs. 2)", "EngineCodeFailed"),
]


@pytest.mark.parametrize(("said", "reason"), TURBOMIND)
def test_what_turbomind_checks_has_the_reason_of_its_part(said: str, reason: str) -> None:
    assert diagnose("LMDeploy", 134, None, f"{FATAL}{said} ", "0.18.0").reason == reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("[TM][FATAL] kernels/attention/attention.cu(55): Check failed: x ", "KernelFailed"),
        ("[TM][FATAL] models/llama/LlamaBatch.cc(1254): Check failed: r->session.start_flag ", "ModelCodeFailed"),
        ("[TM][FATAL] comm/nccl/nccl.cu(12): Check failed: x ", "NCCLFailed"),
        ("  what():  [TM][ERROR]  Assertion fail: /lmdeploy/src/turbomind/models/llama/LlamaWeight.cc:133 ", "WeightsMismatch"),
        ("  what():  [TM][ERROR]  Assertion fail: /lmdeploy/src/turbomind/layers/sampling_layers/x.cc:3 ", "ModelCodeFailed"),
        ("  what():  [TM][ERROR] pointer_mapping_ has no ptr at 0x7f. Assertion fail: /lmdeploy/src/turbomind/utils/allocator.h:284 ", "EngineCodeFailed"),
        ("  what():  Wait timeout for key(s): /rank/1", "NCCLFailed"),
    ],
)  # fmt: skip
def test_what_an_older_turbomind_checks_too(said: str, reason: str) -> None:
    text = f"terminate called after throwing an instance of 'std::runtime_error'\n{said}"
    found = diagnose("LMDeploy", 134, None, text, "0.9.2")
    assert found.reason == reason
    assert "engine" in found.remedy


CHECKED = [
    ("Dist", 'Does not support distributed_executor_backend="uni" and world_size!=1.', "SettingRefused"),
    ("Dist", "ep>1 requires ep % dp == 0. Get dp=2 and ep=3.", "SettingRefused"),
    ("Dist", "ep>1 requires install DeepEP(https://github.com/deepseek-ai/DeepEP) and DeepGEMM.", "PackageMissing"),
    ("Dist", "Multi-nodes support requires `ray`.", "RayMissing"),
    ("Engine", "thread safe mode is no longer supported.\nRead https://x for more details.", "SettingRefused"),
    ("Engine", "max_batch_size should be greater than 0, but got 0", "SettingRefused"),
    ("Adapter", "Failed to import peft.", "AdapterRefused"),
    ("Adapter", "Please make sure the adapter can be loaded with `peft.PeftConfig.from_pretrained`", "AdapterRefused"),
    ("Model", "Checking failed with error 'x'. Please send issue to LMDeploy with error logs.", "ModelConfigInvalid"),
    ("CUDA", "cuda is not available.", "NoGPU"),
]


@pytest.mark.parametrize(("checker", "said", "reason"), CHECKED)
def test_what_lmdeploy_checks_before_it_starts(checker: str, said: str, reason: str) -> None:
    before = "2026-05-23 14:13:23,916 - lmdeploy - ERROR - base.py:55 - "
    text = f"{before}AttributeError: x\n{before}<{checker}> check failed!\n\x1b[31m{said}\x1b[0m"
    assert diagnose("LMDeploy", 1, None, text).reason == reason


VLLM = [
    ("RuntimeError: Insufficient space in /dev/shm for psm_1: 64 MiB required, 12 MiB free. Increase /dev/shm", "SharedMemoryTooSmall"),
    ("ValueError: Externally held weights on device cuda:0 (70.0/79.2 GiB) exceed the desired GPU memory utilization", "KVCacheTooSmall"),
    ("RuntimeError: Every node should have a unique IP address. Got 2 nodes", "AddressNotAvailable"),
    ("ValueError: sum(partitions)=30 does not match num_hidden_layers=32.", "SettingRefused"),
    ("ValueError: Ray version 2.47.1 is required, but found 2.9", "PackageMismatch"),
    ("AssertionError: NCCL version 2.27.3 or higher is required for NCCL symmetric memory", "PackageMismatch"),
    ("RuntimeError: CUDART error: invalid argument", "KernelFailed"),
    ("RuntimeError: driver node id a is not included in a placement group b. You don't have enough GPUs available", "NotEnoughGPUs"),
    ("ValueError: Not enough resources to allocate 2 DP ranks on DP master node 7, possible to fit 1", "NotEnoughGPUs"),
    ("ValueError: --device-ids provides 1 devices, but DP rank 1 needs devices [1, 2)", "NotEnoughGPUs"),
    ("RuntimeError: NUMA binding was requested, but vLLM could not detect it. Pass --numa-bind-nodes", "SettingRefused"),
    ("RuntimeError: VLLM_GPU_NIC_PCIE_MAPPING is set but VLLM_NIC_SELECTION_VARS is not; both must be set", "SettingRefused"),
    ("RuntimeError: Failed to load 1th LogitsProcessor plugin x", "SettingRefused"),
    ("RuntimeError: Could not load logging config. File does not exist: /etc/x.json", "FileMissing"),
    ("RuntimeError: MoonEP not available. Install it from https://example.org", "PackageMissing"),
    ("FileNotFoundError: FP8 scale file not found: /models/x/scales.json", "FileMissing"),
    ("Exception: num_bits must be 4 or 8, got 3", "FormatMismatch"),
    ("RuntimeError: Error happened when batch testing peer-to-peer access from 0 to 1:", "PeerAccessFailed"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "reason"), VLLM)
def test_what_vllm_says_has_a_reason(said: str, reason: str) -> None:
    assert diagnose("VLLM", 1, None, said).reason == reason


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("VLLM", "RuntimeError: Executor failed."),
        ("VLLM", "RuntimeError: Worker 1 failed to initialize: x"),
        ("VLLM", "RuntimeError: Worker failed with error 'x', please check the stack trace above for the root cause"),
        ("VLLM", "RuntimeError: API server process 1 exited (code=1) before reporting its bound ZMQ addresses"),
        ("VLLM", "RuntimeError: DP Coordinator process failed during startup."),
        ("VLLM", "ray.exceptions.ActorDiedError: The actor died because of an error raised in its creation task"),
        ("LMDeploy", "RuntimeError: PyTorch ZMQ engine process exited before publishing RPC server port."),
        ("LMDeploy", "2026-05-23 14:13:23,916 - lmdeploy - ERROR - x.py:5 - Ray worker exited."),
        ("LMDeploy", "concurrent.futures.process.BrokenProcessPool: A process was terminated abruptly"),
    ],
)
def test_word_of_another_processs_death_is_not_a_cause(engine: str, said: str) -> None:
    assert diagnose(engine, 1, None, said).reason in GENERIC
    cause = "torch.OutOfMemoryError: CUDA out of memory."
    assert diagnose(engine, 1, None, f"{cause}\n{said}").reason == "GPUOutOfMemory"


def test_an_error_that_another_process_quotes_is_read_as_its_own() -> None:
    said = "RuntimeError: Worker failed with error 'AssertionError: 14 is not divisible by 4', please check the stack trace"
    assert diagnose("VLLM", 1, None, said).reason == "TensorDoesNotDivide"
    known = "RuntimeError: Worker failed with error 'CUDA out of memory. Tried to allocate 2.00 GiB', please check the stack trace"
    assert diagnose("VLLM", 1, None, known).reason == "GPUOutOfMemory"


@pytest.mark.parametrize(
    ("engine", "said", "reason"),
    [
        ("LMDeploy", "RuntimeError: GET was unable to find an engine to execute this computation", "KernelFailed"),
        ("LMDeploy", "RuntimeError: Trying to create tensor with negative dimension -56: [-56, 8]", "KVCacheTooSmall"),
        ("LMDeploy", "AttributeError: Can't get attribute 'TrainingArguments' on <module '__main__'", "WeightsCorrupt"),
        ("VLLM", "NameError: name 'ncclGetVersion' is not defined", "LibraryMissing"),
        ("VLLM", "KeyError: 'model.layers.20.mlp.gate.weight'", "WeightsMismatch"),
        ("VLLM", "KeyError: 'model.layers.20.linear_attn'", "EngineCodeFailed"),
        ("VLLM", "KeyError: 'model.layers.20.self_attn.attn'", "EngineCodeFailed"),
    ],
)
def test_what_public_reports_added(engine: str, said: str, reason: str) -> None:
    assert diagnose(engine, 1, None, said).reason == reason


FRAMED = [
    ("vllm/utils/argparse_utils.py", "ValueError: Config file must be of a yaml/yml type. x.json supplied", "SettingRefused"),
    ("vllm/v1/worker/mamba_utils.py", "AssertionError: no mamba layers in the model", "KVCacheLayoutFailed"),
    ("vllm/v1/worker/gpu_model_runner.py", "RuntimeError: Encoder cache miss for x.", "MultimodalFailed"),
    ("vllm/v1/cudagraph_dispatcher.py", "AssertionError: Cudagraph capture sizes must be set when full mode is enabled.", "GraphCaptureFailed"),
    ("vllm/device_allocator/cumem.py", "AssertionError: cumem allocator is not available", "SettingRefused"),
    ("vllm/v1/executor/vllm_net_devices.py", "RuntimeError: /sys/class/infiniband not found or not a directory", "SettingRefused"),
    ("vllm/v1/worker/gpu_model_runner.py", "RuntimeError: Fault detected in EP all2all communication: one or more ranks timed out", "NCCLFailed"),
    ("vllm/distributed/device_communicators/all2all.py", "RuntimeError: DeepEPv2 communicator properties query failed", "NCCLFailed"),
    ("vllm/distributed/device_communicators/pynccl.py", "RuntimeError: failed to load the NCCL library for unique-id rendezvous", "LibraryMissing"),
    ("vllm/compilation/decorators.py", "RuntimeError: Source code has changed since the last compilation. Recompiling the model.", "CompileFailed"),
    ("vllm/triton_utils/force_first_config.py", "RuntimeError: No valid config for kernel x key=7 (tried 7 configs)", "KernelFailed"),
    ("vllm/v1/worker/gpu_worker.py", "ValueError: Model Runner V2 requires Triton.", "PackageMissing"),
    ("lmdeploy/turbomind/turbomind.py", "AssertionError: deepep backend only supports nccl communicator", "SettingRefused"),
    ("lmdeploy/pytorch/engine/cache_engine/schema.py", "AssertionError: num_heads: 7, world_size: 2", "KVCacheLayoutFailed"),
    ("lmdeploy/pytorch/engine/cache_engine/migration.py", "RuntimeError: PD endpoints must expose the same number of cache pools.", "KVTransferFailed"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "said", "reason"), FRAMED)
def test_what_general_code_says_where_it_failed(module: str, said: str, reason: str) -> None:
    engine = "VLLM" if module.startswith("vllm") else "LMDeploy"
    trace = (
        f'Traceback (most recent call last):\n  File "/usr/lib/python3/site-packages/{module}", line 7, in f\n{said}'
    )
    assert diagnose(engine, 1, None, trace).reason == reason


@pytest.mark.parametrize(
    ("engine", "line"),
    [
        ("VLLM", "INFO:     Application startup complete."),
        ("VLLM", "Loading safetensors checkpoint shards:  10% Completed | 1/10 [00:00<00:02,  4.01it/s]"),
        ("LMDeploy", "Convert to turbomind format:  10%|# | 3/32 [00:00<?, ?it/s]"),
    ],
)
def test_an_engine_that_had_begun_did_not_end_for_its_command_line(engine: str, line: str) -> None:
    assert diagnose(engine, 2, None, line).reason == "EngineFailed"
    assert diagnose(engine, 2, None, "vllm serve: what is this?").reason == "InvalidArgument"


@pytest.mark.parametrize(
    "said",
    [
        "[request.cc:5] Skip conflicting infer request for ID 7",
        "[gateway.cc:5] Error invoking callback for (7): x",
        "[scheduler.cc:5] leaked 3 logical blocks",
        "[engine.cc:55] Warm-up for 8192 tokens failed with status 6",
        "Warm-up for 8192 tokens failed with status 6",
    ],
)
@pytest.mark.parametrize(
    "before", ["[TM][ERROR]", "[TM][ERROR][0821.10:11:12.123456]", "[TM][WARN][0821.10:11:12.123456]"]
)
def test_what_turbomind_says_of_one_request_decides_nothing(before: str, said: str) -> None:
    assert known_failure("LMDeploy", f"INFO:     Application startup complete.\n{before}{said}") is None
