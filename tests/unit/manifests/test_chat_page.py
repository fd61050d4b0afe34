"""The chat page's children: what is applied, when, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_operator.kube.cache import Cache
from llm_operator.live.children import Child, ChildKey
from llm_operator.manifests.common import JSON, LABEL_CHAT, LABEL_DEPLOYMENT, inputs_hash
from llm_operator.problems import Problem
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Decision
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.status import status_of
from llm_operator.settings import ToolSettings
from tests.support.build import NOW, applied, live, plan, pod, resource, serving, situation

IMAGE = "localhost/llm-operator/web:dev"
TOOLS = ToolSettings(web_image=IMAGE)


def decided(observed: Observed, **spec: Any) -> Decision:
    of = resource(**spec)
    return decide(of, observed, plan(of), TOOLS)


def page(decision: Decision, kind: str = "Deployment") -> JSON:
    (found,) = [apply.body for apply in decision.applies if apply.role == "chat" and apply.body["kind"] == kind]
    return found


def with_page(of: Any, **status: int) -> Observed:
    """Everything in place and serving, the page too."""
    seen = serving(of)
    first = decide(of, Observed(), plan(of), TOOLS)
    chat: dict[ChildKey, Child] = {
        (apply.body["kind"], apply.role): live(apply.body, **(status if apply.body["kind"] == "Deployment" else {}))
        for apply in first.applies
        if apply.role == "chat"
    }
    return replace(seen, children={**seen.children, **chat})


def test_without_the_field_there_is_no_page() -> None:
    assert {apply.role for apply in decided(Observed()).applies} == {"engine"}


def test_the_page_is_a_deployment_and_a_service_beside_the_engine() -> None:
    decision = decided(Observed(), webUI={}, engine={"type": "LMDeploy", "version": "0.18.0"}, contextLength=8192)
    names = [(apply.body["kind"], apply.body["metadata"]["name"]) for apply in decision.applies[1:]]
    assert names == [
        ("Deployment", "demo"), ("Service", "demo"), ("Deployment", "demo-chat"), ("Service", "demo-chat"),
    ]  # fmt: skip
    container = page(decision)["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == IMAGE
    assert container["args"] == [
        "--api=http://demo.team.svc:80/v1", "--model=demo", "--engine=LMDeploy 0.18.0, TurboMind",
        "--kv-cache=16-bit", "--context=8192",
    ]  # fmt: skip
    assert page(decision)["metadata"]["ownerReferences"][0]["controller"] is True


def test_the_engines_selector_does_not_take_the_pages_pods() -> None:
    decision = decided(Observed(), webUI={})
    labels = page(decision)["spec"]["template"]["metadata"]["labels"]
    assert LABEL_DEPLOYMENT not in labels
    assert labels[LABEL_CHAT] == "demo"
    assert page(decision, "Service")["spec"]["selector"] == {LABEL_CHAT: "demo"}


def test_key_and_password_come_by_reference() -> None:
    decision = decided(
        Observed(),
        engine={"type": "VLLM", "apiKey": {"name": "keys", "key": "engine"}},
        webUI={"password": {"name": "keys", "key": "page"}, "userName": "team"},
    )
    container = page(decision)["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [
        {"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "engine"}}},
        {"name": "CHAT_PAGE_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "page"}}},
    ]
    assert "--user-name=team" in container["args"]


def test_the_page_passes_restricted_pod_security() -> None:
    spec = page(decided(Observed(), webUI={}))["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }
    assert [volume["emptyDir"] for volume in spec["volumes"]] == [{"sizeLimit": "64Mi"}]


@pytest.mark.parametrize(
    ("spec", "replicas"), [({}, 1), ({"replicas": 3}, 1), ({"replicas": 0}, 0), ({"webUI": {"replicas": 0}}, 0)]
)
def test_the_page_stops_with_the_engine_or_by_its_own_field(spec: JSON, replicas: int) -> None:
    assert page(decided(Observed(), **{"webUI": {}, **spec}))["spec"]["replicas"] == replicas


def test_turning_the_page_on_and_off_leaves_the_engine_alone() -> None:
    without, asked = resource(), resource(webUI={"image": "a.example/web:1"})
    assert inputs_hash(without) == inputs_hash(asked)
    on = decide(asked, serving(without), plan(asked), TOOLS)
    assert [(apply.body["kind"], apply.role) for apply in on.applies] == [("Deployment", "chat"), ("Service", "chat")]
    off = decide(without, with_page(asked), plan(without), TOOLS)
    assert off.applies == ()
    assert [(delete.kind, delete.name) for delete in off.deletes] == [
        ("Deployment", "demo-chat"), ("Service", "demo-chat"),
    ]  # fmt: skip


def test_somebody_elses_page_is_not_removed() -> None:
    seen = with_page(resource(webUI={}))
    foreign = {key: replace(child, owner_uid="someone") for key, child in seen.children.items() if key[1] == "chat"}
    assert decided(replace(seen, children={**seen.children, **foreign})).deletes == ()


def test_drift_of_the_page_is_repaired() -> None:
    of = resource(webUI={})
    seen = with_page(of)
    assert decide(of, seen, plan(of), TOOLS).applies == ()
    other = with_page(resource(webUI={"replicas": 0}))
    assert [apply.role for apply in decide(of, other, plan(of), TOOLS).applies] == ["chat"]


def test_the_page_stays_while_a_change_of_the_engine_is_planned() -> None:
    seen = with_page(resource(webUI={}))
    changed = resource(webUI={}, contextLength=4096)
    decision = decide(changed, seen, replace(plan(changed), verdict="Pending"), TOOLS)
    assert decision.held
    assert (decision.applies, decision.deletes) == ((), ())


@pytest.mark.parametrize(
    ("spec", "counts", "expected"),
    [
        ({}, {"observedGeneration": 1, "readyReplicas": 1}, ("True", "Serving")),
        ({}, {"observedGeneration": 1}, ("Unknown", "Starting")),
        ({"webUI": {"replicas": 0}}, {}, ("False", "Stopped")),
        ({"replicas": 0}, {}, ("False", "Stopped")),
    ],
)
def test_the_condition_of_the_page(spec: JSON, counts: dict[str, int], expected: tuple[str, str]) -> None:
    of = resource(**{"webUI": {}, **spec})
    status = status_of(situation(of, with_page(of, **counts)), NOW)
    conditions = {entry.type: (entry.status, entry.reason) for entry in status.conditions}
    assert conditions["WebUIReady"] == expected
    assert status.web_ui is not None
    assert status.web_ui.endpoint == "http://demo-chat.team.svc:80/"
    # situation() decides without the page's image: its Deployment is left to write, and the object is Ready.
    assert conditions["Ready"][0] == "True"


def test_what_keeps_the_page_from_serving_is_said_and_holds_nothing_up() -> None:
    of = resource(webUI={})
    seen = with_page(of)
    waiting = pod(of, role="chat", waiting_reason="ImagePullBackOff", waiting_message="no such image")
    status = status_of(situation(of, replace(seen, chat_pods=(waiting,))), NOW)
    conditions = {entry.type: entry for entry in status.conditions}
    assert conditions["WebUIReady"].reason == "ImagePullFailed"
    assert "the chat page's image cannot be pulled" in conditions["WebUIReady"].message
    refused = Problem("NameConflict", "Service 'demo-chat' exists", "Error")
    status = status_of(situation(of, seen, page_blocked=refused), NOW)
    conditions = {entry.type: entry for entry in status.conditions}
    assert (conditions["WebUIReady"].status, conditions["WebUIReady"].reason) == ("False", "NameConflict")
    assert conditions["Ready"].status == "True"


def test_an_earlier_page_whose_deletion_is_refused_is_said_to_be_there() -> None:
    refused = Problem("WriteRefused", "the deletion of Deployment 'qwen-chat' was refused: forbidden", "Warning")
    status = status_of(situation(resource(), Observed(), page_blocked=refused), NOW)
    (page,) = [entry for entry in status.conditions if entry.type == "WebUIReady"]
    assert (page.status, page.reason, page.message) == ("False", "WriteRefused", refused.text)


def test_an_object_without_a_page_has_no_word_of_it() -> None:
    of = resource()
    status = status_of(situation(of, applied(of)), NOW)
    assert status.web_ui is None
    assert "WebUIReady" not in {entry.type for entry in status.conditions}


def raw(kind: str, name: str, owner: str | None, **labels: str) -> JSON:
    owners = [{"kind": "LLMDeployment", "name": owner, "uid": "u", "controller": True}] if owner else []
    meta = {"namespace": "team", "name": name, "uid": f"uid-{name}", "resourceVersion": "1", "labels": labels}
    return {"kind": kind, "metadata": {**meta, "ownerReferences": owners}}


def test_a_page_and_an_engine_of_the_same_name_are_told_apart() -> None:
    cache = Cache()
    assert cache.update(raw("Deployment", "demo-chat", "demo")) == ("team", "demo")
    assert cache.update(raw("Service", "demo-chat", "demo-chat")) == ("team", "demo-chat")
    assert cache.update(raw("Deployment", "demo", "demo")) == ("team", "demo")
    assert set(cache.observed(("team", "demo")).children) == {("Deployment", "engine"), ("Deployment", "chat")}
    assert set(cache.observed(("team", "demo-chat")).children) == {("Service", "engine")}
    assert sorted(name for _, name, _ in cache.entries("Deployment")) == ["demo", "demo-chat"]
    cache.remove(raw("Deployment", "demo-chat", "demo"))
    assert set(cache.observed(("team", "demo")).children) == {("Deployment", "engine")}


def test_a_page_whose_owner_was_edited_away_is_found_by_its_label() -> None:
    cache = Cache()
    assert cache.update(raw("Service", "demo-chat", None, **{LABEL_CHAT: "demo"})) == ("team", "demo")


def test_pods_of_the_page_are_not_the_engines() -> None:
    cache = Cache()
    assert cache.update(raw("Pod", "demo-chat-1", "demo-chat", **{LABEL_CHAT: "demo"})) == ("team", "demo")
    assert cache.update(raw("Pod", "demo-1", "demo", **{LABEL_DEPLOYMENT: "demo"})) == ("team", "demo")
    observed = cache.observed(("team", "demo"))
    assert [seen.name for seen in observed.pods] == ["demo-1"]
    assert [seen.name for seen in observed.chat_pods] == ["demo-chat-1"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("imagePullSecrets", [{"name": "a"}, {"name": "b"}]),
        ("webUI", {"podTemplate": {"spec": {"nodeSelector": {"disk": "ssd"}}}}),
        ("webUI", {"podTemplate": {"metadata": {"annotations": {"cost": "1"}}}}),
    ],
)
def test_what_the_page_has_no_more_is_taken_away(field: str, value: Any) -> None:
    before, after = resource(**{"webUI": {}, field: value}), resource(webUI={})
    assert page(decide(after, with_page(before), plan(after), TOOLS))
    assert not decide(after, with_page(after), plan(after), TOOLS).applies
