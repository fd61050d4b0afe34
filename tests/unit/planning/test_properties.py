"""What holds for every request: monotone in memory and in the cache's format, deterministic, offers that hold."""

from __future__ import annotations

import builtins
import re
import socket
import time
from copy import deepcopy
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llm_operator.models import ModelConfigError, ModelShape, Role, parse_config
from llm_operator.planning import KVQuantization, PlanRequest, Verdict, WeightQuantization, compare, plan
from llm_operator.planning.parallel import objections
from tests.support.engine_names import Backend, Engine
from tests.support.planning import CONFIGS, ENGINES, VERSIONS, card, config, request, shape

# Many requests do not fit and are passed over, and the machine may be busy: neither says anything of the planner.
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
SHAPES: dict[str, ModelShape] = {path.stem: shape(path.stem) for path in sorted(CONFIGS.glob("*.json"))}


@st.composite
def requests(draw: st.DrawFn) -> PlanRequest:
    engine, backend = draw(st.sampled_from(ENGINES))
    count = draw(st.sampled_from([1, 2, 3, 4, 6, 8]))
    return PlanRequest(
        shape=SHAPES[draw(st.sampled_from(sorted(SHAPES)))],
        engine=engine,
        backend=backend,
        version=VERSIONS[engine],
        gpu=card(
            draw(st.integers(4, 200)), count, draw(st.sampled_from([(7, 0), (8, 0), (8, 6), (8, 9), (9, 0), None]))
        ),
        tensor=draw(st.none() | st.integers(1, 8)),
        kv_quantization=draw(st.sampled_from(list(KVQuantization))),
        memory_percent=draw(st.none() | st.integers(1, 99)),
        context_length=draw(st.none() | st.sampled_from([2048, 5000, 8192, 32768])),
        max_concurrent_sequences=draw(st.none() | st.integers(1, 512)),
        weight_quantization=draw(st.sampled_from([None, None, WeightQuantization()])),
    )


@SETTINGS
@given(requests(), st.integers(1, 120))
def test_more_memory_never_means_fewer_tokens(request: PlanRequest, more: int) -> None:
    first = plan(request, offers=False)
    assume(first.verdict is Verdict.FITS and first.plan is not None)
    assert first.plan is not None
    larger = replace(request.gpu, memory_bytes=request.gpu.memory_bytes + (more << 30))
    second = plan(replace(request, gpu=larger, tensor=first.plan.tensor), offers=False)
    assert second.verdict is Verdict.FITS
    assert second.plan is not None
    assert second.plan.kv_tokens >= first.plan.kv_tokens
    assert second.plan.kv_tokens_low >= first.plan.kv_tokens_low


@SETTINGS
@given(requests())
def test_a_tighter_cache_never_means_fewer_tokens(request: PlanRequest) -> None:
    ordered = [KVQuantization.NONE, KVQuantization.INT8, KVQuantization.INT4]
    found = [plan(replace(request, kv_quantization=how), offers=False) for how in ordered]
    tokens = [result.plan.kv_tokens for result in found if result.verdict is Verdict.FITS and result.plan is not None]
    tensors = {result.plan.tensor for result in found if result.plan is not None}
    assume(len(tensors) == 1)
    # A block of a model with states holds a whole state: vLLM rounds its tokens up, and less of a small cache is used.
    assume(not request.shape.states)
    assert tokens == sorted(tokens)


@SETTINGS
@given(requests())
def test_what_is_planned_divides_the_model(request: PlanRequest) -> None:
    result = plan(request, offers=False)
    if result.verdict is Verdict.FITS:
        assert result.plan is not None
        assert not objections(request, result.plan.tensor)
        assert request.shape.heads % result.plan.tensor == 0
        assert result.plan.tensor <= request.gpu.count


@SETTINGS
@given(requests())
def test_every_counter_offer_fits_when_it_is_planned(request: PlanRequest) -> None:
    result = plan(request)
    assert result.verdict is Verdict.DOES_NOT_FIT or not result.counter_offers
    for offer in result.counter_offers:
        assert offer.change
        again = plan(offer.request)
        assert again.verdict is Verdict.FITS
        assert again.plan == offer.plan


@SETTINGS
@given(requests())
def test_a_plan_stays_inside_the_card_and_its_numbers_agree(request: PlanRequest) -> None:
    result = plan(request, offers=False)
    assume(result.verdict is Verdict.FITS and result.plan is not None)
    got = result.plan
    assert got is not None
    assert got.weight_bytes_per_gpu + got.kv_bytes_per_gpu < got.gpu_memory_bytes
    assert 0 <= got.kv_tokens_low <= got.kv_tokens
    assert got.max_concurrent_requests >= 1
    assert got.context_length <= (request.context_length or request.shape.context_length)
    assert request.tensor is None or got.tensor == request.tensor


