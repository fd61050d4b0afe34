"""Service settings, labels that are handed on, and the recommended labels: what is rendered, and what restarts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from llm_operator.__main__ import parser
from llm_operator.api import API_VERSION, KIND, InvalidResource
from llm_operator.api.propagation import Propagation
from llm_operator.api.resource import LLMDeployment
from llm_operator.child_options import tool_settings
from llm_operator.live.children import Child, ChildKey
from llm_operator.manifests.common import (
    ANNOTATION_PROPAGATED,
    ANNOTATION_REVISION,
    ANNOTATION_TEMPLATE,
    LABEL_ENGINE_TYPE,
    LABEL_INPUTS,
    LABEL_VERSION,
    inputs_hash,
)
from llm_operator.manifests.revision import REVISION
from llm_operator.manifests.service import ANNOTATION_SERVICE, endpoint, service
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.rendered import expected_inputs, kept_rendering
from tests.support.build import UID, live, once_written, plan
from tests.support.build import resource as build
from tests.support.rendered import jobs_of

JSON = dict[str, Any]
QUEUE, COST = "kueue.x-k8s.io/queue-name", "example.com/cost"
LIST = Propagation(("kueue.x-k8s.io/*", "team"), (COST,))


def resource(labels: JSON | None = None, annotations: JSON | None = None, **spec: Any) -> LLMDeployment:
    metadata = {"name": "demo", "namespace": "team", "uid": UID, "labels": labels, "annotations": annotations}
    body = {"model": {"persistentVolumeClaim": {"claimName": "models"}}, "engine": {"type": "VLLM"}, **spec}
    return LLMDeployment.parse({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": body})


def written(of: LLMDeployment, observed: Observed | None = None) -> dict[ChildKey, JSON]:
    """The children that are written; not their revision."""
    applies = decide(of, observed or Observed(), plan(of)).applies
    return {(apply.body["kind"], apply.role): apply.body for apply in applies if apply.body["kind"] != REVISION}


def seen(of: LLMDeployment) -> Observed:
    return once_written(decide(of, Observed(), plan(of)).applies)


def template(bodies: dict[ChildKey, JSON]) -> JSON:
    found: JSON = bodies["Deployment", "engine"]["spec"]["template"]
    return found


SETTINGS: JSON = {
    "type": "LoadBalancer",
    "port": 8443,
    "trafficDistribution": "PreferSameZone",
    "labels": {"monitor": "yes"},
    "annotations": {"service.beta.kubernetes.io/aws-load-balancer-internal": "true"},
}


def test_each_setting_reaches_the_service_and_its_port_the_endpoint() -> None:
    of = resource(service=SETTINGS)
    body = service(of)
    assert body["spec"]["type"] == "LoadBalancer"
    assert body["spec"]["ports"] == [{"name": "http", "port": 8443, "protocol": "TCP", "targetPort": "http"}]
    assert body["spec"]["trafficDistribution"] == "PreferSameZone"
    assert body["metadata"]["labels"]["monitor"] == "yes"
    assert body["metadata"]["annotations"].items() >= SETTINGS["annotations"].items()
    assert endpoint(of) == "http://demo.team.svc:8443/v1"


@pytest.mark.parametrize(("engine", "port"), [("VLLM", 8000), ("LMDeploy", 23333)])
def test_clients_of_a_headless_service_reach_the_engines_own_port(engine: str, port: int) -> None:
    of = resource(service={"clusterIP": "None"}, engine={"type": engine})
    assert service(of)["spec"]["clusterIP"] == "None"
    assert service(of)["spec"]["ports"][0]["port"] == port
    assert endpoint(of) == f"http://demo.team.svc:{port}/v1"


def test_the_page_has_settings_of_its_own() -> None:
    page = {"service": {"type": "NodePort", "port": 8081}}
    bodies = written(resource(webUI=page, service={"port": 9000}))
    assert bodies["Service", "chat"]["spec"]["type"] == "NodePort"
    assert bodies["Service", "chat"]["spec"]["ports"][0]["port"] == 8081
    arguments = bodies["Deployment", "chat"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--api=http://demo.team.svc:9000/v1" in arguments


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"clusterIP": "None", "type": "NodePort"}, "clusterIP"),
        ({"clusterIP": "None", "port": 80}, "port"),
        ({"clusterIP": "10.0.0.1"}, "clusterIP"),
        ({"port": 0}, "port"),
        ({"type": "ExternalName"}, "type"),
        ({"labels": {"llm-operator.dev/deployment": "x"}}, "labels"),
        ({"labels": {"app.kubernetes.io/name": "x"}}, "labels"),
        ({"annotations": {"llm-operator.dev/x": "y"}}, "annotations"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(settings: JSON, field: str) -> None:
    for spec, path in (
        ({"service": settings}, "spec.service"),
        ({"webUI": {"service": settings}}, "spec.webUI.service"),
    ):
        with pytest.raises(InvalidResource) as refused:
            resource(**spec)
        assert [where for where, _ in refused.value.errors] == [f"{path}.{field}"]


def test_a_setting_restarts_no_engine() -> None:
    assert inputs_hash(resource(service=SETTINGS)) == inputs_hash(resource())
    assert set(written(resource(service=SETTINGS), seen(resource()))) == {("Service", "engine")}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_is_taken_away_is_written_once_and_then_quiet(name: str) -> None:
    before = resource(service=SETTINGS)
    after = resource(service={field: value for field, value in SETTINGS.items() if field != name})
    assert set(written(after, seen(before))) == {("Service", "engine")}
    assert written(after, seen(after)) == {}
    assert written(before, seen(before)) == {}


def test_a_service_becomes_headless_by_a_new_one() -> None:
    before, after = resource(), resource(service={"clusterIP": "None"})
    for one, other in ((before, after), (after, before)):
        decision = decide(other, seen(one), plan(other))
        assert decision.applies == ()
        assert [(delete.kind, delete.name) for delete in decision.deletes] == [("Service", "demo")]
    gone = seen(before)
    rest = Observed(children={key: child for key, child in gone.children.items() if key[0] != "Service"})
    assert set(written(after, rest)) == {("Service", "engine")}


def test_what_is_named_reaches_every_child_and_the_jobs() -> None:
    of = resource({QUEUE: "gpus", "other": "x"}, {COST: "7", "note": "x"}, replicas=2, webUI={}).handing_on(LIST)
    bodies = written(of)
    for body in (*bodies.values(), *jobs_of(of)):
        for meta in (body["metadata"], *([body["spec"]["template"]["metadata"]] if "template" in body["spec"] else [])):
            assert meta["labels"][QUEUE] == "gpus"
            assert "other" not in meta["labels"]
            assert meta["annotations"][COST] == "7"
            assert "note" not in meta["annotations"]
    assert bodies["Deployment", "engine"]["spec"]["selector"]["matchLabels"] == {"llm-operator.dev/deployment": "demo"}


def test_nothing_is_carried_that_the_operator_sets() -> None:
    greedy = Propagation(("app.kubernetes.io/*", "llm-operator.dev/*", "a*"), ("kubectl.kubernetes.io/*", "k*"))
    labels = {"app.kubernetes.io/name": "x", "llm-operator.dev/deployment": "x", "a": "x"}
    of = resource(labels, {"kubectl.kubernetes.io/last-applied-configuration": "{}"}).handing_on(greedy)
    assert (dict(of.carried.labels), dict(of.carried.annotations)) == ({"a": "x"}, {})
    assert written(of)["Service", "engine"]["metadata"]["labels"]["llm-operator.dev/deployment"] == "demo"


def test_a_label_that_is_handed_on_is_an_input_of_the_pods() -> None:
    before, after = resource({QUEUE: "a"}).handing_on(LIST), resource({QUEUE: "b"}).handing_on(LIST)
    assert inputs_hash(before) != inputs_hash(after)
    rolled = written(after, seen(before))
    assert template(rolled)["metadata"]["labels"][QUEUE] == "b"
    unlisted = resource({QUEUE: "a", "x": "y"}).handing_on(LIST)
    assert written(unlisted, seen(before)) == {}


def test_another_list_restarts_no_engine_and_reaches_the_rest_at_once() -> None:
    plain = resource({QUEUE: "a"})
    listed = plain.handing_on(LIST)
    for before, after in ((plain, listed), (listed, plain), (listed, plain.handing_on(Propagation(("team",))))):
        changed = written(after, seen(before))
        assert set(changed) == {("Deployment", "engine"), ("Service", "engine")}
        assert template(changed) == template(written(before))
        assert (QUEUE in changed["Service", "engine"]["metadata"]["labels"]) is (QUEUE in after.carried.labels)
        assert expected_inputs(after, seen(before)) == template(changed)["metadata"]["labels"][LABEL_INPUTS]
    rolled = written(resource({QUEUE: "a"}, contextLength=4096).handing_on(LIST), seen(plain))
    assert template(rolled)["metadata"]["labels"][QUEUE] == "a"


def test_a_label_that_is_gone_is_taken_away() -> None:
    before, after = resource({QUEUE: "a"}).handing_on(LIST), resource().handing_on(LIST)
    changed = written(after, seen(before))
    assert set(changed) == {("Deployment", "engine"), ("Service", "engine")}
    assert QUEUE not in changed["Service", "engine"]["metadata"]["labels"]
    assert QUEUE not in template(changed)["metadata"]["labels"]


@pytest.mark.parametrize("engine", ["VLLM", "LMDeploy"])
def test_the_recommended_labels_are_complete(engine: str) -> None:
    bodies = written(resource(engine={"type": engine}, replicas=2, webUI={}))
    pods = template(bodies)["metadata"]["labels"]
    version = json.loads(template(bodies)["metadata"]["annotations"]["llm-operator.dev/engine"])["version"]
    for labels in (pods, *(body["metadata"]["labels"] for (_, role), body in bodies.items() if role == "engine")):
        assert {key: value for key, value in labels.items() if key.startswith("app.kubernetes.io/")} == {
            "app.kubernetes.io/name": "llm-engine",
            "app.kubernetes.io/instance": "demo",
            "app.kubernetes.io/component": "engine",
            "app.kubernetes.io/part-of": "llmdeployment",
            "app.kubernetes.io/managed-by": "llm-operator",
            "app.kubernetes.io/version": version,
        }
        assert labels[LABEL_ENGINE_TYPE] == engine.lower()
    page = bodies["Deployment", "chat"]["metadata"]["labels"]
    assert {"version", "component", "part-of", "managed-by", "name", "instance"} == {
        key.removeprefix("app.kubernetes.io/") for key in page if key.startswith("app.kubernetes.io/")
    }


def test_an_upgrade_that_brings_labels_restarts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children as an operator wrote them that knew none of the new labels."""
    of = build()
    new = ("app.kubernetes.io/component", "app.kubernetes.io/part-of", LABEL_VERSION, LABEL_ENGINE_TYPE)
    older: dict[ChildKey, Child] = {}
    for key, body in written(of).items():
        text = json.loads(json.dumps(body))
        metas = [text["metadata"], *([text["spec"]["template"]["metadata"]] if "template" in text["spec"] else [])]
        for meta in metas:
            meta["labels"] = {name: value for name, value in meta["labels"].items() if name not in new}
        if "template" in text["spec"]:
            del text["metadata"]["annotations"][ANNOTATION_REVISION]
            text["metadata"]["annotations"][ANNOTATION_TEMPLATE] = json.dumps(text["spec"]["template"])
        older[key] = live(text)
    changed = written(of, Observed(children=older))
    assert set(changed) == {("Deployment", "engine"), ("Service", "engine")}
    assert (
        changed["Deployment", "engine"]["spec"]["template"] == older["Deployment", "engine"].body()["spec"]["template"]
    )
    assert (
        changed["Deployment", "engine"]["spec"]["selector"] == older["Deployment", "engine"].body()["spec"]["selector"]
    )


