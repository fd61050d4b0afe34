"""What a scrape says of each LLMDeployment."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from llm_operator.telemetry.objects import MAX_LABEL, ObjectsCollector, Served

JSON = dict[str, Any]


def body(name: str = "qwen", spec: JSON | None = None, status: JSON | None = None) -> JSON:
    return {"metadata": {"namespace": "team", "name": name}, "spec": spec or {}, "status": status}


def scraped(*served: Served) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    registry = CollectorRegistry()
    registry.register(ObjectsCollector(lambda: served))
    text = generate_latest(registry).decode()
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
    samples = scraped(Served(FULL, 0))
    assert value(samples, "llmdeployment_condition", type="Ready", status="False", reason="SecretMissing") == 1
    assert value(samples, "llmdeployment_condition", type="Stalled", status="True", reason="SecretMissing") == 1
    assert sum(name == "llmdeployment_condition" for name, _ in samples) == 2


def test_info_says_what_is_served() -> None:
    labels = {"engine": "LMDeploy", "backend": "TurboMind", "version": "0.18.0", "tensor": "2"}
    assert value(scraped(Served(FULL, 0)), "llmdeployment_info", model="Qwen/QwQ-32B", kv_cache="Int8", **labels) == 1


def test_numbers_are_those_of_spec_and_status() -> None:
    samples = scraped(Served(FULL, 4))
    expected = {
        "replicas_desired": 3,
        "replicas_ready": 2,
        "gpus_requested": 6,
        "engine_restarts": 4,
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
    samples = scraped(Served(body(), 0))
    assert value(samples, "llmdeployment_replicas_desired") == 1, "the API's default"
    for name in ("gpus_requested", "plan_kv_tokens", "kv_tokens_deviation_ratio", "progress_bytes"):
        assert value(samples, f"llmdeployment_{name}") is None


def test_a_parked_object_asks_for_no_gpu() -> None:
    parked = body(spec={"replicas": 0, "parallelism": {"tensor": 4}})
    samples = scraped(Served(parked, 0))
    assert value(samples, "llmdeployment_gpus_requested") == 0
    assert value(samples, "llmdeployment_replicas_desired") == 0


def test_long_and_odd_values_end_as_short_labels() -> None:
    odd = body(spec={"model": {"image": {"reference": "x" * 5000}}, "engine": "LMDeploy", "kvCache": None})
    labels = [dict(labels) for name, labels in scraped(Served(odd | {"status": {"engine": None}}, 0))]
    assert max(len(text) for entry in labels for text in entry.values()) <= MAX_LABEL


def test_objects_are_counted() -> None:
    assert scraped(Served(body("a"), 0), Served(body("b"), 0))["llmdeployment_objects", frozenset()] == 2
