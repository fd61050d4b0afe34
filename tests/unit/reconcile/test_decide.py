import json
from dataclasses import replace
from typing import Any

import pytest

from llm_operator.api.names import ANNOTATION_RESTARTED
from llm_operator.manifests.common import ANNOTATION_TEMPLATE, JSON, SPECS_REMEMBERED, inputs_hash
from llm_operator.manifests.pod import GUARD, pod_spec
from llm_operator.manifests.revision import REVISION, digest_of
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Decision
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.status import status_of
from tests.support.build import (
    NOW,
    UID,
    applied,
    live,
    made_by_an_older_operator,
    plan,
    resource,
    serving,
    situation,
)


def kinds(decision: Decision) -> list[str]:
    return [apply.body["kind"] for apply in decision.applies]


def test_the_first_visit_writes_revision_deployment_and_service_by_creation() -> None:
    decision = decide(resource(), Observed(), plan(resource()))
    assert kinds(decision) == [REVISION, "Deployment", "Service"]
    assert not any(apply.seen for apply in decision.applies)


def test_nothing_to_write_when_all_is_there() -> None:
    of = resource(replicas=2)
    decision = decide(of, applied(of), plan(of))
    assert (decision.applies, decision.deletes) == ((), ())


def test_the_hash_of_inputs_is_that_of_the_spec_however_many_there_are() -> None:
    several = [resource(contextLength=1024 + number) for number in range(3 * SPECS_REMEMBERED)]
    first = [inputs_hash(of) for of in several]
    assert len(set(first)) == len(several)
    assert [inputs_hash(of) for of in reversed(several)] == first[::-1]
    scaled = several[0].model_copy(update={"spec": several[1].spec})
    assert inputs_hash(scaled) == first[1]


@pytest.mark.parametrize(("replicas", "expected"), [(0, False), (1, False), (2, True), (5, True)])
def test_a_budget_only_for_several_replicas(replicas: int, expected: bool) -> None:
    of = resource(replicas=replicas)
    assert ("PodDisruptionBudget" in kinds(decide(of, Observed(), plan(of)))) is expected


def test_a_budget_goes_when_one_replica_is_left() -> None:
    of = resource(replicas=1)
    decision = decide(of, applied(resource(replicas=2)), plan(of))
    assert [delete.kind for delete in decision.deletes] == ["PodDisruptionBudget"]
    assert kinds(decision) == ["Deployment"]


def test_scaling_keeps_the_template() -> None:
    before, after = resource(replicas=1), resource(replicas=3)
    one, three = decide(before, Observed(), plan(before)).template, decide(after, applied(before), plan(after)).template
    assert one == three


def test_a_newer_operator_that_renders_differently_restarts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    of = resource()
    before = serving(of)
    newer = "llm_operator.manifests.deployment.pod_spec"
    monkeypatch.setattr(newer, lambda *given: {**pod_spec(*given), "hostname": "new"})
    decision = decide(of, before, plan(of))
    assert decision.applies == ()
    assert decision.template is not None
    assert "hostname" not in decision.template["spec"]
    changed = resource(contextLength=4096)
    again = decide(changed, before, plan(changed)).template
    assert again is not None
    assert again["spec"]["hostname"] == "new"


def test_pods_from_before_the_guard_are_kept_until_their_next_roll(monkeypatch: pytest.MonkeyPatch) -> None:
    of = resource()

    def without_guard(*given: Any) -> JSON:
        spec = pod_spec(*given)
        container = {**spec["containers"][0], "command": ["lmdeploy", "serve", "api_server"]}
        container["volumeMounts"] = [one for one in container["volumeMounts"] if one["name"] != GUARD]
        volumes = [one for one in spec["volumes"] if one["name"] != GUARD]
        return {**spec, "containers": [container], "volumes": volumes}

    with monkeypatch.context() as older:
        older.setattr("llm_operator.manifests.deployment.pod_spec", without_guard)
        before = serving(of)
    assert decide(of, before, plan(of)).applies == ()
    rolled = decide(resource(contextLength=4096), before, plan(resource(contextLength=4096))).template
    assert rolled is not None
    assert GUARD in [one["name"] for one in rolled["spec"]["volumes"]]


def test_a_better_plan_restarts_nothing() -> None:
    of = resource()
    better = replace(plan(of), verdict="Fits", tensor=4)
    assert decide(of, serving(of), better).applies == ()


