"""Service settings and labels that are handed on, on a real API server: written once, replaced, taken away, quiet."""

from __future__ import annotations

import pytest

from tests.cluster.helpers import JSON, Space, Spaces, operator_fixture, space_fixture
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
LISTS = ("--propagate-label", "kueue.x-k8s.io/*", "--propagate-annotation", "example.com/cost")
QUEUE, COST = "kueue.x-k8s.io/queue-name", "example.com/cost"
SPACES = Spaces("services", 10)
operator = operator_fixture(SPACES, "--no-leader-elect", "--no-gpu-inventory", *LISTS)
space = space_fixture(SPACES)


def found(space: Space, kind: str, name: str) -> JSON:
    body = space.get(kind, name)
    assert body is not None, f"{kind} {name}"
    return body


def ready(space: Space, name: str) -> None:
    eventually(lambda: space.is_ready(name), why=lambda: str(space.condition(name, "Ready")))


def test_settings_come_and_go_and_the_engine_stays(operator: OperatorUnderTest, space: Space) -> None:
    settings = {
        "type": "NodePort", "port": 9000, "trafficDistribution": "PreferSameZone",
        "labels": {"monitor": "yes"}, "annotations": {"example.com/dns": "chat"},
    }  # fmt: skip
    space.create(llm("demo", service=settings))
    ready(space, "demo")
    service, engine = found(space, "Service", "demo"), found(space, "Deployment", "demo")
    assert (service["spec"]["type"], service["spec"]["ports"][0]["port"]) == ("NodePort", 9000)
    assert service["spec"]["trafficDistribution"] == "PreferSameZone"
    assert found(space, "LLMDeployment", "demo")["status"]["endpoint"].endswith(":9000/v1")
    space.wait_quiet(operator)
    before = operator.writes()
    space.patch("demo", {"metadata": {"annotations": {"someone": "else"}}})
    operator.wait_idle()
    assert operator.writes() == before
    space.patch("demo", {"spec": {"service": None}})

    def plain() -> bool:
        body = found(space, "Service", "demo")
        meta = body["metadata"]
        gone = "monitor" not in meta["labels"] and "example.com/dns" not in (meta.get("annotations") or {})
        return gone and body["spec"]["type"] == "ClusterIP" and "trafficDistribution" not in body["spec"]

    eventually(plain, why=lambda: str(found(space, "Service", "demo")))
    assert found(space, "Service", "demo")["metadata"]["uid"] == service["metadata"]["uid"]
    assert found(space, "Deployment", "demo")["metadata"]["generation"] == engine["metadata"]["generation"]


def test_a_service_becomes_headless_and_back(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("demo"))
    ready(space, "demo")
    engine = found(space, "Deployment", "demo")
    for patch, headless in (({"clusterIP": "None"}, True), (None, False)):
        space.patch("demo", {"spec": {"service": patch}})

        def switched(wanted: bool = headless) -> bool:
            body = space.get("Service", "demo")
            return body is not None and (body["spec"]["clusterIP"] == "None") is wanted

        eventually(switched, why="the Service is made anew")
        ready(space, "demo")
        port = "8000" if headless else "80"
        eventually(lambda wanted=port: f":{wanted}/v1" in found(space, "LLMDeployment", "demo")["status"]["endpoint"])  # type: ignore[misc]
    assert found(space, "Deployment", "demo")["metadata"]["generation"] == engine["metadata"]["generation"]


def test_labels_of_the_object_reach_what_is_made_for_it(operator: OperatorUnderTest, space: Space) -> None:
    body = llm("demo", webUI={}, replicas=2)
    body["metadata"] |= {"labels": {QUEUE: "gpus", "other": "x"}, "annotations": {COST: "7", "other": "x"}}
    space.create(body)
    ready(space, "demo")
    for kind, name in (
        ("Deployment", "demo"),
        ("Service", "demo"),
        ("Deployment", "demo-chat"),
        ("Service", "demo-chat"),
    ):
        child = found(space, kind, name)
        metas = [child["metadata"], *([child["spec"]["template"]["metadata"]] if kind == "Deployment" else [])]
        for meta in metas:
            assert meta["labels"][QUEUE] == "gpus"
            assert meta["annotations"][COST] == "7"
            assert "other" not in {**meta["labels"], **meta["annotations"]}
    space.wait_quiet(operator)
    before = operator.writes()
    space.patch("demo", {"metadata": {"labels": {"other": "y"}}})
    operator.wait_idle()
    assert operator.writes() == before
    space.patch("demo", {"metadata": {"labels": {QUEUE: None}, "annotations": {COST: "8"}}})

    def followed() -> bool:
        template = found(space, "Deployment", "demo")["spec"]["template"]["metadata"]
        meta = found(space, "Service", "demo")["metadata"]
        both = [part["annotations"].get(COST) == "8" and QUEUE not in part["labels"] for part in (template, meta)]
        return all(both)

    eventually(followed, why=lambda: str(found(space, "Service", "demo")["metadata"]))
    ready(space, "demo")
