"""What vLLM keeps and loads for speculative decoding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.engines.registry import engine_of
from llm_operator.engines.vllm.drafts import draft_layer
from llm_operator.memory.types import GIB, Draft
from llm_operator.planning import KVQuantization, gpu_by_name, plan
from llm_operator.planning.kv_cache import allocate
from tests.support.engine_names import Engine
from tests.support.objects import llm
from tests.support.planning import request

OWN = Draft(3, own_layer=True, other_model=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], None),
        (["--speculative-config", '{"method": "mtp", "num_speculative_tokens": 3}'], OWN),
        (['--speculative-config={"method": "qwen3_next_mtp", "num_speculative_tokens": 3}'], OWN),
        (["-sc", '{"method": "ngram", "num_speculative_tokens": 5}'], Draft(5, own_layer=False, other_model=False)),
        (
            ["--speculative-config", '{"model": "org/eagle", "num_speculative_tokens": 2}'],
            Draft(2, own_layer=False, other_model=True),
        ),
        *((["--speculative-config", text], None) for text in ("{", "[]", "{}", "null", "7", "[" * 500)),
        *(
            (["--speculative-config", f'{{"method": "mtp", "num_speculative_tokens": {number}}}'], None)
            for number in ("0", "-1", "1.5", "true", '"3"', "9" * 400, "null")
        ),
        (["--speculative-config"], None),
    ],
)
def test_the_draft_is_read_from_the_arguments(arguments: list[str], expected: Draft | None) -> None:
    spec = LLMDeployment.parse(llm("demo", engine={"type": "VLLM", "extraArgs": arguments})).spec
    assert engine_of("VLLM").draft(spec) == expected
    assert engine_of("LMDeploy").draft(spec) is None


@pytest.mark.parametrize("blocks", [424, 426])
def test_blocks_and_tokens_are_those_of_two_starts(blocks: int) -> None:
    """Qwen3.6-27B on two RTX 3090, requests of 262,144 tokens: a start with MTP of 3 logged 620,944.

    Another logged 623,873 and 11.08 GiB, without saying whether anything was proposed: without a draft 11 % more fit.
    """
    given: dict[str, Any] = {"gpu": gpu_by_name("NVIDIA-GeForce-RTX-3090", 2), "kv_quantization": KVQuantization.FP8}
    asked = replace(request("qwen3.5-27b", Engine.VLLM, **given), draft=OWN)
    made = allocate(asked, 2, blocks * 27_852_800, 262_144, 8192)
    assert (made.blocks, made.tokens) == (blocks, {424: 620_944, 426: 623_873}[blocks])


def test_a_draft_leaves_fewer_tokens_and_its_layer_is_counted() -> None:
    plain = request("deepseek-v3", Engine.VLLM, gpu=gpu_by_name("NVIDIA-H200", 8), tensor=8)
    without, with_draft = plan(plain).plan, plan(replace(plain, draft=OWN)).plan
    assert without is not None
    assert with_draft is not None
    assert with_draft.kv_tokens < without.kv_tokens
    (layer,) = draft_layer(replace(plain, draft=OWN), 8)
    # DeepSeek V3's files hold 11.5 billion parameters in it, embedding and head not counted: FP8, an eighth a rank,
    # and the matrix that joins two hidden states whole on each, in 16 bit.
    assert layer.likely / GIB == pytest.approx((11.5e9 / 8 + 4 * 7168**2) / GIB, rel=0.05)
    assert layer.likely < layer.high


def test_a_draft_model_is_said_not_to_be_counted() -> None:
    asked = replace(request("qwen3-8b", Engine.VLLM, gpu=gpu_by_name("NVIDIA-H200", 1)), draft=Draft(2, False, True))
    assert any("draft model" in note for note in plan(asked).reasons)
