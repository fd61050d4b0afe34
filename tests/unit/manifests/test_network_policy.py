"""Who reaches the pods of an object, by the labels that its pods really have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_operator.__main__ import parser
from llm_operator.api.resource import LLMDeployment
from llm_operator.kube.cache import Cache
from llm_operator.live.children import Child, ChildKey
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.common import JSON
from llm_operator.manifests.revision import REVISION
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Decision
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.status import status_of
from llm_operator.settings import NetworkSettings, ToolSettings
from tests.support.build import NOW, live, once_written, plan, resource, serving, situation
from tests.support.rendered import jobs_of
from tests.unit.manifests.policies import NAMESPACE_NAME, Endpoint, pod, reaches

OPERATOR_PEER: JSON = {
    "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "llm-system"}},
    "podSelector": {"matchLabels": {"app": "llm-operator"}},
}
OFF = ToolSettings(web_image="web:1")
ON = replace(OFF, network=NetworkSettings(True, (OPERATOR_PEER,)))
OPERATOR = Endpoint("llm-system", {"app": "llm-operator"})
BESIDE_OPERATOR = Endpoint("llm-system", {"app": "other"})
CLIENT = Endpoint("team", {"app": "client"})
STRANGER = Endpoint("other", {"app": "client"})
OUTSIDE = Endpoint("", address="192.0.2.7")
PORT, PAGE_PORT = 8000, 8080


def decided(of: LLMDeployment, observed: Observed | None = None, tools: ToolSettings = ON) -> Decision:
    return decide(of, observed or Observed(), plan(of), tools)


def policies(decision: Decision) -> list[JSON]:
    return [apply.body for apply in decision.applies if apply.body["kind"] == "NetworkPolicy"]


def pods(decision: Decision) -> dict[str, Endpoint]:
    """The pods of each Deployment, by the Deployment's name."""
    return {
        apply.body["metadata"]["name"]: pod("team", apply.body["spec"]["template"])
        for apply in decision.applies
        if apply.body["kind"] == "Deployment"
    }


def in_place(of: LLMDeployment, tools: ToolSettings = ON) -> Observed:
    """Everything that was decided, as it is then seen."""
    cache, children = Cache(), dict[ChildKey, Child]()
    seen = once_written(decided(of, tools=tools).applies)
    for apply in decided(of, tools=tools).applies:
        if apply.body["kind"] == REVISION:
            continue
        child = live(apply.body)
        key = cache.key_of({**apply.body, "kind": child.kind})
        assert key == ("team", "demo"), child.name
        role: Any = "chat" if child.name.endswith("-chat") else "jobs" if child.name.endswith(".jobs") else "engine"
        children[child.kind, role] = child
    return replace(seen, children=children)


def test_by_default_the_namespace_and_the_operator_reach_the_engine() -> None:
    decision = decided(resource())
    rules, engine = policies(decision), pods(decision)["demo"]
    assert reaches(rules, CLIENT, engine, PORT)
    assert reaches(rules, OPERATOR, engine, PORT)
    for source in (STRANGER, BESIDE_OPERATOR, OUTSIDE):
        assert not reaches(rules, source, engine, PORT)
    # A port that no container declares, such as those between an engine's own processes.
    assert not reaches(rules, CLIENT, engine, 29500)


def test_without_policies_everybody_reaches_it() -> None:
    decision = decided(resource(), tools=OFF)
    assert policies(decision) == []
    assert reaches([], STRANGER, pods(decision)["demo"], PORT)


def test_the_objects_own_peers_take_the_place_of_the_namespace() -> None:
    peers: list[JSON] = [
        {"podSelector": {"matchLabels": {"app": "gateway"}}},
        {"namespaceSelector": {"matchExpressions": [{"key": NAMESPACE_NAME, "operator": "In", "values": ["edge"]}]}},
        {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}},
    ]
    decision = decided(resource(network={"from": peers}, webUI={}))
    rules, found = policies(decision), pods(decision)
    for engine, port in ((found["demo"], PORT), (found["demo-chat"], PAGE_PORT)):
        for source in (OPERATOR, OUTSIDE, Endpoint("team", {"app": "gateway"}), Endpoint("edge")):
            assert reaches(rules, source, engine, port)
        for source in (CLIENT, STRANGER, Endpoint("", address="192.0.2.200"), Endpoint("other", {"app": "gateway"})):
            assert not reaches(rules, source, engine, port)