@SETTINGS
@given(requests())
def test_planning_twice_gives_the_same(request: PlanRequest) -> None:
    assert plan(request) == plan(request)


def test_planning_reads_no_clock_no_network_and_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    request = PlanRequest(SHAPES["qwq-32b"], Engine.VLLM, "0.33.0", card(24, 2), Backend.TURBOMIND)
    expected = plan(request)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the planner reached outside")

    with monkeypatch.context() as patched:
        for name in ("time", "monotonic", "perf_counter", "time_ns"):
            patched.setattr(time, name, refuse)
        patched.setattr(socket, "socket", refuse)
        patched.setattr(builtins, "open", refuse)
        again = plan(request)
    assert again == expected


@SETTINGS
@given(requests())
def test_the_best_of_a_comparison_fits_on_the_fewest_gpus(request: PlanRequest) -> None:
    cells = compare(replace(request, weight_quantization=None, tensor=None))
    best = [cell for cell in cells if cell.best]
    fitting = [cell for cell in cells if cell.result.verdict is Verdict.FITS]
    assert len(best) == (1 if fitting else 0)
    assert all(cell.tensor >= best[0].tensor for cell in fitting)


# Roles of one word are words of the language; the others are names that nobody but the code knows.
INTERNAL = re.compile(r"\b(?:" + "|".join(role.value for role in Role if not role.value.istitle()) + r")\b")


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.json")))
def test_reasons_name_nothing_that_only_the_code_knows(name: str) -> None:
    """Names of roles, kinds and classes of this project are no words for people."""
    for (engine, backend), tensor in product(ENGINES, (None, 3, 7, 16, 64)):
        given = request(name, engine, backend, card(24, 8, (8, 6)), tensor=tensor)
        result = plan(given)
        shown = " ".join(result.reasons)
        assert not INTERNAL.search(shown), shown
        assert not re.search(r"<[A-Za-z]|\bRole\b|object at 0x|Traceback", shown), shown


# What a broken or hostile config.json has in the place of a value.
WRONG: list[Any] = [
    *(None, True, -1, 0, 1, 3, 10**6, 2**63, 10**40, -(10**40), 1.5, float("nan"), float("inf")),
    *("", "x", "4096", "a" * 300, [], [1], [[]], ["a"], [None], [0] * 5000, {}, {"a": {"b": {}}}, {"AutoConfig": 3}),
    *({"type": "yarn", "factor": float("nan")}, {"quant_method": ["awq"]}, {"quant_method": "awq", "bits": "4"}),
    *({"quant_method": "gptq", "bits": 4, "group_size": size} for size in (0, -5, 10**30)),
    *({"quant_method": "fp8", "weight_block_size": block} for block in ([0, 0], [1, 10**20], [128], "128")),
    {"quant_method": "compressed-tensors", "config_groups": []},
    {"quant_method": "compressed-tensors", "config_groups": {"a": 1}},
    {"quant_method": "compressed-tensors", "config_groups": {"a": {}}},
    {"quant_method": "modelopt", "quantization": {"quant_algo": "NVFP4", "group_size": 3}},
]
PLACES = ("quantization_config", "compression_config", "auto_map", "text_config", "llm_config", "thinker_config")


def _read(values: dict[str, Any]) -> ModelShape | str:
    try:
        return parse_config(values)
    except ModelConfigError as error:
        return str(error)


@settings(SETTINGS, max_examples=400)
@given(st.data())
def test_a_broken_configuration_is_told_in_words(data: st.DataObject) -> None:
    values = config(data.draw(st.sampled_from(sorted(SHAPES))))
    for _ in range(data.draw(st.integers(1, 2))):
        parts = [values, *(value for value in values.values() if isinstance(value, dict))]
        part = parts[data.draw(st.integers(0, len(parts) - 1))]
        part[data.draw(st.sampled_from((*sorted(part), *PLACES)))] = deepcopy(data.draw(st.sampled_from(WRONG)))
    found = _read(values)
    if isinstance(found, str):
        assert 10 < len(found) < 1000
        return
    for engine, backend in ENGINES:
        word = data.draw(st.sampled_from(["Auto", "AWQ", "FP8"]))
        result = plan(PlanRequest(found, engine, VERSIONS[engine], card(80, 8, (9, 0)), backend, weight_format=word))
        assert result.reasons
        assert all(offer.plan.context_length <= found.context_length for offer in result.counter_offers)


@pytest.mark.parametrize(("engine", "backend"), ENGINES)
def test_a_model_without_a_layer_of_attention_has_no_offers(engine: Engine, backend: Backend) -> None:
    found = parse_config({**config("lfm2-1.2b"), "full_attn_idxs": [], "layer_types": None})
    result = plan(PlanRequest(found, engine, VERSIONS[engine], card(80, 8, (9, 0)), backend))
    assert result.verdict is not Verdict.FITS
    assert result.counter_offers == ()