def test_drift_is_repaired_with_the_template_that_ran() -> None:
    of = resource()
    seen = applied(of)
    body = seen.children["Deployment", "engine"].body()
    body["spec"]["template"]["spec"]["containers"][0]["args"].append("--hostile")
    broken = replace(seen.children["Deployment", "engine"], text=json.dumps(body))
    decision = decide(of, replace(seen, children={**seen.children, ("Deployment", "engine"): broken}), plan(of))
    assert kinds(decision) == ["Deployment"]
    assert decision.applies[0].seen
    assert "--hostile" not in decision.applies[0].body["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("annotation", ["", "{", "[]", "{}", '{"metadata": {"labels": {}}}', "null"])
def test_a_spoilt_annotation_of_an_older_operator_is_rendered_anew(annotation: str) -> None:
    of = resource()
    seen = made_by_an_older_operator(applied(of), **{ANNOTATION_TEMPLATE: annotation})
    decision = decide(of, seen, plan(of))
    assert kinds(decision) == [REVISION, "Deployment"]
    assert decision.template == decide(of, Observed(), plan(of)).template


def test_a_refused_spec_writes_nothing_and_says_why() -> None:
    before, after = resource(), resource(engine={"type": "VLLM", "extraArgs": ["--tensor-parallel-size", "2"]})
    decision = decide(after, serving(before), plan(after))
    assert (decision.applies, decision.deletes, decision.template) == ((), (), None)
    assert "parallelism.tensor" in decision.refusals[0].message


@pytest.mark.parametrize(("policy", "held"), [("Enforce", True), ("Warn", False)])
def test_a_plan_that_does_not_fit_holds_only_under_enforce(policy: str, held: bool) -> None:
    of = resource(planPolicy=policy)
    decision = decide(of, Observed(), replace(plan(of), verdict="DoesNotFit"))
    assert decision.held is held
    assert bool(decision.applies) is not held


def test_nothing_is_rendered_while_facts_are_on_their_way() -> None:
    of = resource()
    assert decide(of, Observed(), replace(plan(of), verdict="Pending")).held


def test_somebody_elses_children_are_neither_deleted_nor_kept() -> None:
    of = resource()
    foreign = applied(resource(replicas=2))
    budget = replace(foreign.children["PodDisruptionBudget", "engine"], owner_uid="someone")
    decision = decide(of, Observed(children={("PodDisruptionBudget", "engine"): budget}), plan(of))
    assert decision.deletes == ()


def test_a_child_that_is_going_is_waited_for() -> None:
    of = resource()
    seen = applied(of)
    going = replace(seen.children["Service", "engine"], deleting=True, text='{"metadata": {}, "spec": {}}')
    assert decide(of, replace(seen, children={**seen.children, ("Service", "engine"): going}), plan(of)).applies == ()


def test_children_are_owned_and_named_after_the_object() -> None:
    for apply in decide(resource(replicas=2), Observed(), plan(resource())).applies:
        meta = apply.body["metadata"]
        name = "demo" if apply.body["kind"] != REVISION else f"demo-1-{digest_of(apply.body['data'])}"
        assert (meta["name"], meta["namespace"]) == (name, "team")
        assert meta["ownerReferences"][0]["uid"] == UID
        assert live(apply.body).owner_uid == UID


def test_a_request_for_new_pods_changes_the_template_by_its_annotation_alone() -> None:
    plain = resource()
    asked = plain.model_copy(
        update={"metadata": plain.metadata.model_copy(update={"annotations": {ANNOTATION_RESTARTED: NOW}})}
    )
    revision, apply = decide(asked, applied(plain), plan(plain)).applies
    assert revision.body["data"]["template"] == apply.body["spec"]["template"]
    annotations = apply.body["spec"]["template"]["metadata"]["annotations"]
    assert annotations.pop(ANNOTATION_RESTARTED) == NOW
    (before,) = (one.body for one in decide(plain, Observed(), plan(plain)).applies if one.body["kind"] == "Deployment")
    assert apply.body["spec"] == before["spec"]
    # Taken away again, it replaces nothing.
    assert decide(plain, applied(asked), plan(plain)).applies == ()


def test_a_refused_overlay_of_the_page_leaves_engine_and_page_alone() -> None:
    of = resource(webUI={})
    seen = serving(of)
    sidecar = {"name": "a", "image": "a", "ports": [{"containerPort": 8080}]}
    changed = resource(webUI={"podTemplate": {"spec": {"containers": [sidecar]}}}, replicas=2)
    decision = decide(changed, seen, plan(changed))
    assert [refusal.field for refusal in decision.page_refusals] == [
        "spec.webUI.podTemplate.spec.containers[0].ports[0].containerPort"
    ]
    assert decision.refusals == ()
    assert {apply.role for apply in decision.applies} == {"engine"}
    assert decision.deletes == ()
    page = {entry.type: entry for entry in status_of(situation(changed, seen), NOW).conditions}["WebUIReady"]
    assert (page.status, page.reason) == ("False", "ConflictingPodTemplate")


def test_a_refused_overlay_of_the_jobs_is_told_also_while_the_engine_serves() -> None:
    of = resource()
    changed = resource(tools={"podTemplate": {"spec": {"afinity": {}}}})
    decision = decide(changed, serving(of), plan(changed))
    assert [refusal.field for refusal in decision.refusals] == ["spec.tools.podTemplate.spec.afinity"]
    assert (decision.applies, decision.deletes) == ((), ())


def test_a_startup_probe_of_another_period_is_kept_until_the_inputs_change(monkeypatch: pytest.MonkeyPatch) -> None:
    of = resource()
    with monkeypatch.context() as older:
        older.setattr("llm_operator.engines.common.STARTUP_PERIOD_SECONDS", 10)
        before = serving(of)
    assert decide(of, before, plan(of)).applies == ()
    changed = resource(contextLength=4096)
    rolled = decide(changed, before, plan(changed)).template
    assert rolled is not None
    assert rolled["spec"]["containers"][0]["startupProbe"]["periodSeconds"] == 2


@pytest.mark.parametrize("seconds", [60, 601, 1800, 86_400])
@pytest.mark.parametrize("engine", ["VLLM", "LMDeploy"])
def test_an_engine_is_probed_often_while_it_loads_and_has_the_same_time(engine: str, seconds: int) -> None:
    of = resource(engine={"type": engine}, startupTimeoutSeconds=seconds)
    template = decide(of, Observed(), plan(of)).template
    assert template is not None
    probe = template["spec"]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] <= 2
    assert 0 <= probe["periodSeconds"] * probe["failureThreshold"] - seconds < probe["periodSeconds"]
