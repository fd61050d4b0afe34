"""What engines say of their capacity. The texts are theirs: of real starts where a version and a card are named."""

import json

import pytest

from llm_operator.api.status import MeasuredStatus, PlanStatus
from llm_operator.engines.lmdeploy.capacity import pytorch_tokens, turbomind_tokens
from llm_operator.engines.vllm.capacity import vllm_tokens, vllm_tokens_in_log, vllm_tokens_of_blocks
from llm_operator.manifests.common import inputs_hash
from llm_operator.reconcile.measured import (
    deviation,
    pod_to_measure,
    seconds_to_ready,
)
from tests.support.build import pod, resource

PER_TOKEN = 131_072


def metrics(**labels: object) -> str:
    """As vLLM writes it (tests/engines asks its own logger), among others."""
    said = {"_block_size_resolved": "True", "cache_dtype": "auto", "engine": "0", "sliding_window": "None", **labels}
    text = ",".join(f'{name}="{value}"' for name, value in sorted(said.items()))
    return (
        "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
        "# TYPE vllm:cache_config_info gauge\n"
        f"vllm:cache_config_info{{{text}}} 1.0\n"
        'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.0\n'
    )


def test_tokens_in_vllms_metrics() -> None:
    assert vllm_tokens(metrics(kv_cache_size_tokens=163_840, num_gpu_blocks=10_240, block_size=16)) == 163_840


def test_of_several_cores_the_smallest_counts() -> None:
    told = [metrics(engine=core, kv_cache_size_tokens=tokens) for core, tokens in ((0, 4096), (1, 2048))]
    assert vllm_tokens("".join(told)) == 2048


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not metrics at all",
        metrics(),
        metrics(kv_cache_size_tokens="None"),
        metrics(kv_cache_size_tokens="0"),
        metrics(kv_cache_size_tokens="-5"),
        metrics(kv_cache_size_tokens="1.5e3"),
        metrics(kv_cache_size_tokens="9" * 40),
        'vllm:cache_config_info{kv_cache_size_tokens="16',
        'vllm:cache_config_info{kv_cache_size_tokens="163840"} 1.0',
        "vllm:cache_config_info{kv_cache_size_tokens=163840} 1.0\n",
        'vllm:cache_config_info_other{kv_cache_size_tokens="163840"} 1.0\n',
        "<html>\nvllm:cache_config_info\n",
    ],
)
def test_what_is_no_number_or_cut_tells_nothing(text: str) -> None:
    assert vllm_tokens(text) is None
    assert vllm_tokens_of_blocks(text, PER_TOKEN) is None


def test_labels_may_hold_anything() -> None:
    odd = metrics(kv_cache_dtype_skip_layers='[\\"a\\", \\"b}\\"]', kv_cache_size_tokens=2048)
    assert vllm_tokens(odd) == 2048


def test_blocks_count_where_they_fill_the_cache() -> None:
    told = metrics(num_gpu_blocks=10_240, block_size=16, kv_cache_memory_bytes=20 << 30)
    assert vllm_tokens_of_blocks(told, PER_TOKEN) == 163_840
    assert vllm_tokens_of_blocks(told, PER_TOKEN * 4) is None, "four groups of layers share these blocks"
    assert vllm_tokens_of_blocks(told, None) is None
    assert vllm_tokens_of_blocks(metrics(num_gpu_blocks=10_240, block_size=16), PER_TOKEN) is None


def test_blocks_of_several_cores_are_told_as_a_sum() -> None:
    told = [
        metrics(engine=core, num_gpu_blocks=20_480, block_size=16, kv_cache_memory_bytes=20 << 30) for core in (0, 1)
    ]
    assert vllm_tokens_of_blocks("".join(told), PER_TOKEN) == 163_840


@pytest.mark.parametrize("device", ["GPU", "CPU"])
def test_tokens_in_vllms_log(device: str) -> None:
    line = f"INFO [kv_cache_utils.py:1] {device} KV cache size: 2,097,152 tokens, Maximum concurrency 4.00x"
    assert vllm_tokens_in_log(line) == 2_097_152
    assert vllm_tokens_in_log(line + "\n" + line.replace("2,097,152", "1,024")) == 1024
    assert vllm_tokens_in_log("nothing to see") is None


def test_whole_slabs_in_turbominds_log() -> None:
    line = "[TM][INFO] Object cache budget: 101933.70 MB from free 127417.12 MB and ratio 0.8"
    assert turbomind_tokens(line, PER_TOKEN) == 815_360, "as many blocks as the engine of this line had"
    assert turbomind_tokens(line, 67_584) == 1_528_320, "slabs of 64 MiB: 3.4 % of the budget hold nothing"
    assert turbomind_tokens(line, None) is None
    assert turbomind_tokens("nothing to see", PER_TOKEN) is None
    states = "[TM][INFO] [GDN] input_dtype=bf16 state_dtype=bf16 gdr_cp_level=2 block config L_b=1 H_b=24"
    assert turbomind_tokens(f"{line}\n{states}", PER_TOKEN) is None, "states share the cache"


# Tensor parallelism 2 on two H200, as these engines told it; vLLM tells once what all ranks agreed on.
TURBOMIND_PAIR = """\
[TM][INFO][turbomind.cc:338] Object cache budget: 107612.10 MB from free 134515.12 MB and ratio 0.800
[TM][INFO][turbomind.cc:338] Object cache budget: 107612.10 MB from free 134515.12 MB and ratio 0.800
"""
VLLM_PAIR = """\
(Worker_TP0 pid=1528) INFO 11-26 07:15:08 [gpu_worker.py:562] Available KV cache memory: 120.76 GiB
(EngineCore pid=1422) INFO 11-26 07:15:08 [kv_cache_utils.py:2177] GPU KV cache size: 1,978,528 tokens
(Worker_TP1 pid=1529) INFO 11-26 07:15:12 [model_runner.py:747] Graph capturing finished in 4 secs, took 0.72 GiB
"""
PYTORCH_PAIR = (
    '"{\\"tp_size\\":2,\\"ep_size\\":1,\\"dp_size\\":1,\\"pp_size\\":null,\\"dp_rank\\":0,\\"block_size\\":64,'
    '\\"num_cpu_blocks\\":0,\\"num_gpu_blocks\\":26510}"'
)


