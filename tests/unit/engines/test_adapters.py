"""What vLLM reads as an adapter, and the room that it sets aside for adapters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.engines.arguments import is_adapter
from llm_operator.engines.registry import engine_of
from llm_operator.engines.vllm.adapters import adapter_slots
from llm_operator.memory.types import MIB, Adapters
from llm_operator.planning import plan
from tests.support.engine_names import Engine
from tests.support.objects import llm
from tests.support.planning import request


@pytest.mark.parametrize("value", ["sql=/adapters/sql", "sql=org/sql", '{"name": "sql", "path": "/adapters/sql"}', ""])
def test_adapters(value: str) -> None:
    assert is_adapter(value)


@pytest.mark.parametrize(
    "value", ["a", "a=b=c", "{}", "[]", '{"name": "sql"}', '{"name": "s", "path": "p", "x": 1}', "a,b=c"]
)
def test_no_adapters(value: str) -> None:
    assert not is_adapter(value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], None),
        (["--max-loras=4"], None),
        (["--enable-lora"], Adapters(1, 16)),
        (["--enable-lora", "--max-loras", "4", "--max-lora-rank=64"], Adapters(4, 64)),
        (["--enable-lora", "--max-loras=1k"], Adapters(1000, 16)),
    ],
)
def test_the_room_for_adapters_is_read_from_the_arguments(arguments: list[str], expected: Adapters | None) -> None:
    spec = LLMDeployment.parse(llm("demo", engine={"type": "VLLM", "extraArgs": arguments})).spec
    assert engine_of("VLLM").adapters(spec) == expected
    assert engine_of("LMDeploy").adapters(spec) is None


@pytest.mark.parametrize(("slots", "rank", "measured"), [(1, 16, 104), (4, 64, 1455)])
def test_slots_take_what_was_measured(slots: int, rank: int, measured: int) -> None:
    """Llama 3.1 8B on vLLM 0.26.0 and one H200, whose weights are logged to 10 MiB."""
    given = replace(request("llama-3.1-8b", Engine.VLLM), adapters=Adapters(slots, rank))
    (slot,) = adapter_slots(given, 1)
    assert slot.likely == pytest.approx(measured * MIB, abs=40 * MIB)
    assert slot.high >= measured * MIB


def test_adapters_leave_less_for_the_cache_on_each_of_several_gpus() -> None:
    given = replace(request("llama-3.1-8b", Engine.VLLM), tensor=2)
    without, beside = plan(given).plan, plan(replace(given, adapters=Adapters(8, 128))).plan
    assert without is not None
    assert beside is not None
    assert beside.kv_tokens < without.kv_tokens
    assert adapter_slots(replace(given, adapters=Adapters(8, 128)), 1)[0].likely < 2 * (
        adapter_slots(replace(given, adapters=Adapters(8, 128)), 2)[0].likely
    )
