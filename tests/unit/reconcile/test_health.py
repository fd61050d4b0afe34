"""Engines that answer their health check and do not work; metrics as the engines print them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_operator.api.finding import Finding
from llm_operator.foreign import sample_sum
from llm_operator.reconcile.evaluate import evaluate, status_after
from llm_operator.reconcile.health import (
    NOT_SEEN_YET,
    SILENT_SECONDS,
    Sample,
    Seen,
    Vitals,
    followed,
    health,
    sample_of,
)
from llm_operator.reconcile.snapshot import Executed, Snapshot
from tests.support.build import NOW, pod, resource, serving
from tests.support.sources import AT, facts

PACE = 30.0
VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="demo"} 2.0
vllm:num_requests_running{engine="1",model_name="demo"} 1.0
vllm:num_requests_waiting{engine="0",model_name="demo"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="demo"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="demo"} 0.97
vllm:prompt_tokens_total{engine="0",model_name="demo"} 100.0
vllm:generation_tokens_total{engine="0",model_name="demo"} 23.0
"""
LMDEPLOY = """lmdeploy:num_requests_running{model_name="demo"} 3.0
lmdeploy:num_requests_waiting{model_name="demo"} 1.0
lmdeploy:num_api_requests_waiting{model_name="demo"} 2.0
lmdeploy:gpu_cache_usage_perc{model_name="demo"} 0.5
lmdeploy:prompt_tokens_total{model_name="demo"} 1e2
lmdeploy:generation_tokens_total{model_name="demo"} 5.0
"""


def course(samples: list[Sample]) -> Vitals:
    vitals = None
    for sample in samples:
        vitals = followed(vitals, sample)
    assert vitals is not None
    return vitals


def looks(
    seconds: float, running: float = 1, waiting: list[float] | float = 0, tokens: float = 0, kv: float = 0.5
) -> list[Sample]:
    """A look every half minute; `tokens` come between two."""
    count = int(seconds / PACE) + 1
    queue = waiting if isinstance(waiting, list) else [waiting] * count
    return [Sample(step * PACE, running, queue[step], 100 + step * tokens, kv) for step in range(count)]


def verdict(samples: list[Sample]) -> tuple[str, str]:
    found = health([Seen("demo-1", course(samples))])
    return found.status, found.reason


def test_the_metrics_of_both_engines_are_read() -> None:
    assert sample_of("VLLM", VLLM, 7.0) == Sample(7.0, 3.0, 4.0, 123.0, 0.97)
    assert sample_of("LMDeploy", LMDEPLOY, 7.0) == Sample(7.0, 3.0, 3.0, 105.0, 0.5)


@pytest.mark.parametrize("text", ["", "<html>", "vllm:num_requests_running 1.0\n", VLLM.replace("generation", "other")])
def test_an_answer_without_what_counts_tells_nothing(text: str) -> None:
    assert sample_of("VLLM", text, 7.0) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 1\na 2.5 1700000000\nab 7\n", 3.5),
        ('a{x="} 9"} 2\n', 2.0),
        ("a NaN\na +Inf\n", None),
        ("a 1\na 2", 1.0),
        ("a\na \na x\n", None),
        ("a{" + "x" * 9000 + "} 1\n", None),
    ],
)
def test_samples_are_summed_up(text: str, expected: float | None) -> None:
    assert sample_sum(text, "a") == expected


@given(st.text(max_size=200))
def test_any_answer_is_read(text: str) -> None:
    sample_of("VLLM", f"vllm:num_requests_running{text}\nvllm:generation_tokens_total{text}\n", 0.0)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (looks(SILENT_SECONDS), ("False", "EngineSilent")),
        (looks(SILENT_SECONDS - PACE), ("True", "EnginesWork")),
        (looks(SILENT_SECONDS * 3, tokens=1), ("True", "EnginesWork")),
        (looks(SILENT_SECONDS * 3, running=0), ("True", "EnginesWork")),
        (
            looks(SILENT_SECONDS, tokens=5, waiting=[float(step) for step in range(1, 12)], kv=1.0),
            ("False", "QueueGrowing"),
        ),
        (
            looks(SILENT_SECONDS, tokens=5, waiting=[float(step) for step in range(1, 12)], kv=0.8),
            ("True", "EnginesWork"),
        ),
        (looks(SILENT_SECONDS, tokens=5, waiting=[9, 8, 7, 6, 5, 4, 3, 2, 1, 2, 3], kv=1.0), ("True", "EnginesWork")),
        (looks(SILENT_SECONDS, tokens=5, waiting=5.0, kv=1.0), ("True", "EnginesWork")),
    ],
)
def test_what_is_wrong_follows_from_how_the_numbers_change(samples: list[Sample], expected: tuple[str, str]) -> None:
    assert verdict(samples) == expected


def test_tokens_end_the_trouble_and_a_restarted_engine_begins_anew() -> None:
    silent = looks(SILENT_SECONDS)
    assert verdict([*silent, Sample(SILENT_SECONDS + PACE, 1, 0, 101, 0.5)]) == ("True", "EnginesWork")
    assert verdict([*silent, Sample(SILENT_SECONDS + PACE, 1, 0, 0, 0.5)]) == ("True", "EnginesWork")


def test_the_words_last_as_long_as_the_trouble() -> None:
    told = {
        health([Seen("demo-1", course(looks(seconds)))]).message for seconds in (SILENT_SECONDS, SILENT_SECONDS * 4)
    }
    (words,) = told
    assert "1970-01-01T00:00:00Z" in words
    assert "demo-1" in words


def test_what_is_wrong_outweighs_what_is_not_seen() -> None:
    well, silent = Seen("a", course(looks(0))), Seen("c", course(looks(SILENT_SECONDS)))
    closed = Seen("b", closed="the metrics do not answer")
    assert health([well, closed, silent]).reason == "EngineSilent"
    assert health([well, closed]) == Finding(
        "Healthy", "Unknown", "MetricsClosed", "not seen: the metrics do not answer (pod b)"
    )
    assert health([]).reason == "NoReadyReplica"


def test_what_was_not_looked_at_yet_is_said_so() -> None:
    assert health([Seen("demo-1")]).reason == NOT_SEEN_YET


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ("EngineSilent", "EngineSilent"),
        ("MetricsClosed", "MetricsClosed"),
        ("EnginesWork", "EnginesWork"),
        ("NoReadyReplica", NOT_SEEN_YET),
        (None, NOT_SEEN_YET),
    ],
)
def test_a_restarted_operator_keeps_what_was_told_until_it_has_looked(shown: str | None, told: str) -> None:
    """Else each restart would write twice. A wiped status costs no more than the words."""
    of = resource()
    ready = pod(of, ready=True, running=True, started_at=NOW)
    snapshot = Snapshot(of, replace(serving(of), pods=(ready,)), facts(of))
    outcome = evaluate(snapshot, AT)
    status = status_after(snapshot, outcome, Executed(outcome.decision), None, NOW)
    assert status_after(snapshot, outcome, Executed(outcome.decision), status, NOW) == status
    conditions = [
        one.model_copy(update={"reason": shown, "status": "Unknown"}) if one.type == "Healthy" else one
        for one in status.conditions
        if one.type != "Healthy" or shown is not None
    ]
    before = status.model_copy(update={"conditions": conditions})
    after = status_after(snapshot, outcome, Executed(outcome.decision), before, NOW)
    assert [one.reason for one in after.conditions if one.type == "Healthy"] == [told]
