"""DeepSeek V4: windows, compressed latents and partial sums, as vLLM lays them out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llm_operator.models import parse_config
from llm_operator.planning import GpuFacts, KVQuantization, PlanRequest, Verdict, plan
from llm_operator.planning.kv_cache import allocate
from tests.support.engine_names import Engine
from tests.support.planning import GIB

FLASH = json.loads((Path(__file__).parents[1] / "models" / "field" / "deepseek-v4-flash.json").read_text())
H200 = GpuFacts("NVIDIA-H200", 150_109_880_320, (9, 0), 4)


def asked(version: str = "0.22.0", **config: object) -> PlanRequest:
    return PlanRequest(parse_config(FLASH | config), Engine.VLLM, version, H200, tensor=4)


@pytest.mark.parametrize(
    ("gib", "context", "fits"), [(6.67, 30_000, True), (6.65, 30_000, False), (5.44, 13_529, False)]
)
def test_a_context_needs_what_vllm_said(gib: float, context: int, fits: bool) -> None:
    held = allocate(asked(), 2, int(gib * GIB), context, 16_384)
    assert (held.tokens >= context) is fits


def test_blocks_are_narrower_since_0_33() -> None:
    older, newer = (allocate(asked(version), 4, 20 * GIB, 100_000, 8192) for version in ("0.26.0", "0.33.0"))
    assert (older.block_bytes, newer.block_bytes) == (1_051_776, 1_002_240)


def test_a_larger_context_never_needs_less() -> None:
    held = [allocate(asked(), 4, 20 * GIB, context, 8192).tokens for context in (1000, 10_000, 100_000, 1_000_000)]
    assert held == sorted(held)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gpu": replace(H200, compute_capability=(8, 0))}, "has no attention for DeepseekV4ForCausalLM"),
        ({"kv_quantization": KVQuantization.INT8}, "keeps a latent"),
    ],
)
def test_what_vllm_refuses(change: dict[str, object], reason: str) -> None:
    result = plan(replace(asked(), **change))  # type: ignore[arg-type]
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert reason in " ".join(result.reasons)


def test_other_rates_are_refused() -> None:
    result = plan(asked(compress_ratios=[4, 64] * 21 + [4], layer_types=None))
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert "compresses 4 or 128 tokens" in " ".join(result.reasons)


@pytest.mark.parametrize(
    "given",
    [
        replace(asked(), hybrid_cache=False),
        replace(asked(), engine=Engine.LMDEPLOY, version="0.18.0", backend="PyTorch"),
    ],
)
def test_what_is_not_known_blocks_nothing(given: PlanRequest) -> None:
    result = plan(given)
    assert result.verdict is Verdict.UNKNOWN
    assert result.plan is None
