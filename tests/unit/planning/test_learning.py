"""What running engines measured: plans come nearer to what is true, never further away; texts are read or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llm_operator.memory.calibration import (
    MOST_RECORDS,
    MOST_STARTS,
    NOTHING_LEARNED,
    Calibration,
    Record,
    StartKind,
)
from llm_operator.planning import (
    PlanInputError,
    PlanRequest,
    Verdict,
    calibration_text,
    learned_from,
    plan,
    read_calibration,
)
from llm_operator.planning.estimate import estimate, kind_of
from llm_operator.planning.learning import MOST_EXTRA
from tests.support.engine_names import Engine
from tests.support.planning import ENGINES, VERSIONS, card, shape
from tests.unit.planning.test_properties import SETTINGS, SHAPES

MIB = 1 << 20
KIND = StartKind("LMDeploy", "PyTorch", "0.18", "LlamaForCausalLM", "", "NVIDIA-L40S", 1, 16 << 30)


@st.composite
def starts(draw: st.DrawFn) -> PlanRequest:
    engine, backend = draw(st.sampled_from(ENGINES))
    own: dict[str, Any] = {"memory_percent": draw(st.integers(20, 90))}
    if engine is Engine.VLLM:
        own = {"gpu_memory_utilization": draw(st.integers(50, 95)) / 100}
    return PlanRequest(
        shape=SHAPES[draw(st.sampled_from(sorted(SHAPES)))],
        engine=engine,
        backend=backend,
        version=VERSIONS[engine],
        gpu=card(draw(st.integers(8, 200)), 8, (8, 9)),
        tensor=draw(st.sampled_from([1, 2, 4, 8])),
        context_length=draw(st.sampled_from([2048, 8192])),
        **own,
    )


def tokens_of(request: PlanRequest, extra: int) -> int:
    """What an engine holds whose overheads are beyond the constants by `extra`."""
    tensor = request.tensor or 1
    truth = Calibration((Record(kind_of(request, tensor), (extra,)),))
    return estimate(replace(request, calibration=truth if extra else NOTHING_LEARNED), tensor).likely.tokens


@SETTINGS
@given(starts(), st.integers(-1500, 3000), st.integers(20, 90))
def test_a_plan_with_what_was_learned_is_never_further_from_the_truth(
    request: PlanRequest, extra: int, share: int
) -> None:
    assume(plan(request, offers=False).verdict is Verdict.FITS)
    assume(abs(extra) * MIB <= request.gpu.memory_bytes // 4)  # beyond that nothing is learned
    held = tokens_of(request, extra * MIB)
    assume(held > 0)
    found = learned_from(request, request.tensor or 1, held)
    assert found is not None
    assert abs(found[1]) <= abs(extra * MIB)
    calibration = NOTHING_LEARNED.seen(*found)
    assert tokens_of(request, found[1]) == held
    other = replace(request, memory_percent=share)
    if request.gpu_memory_utilization is not None:
        other = replace(request, gpu_memory_utilization=share / 100)
    tensor = request.tensor or 1
    learned = estimate(replace(other, calibration=calibration), tensor)
    plain, truth = estimate(other, tensor), tokens_of(other, extra * MIB)
    assert abs(learned.likely.tokens - truth) <= abs(plain.likely.tokens - truth)
    assert min(learned.low.tokens, learned.likely.tokens) <= max(plain.low.tokens, truth)
    assert learned.low.tokens <= plain.low.tokens


@st.composite
def free_starts(draw: st.DrawFn) -> PlanRequest:
    """Starts whose share the plan chooses, on cards that are nearly full, or of vLLM with a share of the total."""
    engine, backend = draw(st.sampled_from(ENGINES))
    shared = engine is Engine.VLLM and draw(st.booleans())
    return PlanRequest(
        shape=SHAPES[
            draw(st.sampled_from(["llama-3.1-8b", "internlm2_5-7b-chat", "qwen1.5-moe-a2.7b", "llama-3.2-1b"]))
        ],
        engine=engine,
        backend=backend,
        version=VERSIONS[engine],
        gpu=card(draw(st.integers(6, 48)), 8, (8, 9)),
        tensor=draw(st.sampled_from([None, 1, 2])),
        context_length=draw(st.sampled_from([None, 8192])),
        gpu_memory_utilization=draw(st.integers(70, 95)) / 100 if shared else None,
    )


MOST = st.integers(-MOST_EXTRA, MOST_EXTRA) | st.sampled_from([-MOST_EXTRA, MOST_EXTRA, -2 << 30, -300 * MIB])


@SETTINGS
@given(
    free_starts(),
    st.lists(MOST, min_size=1, max_size=MOST_STARTS),
    st.sampled_from([{"product": "x"}, {"version": "9.9"}, {"quantization": "y"}]),
)
def test_no_record_whatever_it_says_makes_a_plan_worse(
    request: PlanRequest, extras: list[int], elsewhere: dict[str, Any]
) -> None:
    """Wrong, hostile, or of another card, version or model: what is rendered starts where the constants' plan does."""
    kinds = [kind_of(request, ranks) for ranks in (1, 2, 4, 8)]
    records = [Record(kind, tuple(extras)) for kind in (replace(kinds[0], **elsewhere), *kinds)]
    plain = plan(request, offers=False)
    assert plan(replace(request, calibration=Calibration((records[0],))), offers=False) == plain
    calibration = Calibration(tuple(records))
    learned = plan(replace(request, calibration=calibration), offers=False)
    assert plan(replace(request, calibration=read_calibration(calibration_text(calibration))), offers=False) == learned
    assert learned.verdict is plain.verdict
    if plain.verdict is not Verdict.FITS:
        return
    before, after = plain.plan, learned.plan
    assert before is not None
    assert after is not None
    assert after.kv_tokens_low <= before.kv_tokens_low or after.tensor > before.tensor
    assert after.tensor >= before.tensor
    if after.tensor == before.tensor:
        assert after.context_length <= before.context_length
        assert (after.memory_percent or 0) <= (before.memory_percent or 0)
        assert (after.settings.kv_cache_memory_bytes or 0) <= (before.settings.kv_cache_memory_bytes or 0)


