"""The plan of what runs is kept beside it; without a plan and never Ready, pods are rendered again with one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import PlanStatus
from llm_operator.live.children import ChildCondition, ChildKey
from llm_operator.manifests.common import ANNOTATION_PLAN, compact_json
from llm_operator.manifests.revision import REVISION
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.plan_record import read_record, record, record_of
from llm_operator.reconcile.planned import unknown_outcome
from llm_operator.reconcile.situation import Situation
from llm_operator.reconcile.status import status_of
from tests.support.build import NOW, made_by_an_older_operator, once_written, plan, pod, resource

FOUR = PlanStatus(tensor=4, gpus_per_replica=4, kv_tokens=1000)
KEY: ChildKey = ("Deployment", "engine")


def fits(of: LLMDeployment, tensor: int = 4, message: str = "fits on 4") -> PlanOutcome:
    status = PlanStatus(tensor=tensor, gpus_per_replica=tensor, kv_tokens=1000, explanation="long")
    return replace(plan(of), verdict="Fits", reason="Fits", message=message, tensor=tensor, status=status)


def rendered(of: LLMDeployment, by: PlanOutcome, progressing: str = "ReplicaSetUpdated", **status: int) -> Observed:
    """What is there after an operator with that plan; the pods have not been Ready."""
    counts = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, **status}
    seen = once_written(decide(of, Observed(), by).applies, None, **counts)
    child = replace(seen.children[KEY], conditions={"Progressing": ChildCondition("True", progressing, "")})
    return replace(seen, children={**seen.children, KEY: child}, pods=(pod(of),))


def planned(of: LLMDeployment, seen: Observed, today: PlanOutcome) -> tuple[str, str, str, PlanStatus | None]:
    status = status_of(Situation(of, seen, decide(of, seen, today), today), NOW)
    condition = next(one for one in status.conditions if one.type == "Planned")
    return condition.status, condition.reason, condition.message, status.plan


def test_pods_that_were_never_ready_are_rendered_again_when_the_plan_is_there() -> None:
    of = resource()
    seen = rendered(of, plan(of))
    revision, apply = decide(of, seen, fits(of)).applies
    assert (revision.body["kind"], revision.body["revision"]) == (REVISION, 2)
    assert apply.body["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "4"
    found = record_of(once_written((revision, apply), seen))
    assert found is not None
    assert (found.verdict, found.status) == ("Fits", FOUR)
    # The next look finds it as it should be.
    assert decide(of, rendered(of, fits(of)), fits(of)).applies == ()


def test_a_plan_that_says_it_does_not_fit_holds_what_never_served() -> None:
    of = resource()
    never = replace(fits(of), verdict="DoesNotFit", reason="DoesNotFit")
    decision = decide(of, rendered(of, plan(of)), never)
    assert (decision.applies, decision.held) == ((), True)


@pytest.mark.parametrize(
    "seen",
    [
        lambda of: rendered(of, plan(of), "NewReplicaSetAvailable"),
        lambda of: rendered(of, plan(of), readyReplicas=1),
        lambda of: replace(rendered(of, plan(of)), pods=(pod(of, ready=True),)),
        lambda of: rendered(of, plan(of), observedGeneration=0),
    ],
    ids=["served once", "serves", "one of two serves", "not seen yet"],
)
def test_what_serves_or_has_served_keeps_its_template(seen: Any) -> None:
    of = resource()
    assert decide(of, seen(of), fits(of)).applies == ()


def test_what_an_older_operator_made_keeps_its_template_and_has_no_plan() -> None:
    of = resource()
    seen = made_by_an_older_operator(rendered(of, plan(of)))
    revision, apply = decide(of, seen, fits(of)).applies
    assert apply.body["spec"]["template"] == seen.children[KEY].body()["spec"]["template"]
    assert "plan" not in revision.body["data"]


def test_a_parked_object_is_rendered_again() -> None:
    of = resource(replicas=0)
    seen = replace(rendered(of, plan(of), "NewReplicaSetAvailable", replicas=0, updatedReplicas=0), pods=())
    assert [apply.body["kind"] for apply in decide(of, seen, fits(of)).applies] == [REVISION, "Deployment"]


def test_status_tells_the_plan_of_what_runs_and_another_one_beside_it() -> None:
    of = resource()
    seen = rendered(of, fits(of), "NewReplicaSetAvailable", readyReplicas=1)
    status, reason, message, numbers = planned(of, seen, fits(of))
    assert (status, reason, message) == ("True", "Fits", "fits on 4")
    assert numbers is not None
    assert (numbers.tensor, numbers.explanation) == (4, "long")
    smaller = replace(fits(of, 8, "weights do not fit"), verdict="DoesNotFit", reason="DoesNotFit")
    status, reason, message, numbers = planned(of, seen, smaller)
    assert (status, reason, numbers) == ("True", "Fits", FOUR)
    assert message.startswith("fits on 4; ")
    assert "DoesNotFit: weights do not fit" in message
    # Facts that are gone for a moment change nothing of what is known of the pods.
    away = unknown_outcome(of.spec, "HubUnreachable", "away", for_now=True)
    assert planned(of, seen, away) == ("True", "Fits", "fits on 4", FOUR)


def recorded(text: Any) -> Observed:
    """As an older operator's Deployment, of which somebody has written the record."""
    of = resource()
    return made_by_an_older_operator(rendered(of, plan(of)), **{ANNOTATION_PLAN: text})


