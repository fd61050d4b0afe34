"""The planner against real starts of the engines, and against the figures this project began with."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from llm_operator.engines.lmdeploy.blocks import slab_bytes
from llm_operator.engines.lmdeploy.memory import TurboMindMemory
from llm_operator.models import parse_config
from llm_operator.planning import GpuFacts, KVQuantization, PlanRequest, Verdict, WeightQuantization, gpu_by_name, plan
from llm_operator.planning.kv_cache import allocate
from llm_operator.planning.runtime import default_batch, runtime
from llm_operator.planning.weights import weight_bytes
from tests.support.engine_names import Backend, Engine
from tests.support.planning import GIB, request, shape
from tests.unit.planning import accuracy

LMDEPLOY = accuracy.lmdeploy_rows()
VLLM = accuracy.vllm_rows()
ROWS = accuracy.rows()


def job(row: Any) -> str:
    return str(row["job"] if isinstance(row, dict) else row.job)


# The small model on two GPUs has 33 MiB less than is planned: gaps of torch's allocator that were filled.
ALLOCATOR_GAPS = 34 * accuracy.MIB


@pytest.mark.parametrize("row", ROWS, ids=job)
def test_weights_and_tokens_of_a_start_are_within_two_percent(row: accuracy.Row) -> None:
    if row.weights is not None:
        assert abs(row.planned_weights - row.weights) <= max(0.02 * row.weights, ALLOCATOR_GAPS)
    assert abs(row.token_error) <= 2
    assert row.planned_low <= row.tokens


def test_the_published_table_is_what_the_planner_computes(capsys: pytest.CaptureFixture[str]) -> None:
    text = accuracy.document(ROWS)
    with capsys.disabled():
        print(f"\n{text}")
    assert accuracy.DOCUMENT.read_text() == text, "run: python -m tests.unit.planning.accuracy --write"


TURBOMIND = [row for row in LMDEPLOY if row["backend"] == "turbomind"]


@pytest.mark.parametrize("row", [row for row in TURBOMIND if "state_objects" not in row], ids=job)
def test_turbomind_blocks_follow_exactly_from_the_budget(row: dict[str, Any]) -> None:
    given = accuracy.lmdeploy_request(row)
    found = allocate(given, accuracy.tensor(row), row["kv_budget_bytes"], row["session_len"], 8192)
    assert (found.block_bytes, found.blocks, found.tokens) == (
        row["bytes_per_block"],
        row["kv_blocks"],
        row["kv_tokens"],
    )
    assert slab_bytes(found.block_bytes) == row["slab_bytes"]


@pytest.mark.parametrize("row", [row for row in TURBOMIND if "state_objects" in row], ids=job)
def test_turbomind_states_are_the_objects_that_its_log_names(row: dict[str, Any]) -> None:
    given, tensor = accuracy.lmdeploy_request(row), accuracy.tensor(row)
    shared = TurboMindMemory().pages(given, tensor, row["kv_budget_bytes"])
    found = [{"bytes": kind.size, "count": kind.count, "per_slab": kind.objects} for kind in shared.states]
    assert found == row["state_objects"]
    assert (shared.block.size, shared.block.objects) == (row["bytes_per_block"], row["blocks_per_slab"])
    assert shared.beside(0) == row["pages"] * row["blocks_per_slab"]
    assert shared.beside(row["requests"]) == row["kv_blocks"], "as slabs were counted by hand"


@pytest.mark.parametrize("row", [row for row in TURBOMIND if "state_objects" in row], ids=job)
def test_turbomind_took_before_its_cache_what_is_planned(row: dict[str, Any]) -> None:
    """Weights with the padded heads of the image encoder, shared by the ranks, and what comes before the cache."""
    given = accuracy.lmdeploy_request(row)
    planned = runtime(given, 2, default_batch(given))
    taken = row["gpu_total_bytes"] - row["free_before"] - weight_bytes(given, 2).total
    assert taken == pytest.approx(planned.before_likely, abs=24 * accuracy.MIB)


@pytest.mark.parametrize("row", [row for row in LMDEPLOY if row["backend"] == "pytorch"], ids=job)
def test_pytorch_blocks_have_the_size_the_engine_gave_them(row: dict[str, Any]) -> None:
    budget = row["kv_blocks"] * row["bytes_per_block"]
    found = allocate(accuracy.lmdeploy_request(row), accuracy.tensor(row), budget, row["session_len"], 8192)
    assert (found.block_bytes, found.tokens) == (row["bytes_per_block"], row["kv_tokens"])


@pytest.mark.parametrize("row", [row for row in VLLM if "kv_available_bytes" in row], ids=job)
def test_vllm_blocks_and_tokens_follow_exactly_from_the_available_bytes(row: dict[str, Any]) -> None:
    given = accuracy.vllm_request(row)
    assert given.context_length is not None
    batched = given.max_batched_tokens or 8192
    found = allocate(given, accuracy.tensor(row), row["kv_available_bytes"], given.context_length, batched)
    assert (found.blocks, found.tokens) == (row["num_gpu_blocks"], row["kv_tokens"])


@pytest.mark.parametrize("row", LMDEPLOY + VLLM, ids=job)
def test_what_started_is_said_to_fit(row: dict[str, Any]) -> None:
    given = accuracy.request_of(row)
    assert plan(given).verdict is Verdict.FITS


@pytest.mark.parametrize("row", [row for row in LMDEPLOY + VLLM if accuracy.own_card(row)], ids=job)
def test_what_an_engine_takes_beside_weights_and_cache_is_within_the_bounds(row: dict[str, Any]) -> None:
    """Right after the start, before any request."""
    taken, planned = accuracy.beside(row)
    assert 0 < taken <= planned.before_high + planned.after_high


@pytest.mark.parametrize("row", [row for row in LMDEPLOY + VLLM if "used_end" in row], ids=job)
def test_what_it_takes_after_a_load_is_within_the_bounds(row: dict[str, Any]) -> None:
    taken, planned = accuracy.beside({**row, "used_after": row["used_end"]})
    assert taken <= planned.before_high + planned.after_high


def experts_awq(intermediate: int) -> dict[str, Any]:
    """The mixture of experts that started on two GPUs, with experts of another width."""
    row = next(row for row in VLLM if row["job"] == "vl-qwen15moe-awq-tp2")
    return {**row, "config": {**row["config"], "moe_intermediate_size": intermediate}}


@pytest.mark.parametrize(("intermediate", "verdict"), [(1408, "Fits"), (704, "Fits"), (720, "DoesNotFit")])
def test_experts_may_halve_the_group_down_to_32(intermediate: int, verdict: str) -> None:
    result = plan(accuracy.vllm_request(experts_awq(intermediate)), offers=False)
    assert result.verdict == verdict
    if verdict == "DoesNotFit":
        assert (
            "360 inputs of the experts' output (down_proj) a rank, no multiple of the quantization group 32"
            in result.reasons[0]
        )


def test_dense_layers_keep_the_whole_group() -> None:
    row = experts_awq(1408)
    odd = {**row, "config": {**row["config"], "shared_expert_intermediate_size": 5696}}
    assert plan(accuracy.vllm_request(odd), offers=False).verdict is Verdict.DOES_NOT_FIT


def failed(number: int) -> PlanRequest:
    """Return the starts that died of memory or of the wrong arguments, as requests."""
    llama = parse_config(LMDEPLOY[0]["config"])
    small = parse_config(next(row["config"] for row in LMDEPLOY if row["model"] == "1b5"))
    latent = parse_config(next(row["config"] for row in VLLM if row["model"] == "mla6"))
    gpu = GpuFacts("NVIDIA-H200", 150_109_880_320, (9, 0))
    lmdeploy = PlanRequest(small, Engine.LMDEPLOY, "0.18.0", gpu, memory_percent=80)
    vllm = PlanRequest(llama, Engine.VLLM, "0.26.0", gpu)
    return [
        replace(lmdeploy, tensor=2),
        replace(lmdeploy, tensor=2, backend=Backend.PYTORCH),
        replace(lmdeploy, kv_quantization=KVQuantization.FP8, memory_percent=5),
        replace(lmdeploy, shape=latent),
        replace(lmdeploy, shape=shape("llama-3.1-405b"), memory_percent=80),
        # No room for a KV cache: other processes left 16 GiB for 14.4 GiB of weights.
        replace(lmdeploy, shape=llama, backend=Backend.PYTORCH, gpu=replace(gpu, memory_bytes=16 * GIB)),
        replace(vllm, gpu_memory_utilization=0.05),
        replace(vllm, shape=small, tensor=2, gpu_memory_utilization=0.05),
        replace(vllm, context_length=65_536),
        replace(vllm, tensor=3, gpu=replace(gpu, count=4)),
    ][number]


@pytest.mark.parametrize("number", range(10))
def test_what_died_is_never_said_to_fit(number: int) -> None:
    result = plan(failed(number))
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert result.reasons


def test_every_memory_failure_of_the_engines_is_among_the_cases_above() -> None:
    names = json.loads((accuracy.HERE / "data" / "failures.json").read_text())
    assert {name for name, kind in names.items() if kind == "memory or arguments"} == {
        "f-tp2-tm", "f-tp2-pt", "f-q16-tm", "f-fallback-hf", "f-nokv-pt", "f-oom-load", "f-u005", "f-tp2",
    }  # fmt: skip


def test_internlm2_5_7b_is_14_4_gib_and_4_9_gb_after_awq() -> None:
    whole = request("internlm2_5-7b-chat")
    assert weight_bytes(whole, 1).total == 15_475_417_088
    assert round(weight_bytes(whole, 1).total / GIB, 2) == 14.41
    awq = replace(whole, weight_quantization=WeightQuantization(), backend=Backend.PYTORCH)
    assert round(weight_bytes(awq, 1).total / GIB, 2) == 4.79
    assert abs(weight_bytes(awq, 1).total / 5_142_749_184 - 1) < 0.001  # the file that auto_awq wrote
    assert round(weight_bytes(replace(awq, backend=Backend.TURBOMIND), 1).total / GIB, 3) == 4.866


@pytest.mark.parametrize(
    ("model", "awq", "tensor", "turbomind", "pytorch"),
    [
        ("internlm2_5-7b-chat", False, 2, 7.207, 7.913),
        ("qwq-32b", False, 1, 61.027, 61.027),
        ("qwq-32b", False, 2, 30.514, 31.965),
        ("qwq-32b", False, 4, 15.258, 17.433),
        ("qwq-32b", True, 2, 9.172, 10.451),
    ],
)
def test_weights_per_rank(model: str, awq: bool, tensor: int, turbomind: float, pytorch: float) -> None:
    given = request(model, weight_quantization=WeightQuantization() if awq else None)
    assert weight_bytes(given, tensor).tensors / GIB == pytest.approx(turbomind, abs=0.0006)
    assert weight_bytes(replace(given, backend=Backend.PYTORCH), tensor).tensors / GIB == pytest.approx(
        pytorch, abs=0.0006
    )
    if not awq:
        vllm = request(model, Engine.VLLM)
        assert weight_bytes(vllm, tensor).tensors / GIB == pytest.approx(turbomind, abs=0.0015)


@pytest.mark.parametrize(
    ("model", "file_bytes"),
    [("gpt-oss-20b", 13_761_264_768), ("gpt-oss-120b", 65_248_815_744)],
)
def test_weights_of_published_quantized_checkpoints_equal_their_index(model: str, file_bytes: int) -> None:
    given = request(model, backend=Backend.PYTORCH)
    assert weight_bytes(given, 1).total == file_bytes


def test_int4_kv_holds_3_76_times_the_tokens_in_the_same_bytes() -> None:
    gpu = gpu_by_name("NVIDIA-H200")
    full = plan(request(gpu=gpu, kv_quantization=KVQuantization.NONE)).plan
    int4 = plan(request(gpu=gpu, kv_quantization=KVQuantization.INT4)).plan
    assert full is not None
    assert int4 is not None
    assert full.kv_bytes_per_token / int4.kv_bytes_per_token == 512 / 136
    assert int4.kv_bytes_per_gpu == full.kv_bytes_per_gpu
    assert int4.kv_tokens / full.kv_tokens == pytest.approx(512 / 136, rel=0.01)


@pytest.mark.parametrize(
    ("quantization", "turbomind", "vllm"),
    [
        (KVQuantization.NONE, 131_072, 131_072),
        (KVQuantization.INT8, 67_584, 67_584),
        (KVQuantization.INT4, 34_816, 34_816),
    ],
)
def test_kv_bytes_per_token(quantization: KVQuantization, turbomind: int, vllm: int) -> None:
    gpu = gpu_by_name("NVIDIA-H200")
    for engine, expected in ((Engine.LMDEPLOY, turbomind), (Engine.VLLM, vllm)):
        found = plan(request(engine=engine, gpu=gpu, kv_quantization=quantization)).plan
        assert found is not None
        assert found.kv_bytes_per_token == expected


@pytest.mark.parametrize("engine", [Engine.LMDEPLOY, Engine.VLLM])
def test_qwq_32b_fits_two_cards_of_48_gb_and_not_one(engine: Engine) -> None:
    two = plan(request("qwq-32b", engine, gpu=gpu_by_name("NVIDIA-RTX-A6000", 2)))
    assert two.verdict is Verdict.FITS
    assert two.plan is not None
    assert two.plan.tensor == 2
    assert two.plan.kv_tokens == pytest.approx(1e5, rel=0.1)
    one = plan(request("qwq-32b", engine, gpu=gpu_by_name("NVIDIA-RTX-A6000", 1)))
    assert one.verdict is Verdict.DOES_NOT_FIT
    assert any("weightQuantization" in offer.change for offer in one.counter_offers)


@pytest.mark.parametrize(("engine", "held"), [(Engine.VLLM, 106_272), (Engine.LMDEPLOY, 109_568)])
def test_qwq_32b_on_two_cards_of_48_gb_holds_what_it_held(engine: Engine, held: int) -> None:
    """As examples/qwq-32b-tp2.yaml says, on two H200 of which other processes held all but an A6000's memory."""
    cards = replace(gpu_by_name("NVIDIA-RTX-A6000", 2), product="NVIDIA-H200")
    given = request("qwq-32b", engine, gpu=cards, tensor=2, memory_percent=85, context_length=32_768)
    found = plan(given).plan
    assert found is not None
    assert found.kv_tokens == held