def test_two_ranks_are_one_replica() -> None:
    assert turbomind_tokens(TURBOMIND_PAIR, PER_TOKEN // 2) == 1_721_344
    assert vllm_tokens_in_log(VLLM_PAIR) == 1_978_528
    assert pytorch_tokens(PYTORCH_PAIR, "") == 1_696_640


# LMDeploy 0.18.0, backend PyTorch, on an H100: the answer of /distserve/engine_info, JSON in a JSON string.
ENGINE_INFO = (
    '"{\\"tp_size\\":1,\\"ep_size\\":1,\\"dp_size\\":1,\\"pp_size\\":null,\\"dp_rank\\":0,\\"block_size\\":64,'
    '\\"num_cpu_blocks\\":0,\\"num_gpu_blocks\\":3710}"'
)
# The same version and card with --log-level INFO.
INFO_LOG = """\
2026-11-24 22:09:20,884 - lmdeploy - INFO - async_engine.py:133 - input backend=pytorch, backend_config=\
PytorchEngineConfig(dtype='auto', tp=1, block_size=64, kernel_block_size=64, num_cpu_blocks=0, num_gpu_blocks=0)
2026-11-24 22:10:07,014 - lmdeploy - INFO - base.py:439 - Building CacheEngine with config: \n\
CacheConfig(max_batches=1024, block_size=64, num_cpu_blocks=0, num_gpu_blocks=3917, kernel_block_size=64, \
window_size=-1, cache_max_entry_count=0.05, num_reserved_gpu_blocks=1).
"""
DEFAULT_LOG = "Warming up decoding: 100%|##########| 12/12 [00:11<00:00,  1.00it/s]\n"
# pytorch/engine/executor/base.py, _adjust_block_size.
SMALLER = "lmdeploy - WARNING - base.py:280 - Update `block_size=32` for large `head_dim=576`.\n"


def test_blocks_of_the_pytorch_backend() -> None:
    assert pytorch_tokens(ENGINE_INFO, DEFAULT_LOG) == 3710 * 64
    assert pytorch_tokens(json.loads(ENGINE_INFO), DEFAULT_LOG) == 3710 * 64, "plain JSON would do as well"
    assert pytorch_tokens(ENGINE_INFO, SMALLER) == 3710 * 32, "which the answer does not tell"


def test_a_log_that_says_it_needs_no_answer() -> None:
    assert pytorch_tokens("", INFO_LOG) == 3917 * 64
    assert pytorch_tokens(ENGINE_INFO, INFO_LOG) == 3917 * 64


@pytest.mark.parametrize(
    "answer",
    ["", "Internal Server Error", "[]", "null", '"null"', '"{"', "{}", '{"num_gpu_blocks": 0, "block_size": 64}', "7"],
)
def test_an_answer_that_tells_nothing(answer: str) -> None:
    assert pytorch_tokens(answer, DEFAULT_LOG) is None


def test_without_the_log_the_blocks_tokens_are_not_known() -> None:
    assert pytorch_tokens(ENGINE_INFO, None) is None


##### Of which pod, and what it means


def test_seconds_to_ready_are_whole_and_never_negative() -> None:
    def between(started_at: str | None, ready_at: str | None) -> int | None:
        return seconds_to_ready(pod(resource(), started_at=started_at, ready_at=ready_at))

    assert between("2026-01-01T00:00:00Z", "2026-01-01T00:02:05Z") == 125
    assert between("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z") == 0
    assert between("2026-01-01T00:00:01Z", "2026-01-01T00:00:00Z") == 0
    assert between(None, "2026-01-01T00:00:00Z") is None
    assert between("2026-01-01T00:00:00Z", None) is None


def test_the_first_pod_of_the_spec_that_serves_is_measured() -> None:
    of = resource()
    second, first = pod(of, name="b", ready=True), pod(of, name="a", ready=True)
    others = (
        pod(of, name="0", ready=True, deleting=True),
        pod(of, name="1", ready=False),
        pod(of, name="2", ready=True, inputs="0123456789"),
    )
    assert pod_to_measure((*others, second, first), inputs_hash(of)) == first
    assert pod_to_measure(others, inputs_hash(of)) is None


@pytest.mark.parametrize(
    ("planned", "held", "percent"),
    [
        (100_000, 105_000, None),
        (100_000, 105_001, "+5 %"),
        (100_000, 95_000, None),
        (100_000, 94_000, "-6 %"),
        (100_000, None, None),
        (None, 100_000, None),
        (0, 100_000, None),
    ],
)
def test_more_than_five_percent_beside_the_plan_are_told(
    planned: int | None, held: int | None, percent: str | None
) -> None:
    told = deviation(PlanStatus(tensor=1, gpus_per_replica=1, kv_tokens=planned), MeasuredStatus(kv_tokens=held))
    if percent is None:
        assert told is None
    else:
        assert told == f"the engine holds {held} KV tokens, {percent} of the {planned} planned"
    assert deviation(None, MeasuredStatus(kv_tokens=held)) is None
    assert deviation(PlanStatus(tensor=1, gpus_per_replica=1, kv_tokens=planned), None) is None
