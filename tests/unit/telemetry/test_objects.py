"""What a scrape says of each LLMDeployment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from llm_operator.live.pods import ContainerEnd
from llm_operator.telemetry import objects
from llm_operator.telemetry.objects import MAX_LABEL, ObjectsText, Served, _Family
from tests.support.build import pod, resource, serving

JSON = dict[str, Any]


def body(name: str = "qwen", spec: JSON | None = None, status: JSON | None = None) -> JSON:
    return {"metadata": {"namespace": "team", "name": name}, "spec": spec or {}, "status": status}


def scraped(*served: Served) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = ObjectsText(lambda: served).text().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset({"namespace": "team", "name": "qwen", **labels}.items())))


FULL = body(
    spec={
        "replicas": 3,
        "model": {"huggingFace": {"repository": "Qwen/QwQ-32B"}},
        "engine": {"type": "LMDeploy"},
        "kvCache": {"quantization": "Int8"},
    },
    status={
        "readyReplicas": 2,
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "SecretMissing"},
            {"type": "Stalled", "status": "True", "reason": "SecretMissing"},
        ],
        "engine": {"type": "LMDeploy", "backend": "TurboMind", "version": "0.18.0"},
        "plan": {"tensor": 2, "gpusPerReplica": 2, "kvTokens": 1000},
        "measured": {"kvTokens": 900, "secondsToReady": 45},
        "progress": {"stage": "Fetching", "bytes": 5, "totalBytes": 10},
    },
)


def test_conditions_name_the_object_its_status_and_its_reason() -> None:
    samples = scraped(Served(FULL))
    assert value(samples, "llmdeployment_condition", type="Ready", status="False", reason="SecretMissing") == 1
    assert value(samples, "llmdeployment_condition", type="Stalled", status="True", reason="SecretMissing") == 1
    assert sum(name == "llmdeployment_condition" for name, _ in samples) == 2


def test_info_says_what_is_served() -> None:
    labels = {"engine": "LMDeploy", "backend": "TurboMind", "version": "0.18.0", "tensor": "2"}
    assert value(scraped(Served(FULL)), "llmdeployment_info", model="Qwen/QwQ-32B", kv_cache="Int8", **labels) == 1


def test_numbers_are_those_of_spec_and_status() -> None:
    samples = scraped(Served(FULL))
    expected = {
        "replicas_desired": 3,
        "replicas_ready": 2,
        "gpus_requested": 6,
        "plan_kv_tokens": 1000,
        "measured_kv_tokens": 900,
        "kv_tokens_deviation_ratio": -0.1,
        "seconds_to_ready": 45,
        "progress_bytes": 5,
        "progress_total_bytes": 10,
    }
    found = {name: value(samples, f"llmdeployment_{name}") for name in expected}
    assert {name: round(number or 0, 6) for name, number in found.items()} == expected


def test_what_is_not_known_has_no_series() -> None:
    samples = scraped(Served(body()))
    assert value(samples, "llmdeployment_replicas_desired") == 1, "the API's default"
    for name in ("gpus_requested", "plan_kv_tokens", "kv_tokens_deviation_ratio", "progress_bytes"):
        assert value(samples, f"llmdeployment_{name}") is None


def test_a_parked_object_asks_for_no_gpu() -> None:
    parked = body(spec={"replicas": 0, "parallelism": {"tensor": 4}})
    samples = scraped(Served(parked))
    assert value(samples, "llmdeployment_gpus_requested") == 0
    assert value(samples, "llmdeployment_replicas_desired") == 0


def test_long_and_odd_values_end_as_short_labels() -> None:
    odd = body(spec={"model": {"image": {"reference": "x" * 5000}}, "engine": "LMDeploy", "kvCache": None})
    labels = [dict(labels) for name, labels in scraped(Served(odd | {"status": {"engine": None}}))]
    assert max(len(text) for entry in labels for text in entry.values()) <= MAX_LABEL


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), st.floats())
@example(['a"b', "\\n\n\\"], 1e300)
@example(["\r\u2028", ""], float("nan"))
def test_a_line_is_what_prometheus_client_writes(values: list[str], number: float) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("llmdeployment_x", 'Of "a".', ["a", "b"], registry=registry)
    gauge.labels(*values).set(number)
    family = _Family("llmdeployment_x", 'Of "a".', "a", "b")
    assert family.head + family.line(values, number) == generate_latest(registry).decode()


def test_heads_are_what_prometheus_client_writes() -> None:
    registry = CollectorRegistry()
    Counter("llmdeployment_x", "Some.", registry=registry)
    lines = generate_latest(registry).decode().splitlines()[:2]
    assert _Family("llmdeployment_x_total", "Some.", "a", kind="counter").head.splitlines() == lines


def test_what_has_not_changed_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []
    lines = objects._lines

    def counted(key: tuple[str, str], served: Served) -> list[bytes]:
        rendered.append(key[1])
        return lines(key, served)

    monkeypatch.setattr(objects, "_lines", counted)
    own = pod(OF, name="qwen-0", restarts=3, container="engine")
    now = {name: Served(body(name), (own,)) for name in ("a", "b", "c")}
    text = ObjectsText(now.values)
    first = text.text()
    now["b"] = Served(now["b"].body, (replace(own),), None)  # as the cache gives it out at each scrape
    assert text.text() == first
    assert rendered == ["a", "b", "c"]
    del now["a"]
    now["b"] = Served(now["b"].body, (replace(own, restarts=4),))
    now["c"] = Served(body("c", status={"readyReplicas": 1}), (own,))
    third = text.text()
    assert rendered == ["a", "b", "c", "b", "c"]
    assert b'name="a"' not in third
    assert third == ObjectsText(now.values).text()


def test_objects_are_counted() -> None:
    assert scraped(Served(body("a")), Served(body("b")))["llmdeployment_objects", frozenset()] == 2


ENDED = ContainerEnd(1, None, "Error", "torch.OutOfMemoryError: CUDA out of memory", "2026-11-30T10:00:00Z")
KILLED = ContainerEnd(137, 9, "OOMKilled", "", "2026-11-30T11:00:00Z")
OF = resource()


def test_each_pod_counts_its_restarts_and_has_the_reason_and_time_of_its_latest_end() -> None:
    pods = (
        pod(OF, name="qwen-0", restarts=3, end=ENDED, container="engine"),
        pod(OF, name="qwen-1", restarts=1, end=KILLED, container="engine"),
        pod(OF, name="qwen-2", container="engine", running=True),
        pod(OF, name="qwen-3", phase="Failed", failure="Evicted", ready_at="2026-11-30T12:00:00Z"),
        pod(OF, name="qwen-4", end=replace(ENDED, finished_at="soon"), container="engine", restarts=1),
    )
    samples = scraped(Served(FULL, pods))
    counted = {
        name: value(samples, "llmdeployment_engine_restarts_total", pod=name)
        for name in ("qwen-0", "qwen-1", "qwen-2", "qwen-3", "qwen-4")
    }
    assert counted == {"qwen-0": 3, "qwen-1": 1, "qwen-2": 0, "qwen-3": 0, "qwen-4": 1}
    metric = "llmdeployment_engine_last_end_timestamp_seconds"
    found = {
        (dict(labels)["pod"], dict(labels)["reason"]): told
        for (name, labels), told in samples.items()
        if name == metric
    }
    assert found == {
        ("qwen-0", "GPUOutOfMemory"): 1796032800,
        ("qwen-1", "HostMemoryExhausted"): 1796036400,
        ("qwen-3", "Evicted"): 1796040000,
    }


def test_the_end_of_an_init_container_is_no_end_of_the_engine() -> None:
    fetching = pod(OF, end=ENDED, container="fetch", restarts=2)
    samples = scraped(Served(FULL, (fetching,)))
    assert not [name for name, _ in samples if name.startswith("llmdeployment_engine_")]


def test_a_rollout_shows_in_the_revision_and_in_the_pods_that_have_it() -> None:
    child = serving(OF).workload
    assert child is not None
    rolling = replace(child, revision="qwen-7-0123456789", status={"updatedReplicas": 1, "replicas": 2})
    samples = scraped(Served(FULL, (), rolling))
    assert value(samples, "llmdeployment_revision") == 7
    assert value(samples, "llmdeployment_replicas_updated") == 1
    unknown = scraped(Served(FULL, (), replace(child, revision="")))
    assert value(unknown, "llmdeployment_revision") is None