def test_the_page_reaches_its_engine_whatever_the_peers_are() -> None:
    decision = decided(resource(network={"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}, webUI={}))
    rules, found = policies(decision), pods(decision)
    assert reaches(rules, found["demo-chat"], found["demo"], PORT)
    assert not reaches(rules, replace(found["demo-chat"], namespace="other"), found["demo"], PORT)
    another = replace(found["demo-chat"], labels={**found["demo-chat"].labels, "llm-operator.dev/chat": "another"})
    assert not reaches(rules, another, found["demo"], PORT)
    assert not reaches(rules, found["demo"], found["demo-chat"], PAGE_PORT)


def test_a_sidecars_declared_port_is_reached_too() -> None:
    sidecar = {"name": "proxy", "image": "proxy:1", "ports": [{"containerPort": 9443}]}
    native = {
        "name": "agent",
        "image": "a:1",
        "restartPolicy": "Always",
        "ports": [{"containerPort": 53, "protocol": "UDP"}],
    }
    once = {"name": "setup", "image": "a:1", "ports": [{"containerPort": 54}]}
    overlay = {"spec": {"containers": [sidecar], "initContainers": [native, once]}}
    (policy,) = policies(decided(resource(podTemplate=overlay)))
    assert policy["spec"]["ingress"][0]["ports"] == [
        {"port": 9443, "protocol": "TCP"},
        {"port": "http", "protocol": "TCP"},
        {"port": 53, "protocol": "UDP"},
    ]


def test_pods_of_two_engines_are_reached_while_one_follows_the_other() -> None:
    before, after = resource(), resource(engine={"type": "LMDeploy"})
    old, new = pods(decided(before))["demo"], pods(decided(after))["demo"]
    rules = policies(decided(after))
    assert reaches(rules, CLIENT, old, 8000)
    assert reaches(rules, CLIENT, new, 23333)


def test_nobody_reaches_the_jobs_of_the_model_tools() -> None:
    tools = replace(ON, image="tools:1", quantize_image="lmdeploy:1")
    hub = {"huggingFace": {"repository": "a/b"}}
    of = resource(model=hub, cache={"size": "10Gi"}, weightQuantization={}, replicas=0)
    decision = decided(of, Observed(claims={"demo-models": None}), tools)
    assert decision.held
    (policy,) = policies(decision)
    assert decision.applies[0].body is policy, "it is there before the first Job"
    jobs = jobs_of(of, tools)
    assert len(jobs) == 2
    for job in jobs:
        for source in (CLIENT, OPERATOR, STRANGER):
            assert not reaches([policy], source, pod("team", job["spec"]["template"]), PORT)
    engine = Endpoint("team", {"llm-operator.dev/deployment": "demo", "app.kubernetes.io/managed-by": "llm-operator"})
    assert reaches([policy], CLIENT, engine, PORT), "it is for Jobs alone"


def test_policies_come_first_and_are_children_like_the_others() -> None:
    of = resource(webUI={})
    decision = decided(of)
    kinds = [apply.body["kind"] for apply in decision.applies]
    assert kinds[:2] == ["NetworkPolicy", "NetworkPolicy"]
    assert "NetworkPolicy" not in kinds[2:]
    for policy in policies(decision):
        assert policy["metadata"]["ownerReferences"][0]["uid"] == of.metadata.uid
        assert policy["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "llm-operator"
    again = decided(of, in_place(of))
    assert (again.applies, again.deletes) == ((), ())


def test_existing_pods_get_policies_and_no_restart() -> None:
    of = resource()
    decision = decided(of, in_place(of, OFF))
    assert [apply.body["kind"] for apply in decision.applies] == ["NetworkPolicy"]


def test_another_peer_changes_the_policy_alone() -> None:
    seen = in_place(resource())
    decision = decided(resource(network={"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]}), seen)
    assert [(apply.body["kind"], apply.seen) for apply in decision.applies] == [("NetworkPolicy", True)]


def test_a_peer_that_says_less_changes_the_policy() -> None:
    def with_peer(peer: JSON) -> LLMDeployment:
        return resource(network={"from": [peer]})

    namespace: JSON = {"namespaceSelector": {"matchLabels": {"team": "a"}}}
    narrow, wide = with_peer({**namespace, "podSelector": {"matchLabels": {"app": "x"}}}), with_peer(namespace)
    assert policies(decided(wide, in_place(narrow)))
    assert not policies(decided(wide, in_place(wide)))


def test_another_peer_counts_although_the_spec_is_refused() -> None:
    seen = in_place(resource())
    peers = [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    decision = decided(resource(network={"from": peers}, engine={"type": "VLLM", "version": "0.1.0"}), seen)
    assert decision.refusals
    assert [apply.body["kind"] for apply in decision.applies] == ["NetworkPolicy"]
    assert not reaches(policies(decision), CLIENT, pods(decided(resource()))["demo"], PORT)


def test_what_is_not_wanted_any_more_goes() -> None:
    tools = replace(ON, image="tools:1")
    of = resource(webUI={}, model={"huggingFace": {"repository": "a/b"}}, cache={"claimName": "models"})
    claim = ClaimFacts("models", "uid-of-claim", single_node=True, labelled=True)
    first = decided(of, Observed(claims={"models": claim}), tools)
    assert [apply.body["kind"] for apply in first.applies] == ["NetworkPolicy", "NetworkPolicy", "Job"]
    names = {policy["metadata"]["name"] for policy in policies(first)}
    assert names == {"demo-chat", "demo.jobs"}, "the engine's comes with its Deployment"
    seen = in_place(resource(webUI={}))
    without = decided(resource(), seen)
    assert {(delete.kind, delete.name) for delete in without.deletes} >= {("NetworkPolicy", "demo-chat")}
    assert ("NetworkPolicy", "demo") not in {(delete.kind, delete.name) for delete in without.deletes}
    off = decided(resource(webUI={}), seen, OFF)
    assert {(delete.kind, delete.name) for delete in off.deletes} == {
        ("NetworkPolicy", "demo"),
        ("NetworkPolicy", "demo-chat"),
    }
    assert off.applies == ()


def test_somebody_elses_policy_is_not_removed() -> None:
    seen = in_place(resource())
    foreign = replace(seen.children["NetworkPolicy", "engine"], owner_uid="someone")
    decision = decided(resource(), Observed(children={**seen.children, ("NetworkPolicy", "engine"): foreign}), OFF)
    assert decision.deletes == ()


WIDE: list[JSON] = [
    {"namespaceSelector": {}},
    {"namespaceSelector": {"matchLabels": {}}, "podSelector": {"matchExpressions": []}},
    {"ipBlock": {"cidr": "0.0.0.0/0"}},
    {"ipBlock": {"cidr": "::/0"}},
]
NARROW: list[JSON] = [
    {"podSelector": {}},
    {"namespaceSelector": {"matchLabels": {"a": "b"}}},
    {"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}},
    {"ipBlock": {"cidr": "10.0.0.0/8"}},
]


def exposed(spec: JSON, *, policed: bool = True) -> str | None:
    of = resource(**spec)
    status = status_of(situation(of, serving(of), policed=policed), NOW)
    found = [condition for condition in status.conditions if condition.type == "Exposed"]
    assert all((entry.status, entry.reason) == ("True", "NoAPIKey") for entry in found)
    assert status.conditions[0].status == "True", "Ready does not depend on it"
    return found[0].message if found else None


@pytest.mark.parametrize("peer", [*WIDE, *NARROW], ids=str)
def test_an_engine_without_a_key_that_everybody_reaches_is_told(peer: JSON) -> None:
    message = exposed({"network": {"from": [{"podSelector": {}}, peer]}})
    assert (message is not None) is (peer in WIDE)
    if message is not None:
        assert "spec.network.from[1] lets everybody" in message


def test_a_key_or_a_policy_is_enough() -> None:
    key = {"engine": {"type": "VLLM", "apiKey": {"name": "keys", "key": "key"}}}
    assert exposed({}) is None
    assert exposed(key, policed=False) is None
    assert "spec.engine.apiKey" in (exposed({}, policed=False) or "")


@pytest.mark.parametrize("text", ["{", "{}", "[{}]", '[{"ipBlock": {"cidr": "x"}}]', "[[", "1", "[" * 9999])
def test_peers_of_the_command_line_are_refused_with_a_reason(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([f"--network-policy-from={text}"])
    assert "not a list of peers of a NetworkPolicy" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "null"])
def test_no_peers_are_none(text: str) -> None:
    assert parser().parse_args([f"--network-policy-from={text}"]).network_policy_from == ()