def test_what_took_more_is_not_let_through_on_fewer_gpus() -> None:
    """Its cache is smaller, so that what vLLM allocates after it finds room on four cards, at the constants' edge."""
    request = PlanRequest(
        shape=SHAPES["qwen1.5-moe-a2.7b"],
        engine=Engine.VLLM,
        version=VERSIONS[Engine.VLLM],
        gpu=card(19, 8, (8, 9)),
        gpu_memory_utilization=0.91,
    )
    for ranks, verdict in ((None, Verdict.FITS), (4, Verdict.DOES_NOT_FIT)):
        asked = replace(request, tensor=ranks)
        learned = Calibration(tuple(Record(kind_of(asked, of), (14_982_185,)) for of in (1, 2, 4, 8)))
        found, plain = plan(replace(asked, calibration=learned), offers=False), plan(asked, offers=False)
        assert found.verdict is plain.verdict is verdict
        assert (found.plan and found.plan.tensor) == (plain.plan and plain.plan.tensor)


def test_what_was_measured_refuses_nothing_that_the_constants_let_through() -> None:
    request = PlanRequest(
        shape=shape("llama-3.1-8b"), engine="LMDeploy", backend="PyTorch", version="0.18.0", gpu=card(24)
    )
    plain = plan(request)
    learned = Calibration((Record(kind_of(request, 1), (8 << 30,)),))
    assert plain.verdict is Verdict.FITS
    assert plan(replace(request, calibration=learned)) == plain


def test_a_cache_in_bytes_teaches_nothing() -> None:
    request = PlanRequest(shape=shape("llama-3.1-8b"), engine="VLLM", version="0.33.0", gpu=card(48))
    found = plan(request).plan
    assert found is not None
    assert learned_from(request, 1, found.kv_tokens) is None


def test_tokens_that_nothing_explains_teach_nothing() -> None:
    request = PlanRequest(
        shape=shape("llama-3.1-8b"),
        engine="LMDeploy",
        backend="PyTorch",
        version="0.18.0",
        gpu=card(48),
        memory_percent=50,
    )
    for tokens in (1, 10**9):
        assert learned_from(request, 1, tokens) is None


def test_it_is_said_in_the_explanation() -> None:
    request = PlanRequest(
        shape=shape("llama-3.1-8b"),
        engine="LMDeploy",
        backend="PyTorch",
        version="0.18.0",
        gpu=card(48),
        memory_percent=50,
    )
    kind = kind_of(request, 1)
    learned = plan(replace(request, calibration=Calibration((Record(kind, (-300 * MIB, -280 * MIB)),)))).plan
    assert learned is not None
    assert "overhead beyond the constants: likely -293601280, at most 0 bytes [2 measured starts" in learned.explanation
    other = replace(request, version="0.17.0", calibration=Calibration((Record(kind, (-300 * MIB,)),)))
    elsewhere = plan(other).plan
    assert elsewhere is not None
    assert "beyond the constants" not in elsewhere.explanation


def test_one_start_beside_a_foreign_program_decides_nothing() -> None:
    calibration = NOTHING_LEARNED
    for extra in (100, 110, 4000, 90, 105):
        calibration = calibration.seen(KIND, extra)
    assert calibration.records[0].extra == 105
    for _ in range(2 * MOST_STARTS):
        calibration = calibration.seen(KIND, 7)
    assert calibration.records == (Record(KIND, (7,) * MOST_STARTS),)


def test_records_are_bounded_and_the_oldest_go() -> None:
    calibration = NOTHING_LEARNED
    for tensor in range(1, MOST_RECORDS + 10):
        calibration = calibration.seen(replace(KIND, tensor=tensor), tensor)
    assert len(calibration.records) == MOST_RECORDS
    assert calibration.records[0].kind.tensor == 10
    assert len(calibration_text(calibration)) < 100_000
    assert read_calibration(calibration_text(calibration)) == calibration


ROW: dict[str, Any] = json.loads(calibration_text(Calibration((Record(KIND, (1, -2)),))))[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{}", "list"),
        ("[1]", "record 0"),
        (json.dumps([ROW] * (MOST_RECORDS + 1)), "at most"),
        (json.dumps([ROW | {"tensor": True}]), "tensor"),
        (json.dumps([ROW | {"tensor": 0}]), "tensor"),
        (json.dumps([ROW | {"weight_bytes": 1 << 60}]), "weight_bytes"),
        (json.dumps([ROW | {"product": "x" * 300}]), "product"),
        (json.dumps([ROW | {"extras": []}]), "extras"),
        (json.dumps([ROW | {"extras": [1 << 40]}]), "extras"),
        (json.dumps([ROW, {**ROW, "more": 1}]), "record 1"),
        (" " * 300_000, "bytes"),
    ],
)
def test_a_broken_calibration_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(PlanInputError, match=said):
        read_calibration(text)