@settings(deadline=None)
@given(
    st.text()
    | st.fixed_dictionaries(
        {"verdict": st.sampled_from(["Fits", "Unknown", "x"]), "reason": st.text(), "message": st.text()},
        optional={
            "plan": st.none() | st.integers() | st.dictionaries(st.sampled_from(["tensor", "kvTokens"]), st.integers())
        },
    ).map(json.dumps)
)
def test_a_record_that_somebody_else_wrote_does_no_harm(text: str) -> None:
    of = resource()
    seen = recorded(text)
    status_of(Situation(of, seen, decide(of, seen, fits(of)), fits(of)), NOW)


def test_a_record_is_short() -> None:
    of = resource()
    kept = record(fits(of, message="x" * 100_000))
    assert len(compact_json(kept)) < 2_000
    assert read_record(kept) is not None


def test_the_plan_in_an_older_operators_annotation_is_kept() -> None:
    of = resource()
    seen = recorded(compact_json(record(fits(of))))
    found = record_of(seen)
    assert found is not None
    assert (found.verdict, found.status) == ("Fits", FOUR)
    assert decide(of, seen, plan(of)).applies[0].body["data"]["plan"] == record(fits(of))


def test_what_a_new_object_waits_for_is_told_whatever_was_told_before() -> None:
    of = resource()
    reading = unknown_outcome(of.spec, "ReadingModel", "reading config.json", pending=True)
    first = status_of(Situation(of, Observed(), decide(of, Observed(), reading), reading), NOW)
    again = of.model_copy(update={"status": first})
    failed = unknown_outcome(of.spec, "HubError", "the hub refused", pending=True, for_now=True)
    assert planned(again, Observed(), failed)[:3] == ("Unknown", "HubError", "the hub refused")


def test_a_share_that_waits_for_the_plan_is_not_refused() -> None:
    of = resource(kvCache={"memoryPercent": 40})
    away = unknown_outcome(of.spec, "HubUnreachable", "the hub huggingface.co cannot be reached", for_now=True)
    decision = decide(of, Observed(), away)
    assert (decision.applies, decision.refusals) == ((), ())
    status = status_of(Situation(of, Observed(), decision, away), NOW)
    said = {one.type: (one.status, one.reason, one.message) for one in status.conditions}
    assert said["Ready"][:2] == ("False", "HubUnreachable")
    assert said["Stalled"][0] == "False"
    assert "kvCache.memory" in said["Ready"][2]
    # Where there will be no plan, the refusal quotes why.
    never = unknown_outcome(of.spec, "ModelNotInspected", "config.json was not read")
    (refusal,) = decide(of, Observed(), never).refusals
    assert refusal.reason == "MemoryShareUnknown"
    assert "ModelNotInspected: config.json was not read" in refusal.message