def test_an_annotation_of_ours_that_somebody_added_is_taken_away() -> None:
    of = resource()
    observed = seen(of)
    body = observed.children["Service", "engine"].body()
    body["metadata"]["annotations"][ANNOTATION_SERVICE] = "{}"
    body["metadata"]["annotations"]["somebody.example/else"] = "x"
    spoilt: Child = replace(observed.children["Service", "engine"], text=json.dumps(body))
    children = {**observed.children, ("Service", "engine"): spoilt}
    assert set(written(of, replace(observed, children=children))) == {("Service", "engine")}
    del body["metadata"]["annotations"][ANNOTATION_SERVICE]
    children["Service", "engine"] = replace(spoilt, text=json.dumps(body))
    assert written(of, replace(observed, children=children)) == {}


def test_the_command_line_names_the_lists(capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        "--propagate-label=team",
        "--propagate-label",
        "kueue.x-k8s.io/*",
        "--propagate-annotation=example.com/cost",
    ]
    found = tool_settings(parser().parse_args(line)).propagation
    assert found == Propagation(("team", "kueue.x-k8s.io/*"), ("example.com/cost",))
    assert not tool_settings(parser().parse_args([])).propagation
    for bad in ("*", "a b", "llm-operator.dev/*", "a*b", ""):
        with pytest.raises(SystemExit):
            parser().parse_args([f"--propagate-label={bad}"])
        assert "propagate-label" in capsys.readouterr().err


def test_names_that_are_handed_on_are_told_on_the_child() -> None:
    of = resource({QUEUE: "a"}, {COST: "1"}).handing_on(LIST)
    told = written(of)["Service", "engine"]["metadata"]["annotations"][ANNOTATION_PROPAGATED]
    assert json.loads(told) == {"labels": [QUEUE], "annotations": [COST]}
    assert kept_rendering(of, seen(of)) is not None
