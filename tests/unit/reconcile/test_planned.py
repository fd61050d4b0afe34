"""From a spec to what the planner is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_operator.models import parse_config
from llm_operator.planning import PlanRequest, gpu_by_name, plan
from llm_operator.reconcile.planned import request_from_spec
from tests.unit.reconcile.build import resource

CONFIGS = Path(__file__).parents[1] / "models" / "configs"
SHAPE = parse_config(json.loads((CONFIGS / "llama-3.1-8b.json").read_text()))


def request(engine: str, *words: str, **spec: Any) -> PlanRequest:
    of = resource(engine={"type": engine, "extraArgs": list(words)}, **spec)
    return request_from_spec(of.spec, SHAPE, gpu_by_name("NVIDIA-RTX-A6000"))


@pytest.mark.parametrize(
    ("engine", "words", "tokens"),
    [
        ("VLLM", [], None),
        ("VLLM", ["--max-num-batched-tokens", "512"], 512),
        ("VLLM", ["--max-num-batched-tokens=4K"], 4096),
        ("VLLM", ["--max-num-batched-tokens", "0"], None),
        ("VLLM", ["--disable-chunked-prefill"], 131_072),
        ("VLLM", ["--disable-chunked-prefill", "--max-num-batched-tokens", "512"], 512),
        ("LMDeploy", ["--max-prefill-token-num", "4096"], 4096),
        ("LMDeploy", ["--max-num-batched-tokens", "4096"], None),
    ],
)
def test_prefill_tokens_are_what_the_engine_will_have(engine: str, words: list[str], tokens: int | None) -> None:
    assert request(engine, *words).max_batched_tokens == tokens


def test_without_chunked_prefill_the_context_counts() -> None:
    assert request("VLLM", "--disable-chunked-prefill", contextLength=8192).max_batched_tokens == 8192
    assert request("VLLM", "--disable-chunked-prefill", contextLength=1024).max_batched_tokens == 2048, "the default"


def test_a_plan_counts_on_no_more_sequences_than_tokens() -> None:
    settings = plan(request("VLLM", "--max-num-batched-tokens", "100")).plan
    assert settings is not None
    assert settings.max_concurrent_requests <= 100
    assert settings.settings.vllm_max_sequences is None, "vLLM lowers its default to the tokens by itself"
    short = plan(request("VLLM", "--max-num-batched-tokens", "100", contextLength=16)).plan
    assert short is not None
    assert short.max_concurrent_requests == 100
