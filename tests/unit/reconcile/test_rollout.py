"""Whether the Deployment controller begins a rollout, and what is written if it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from llm_operator.live.children import Child, child_from
from llm_operator.live.pods import Pod
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.rollout import ANNOTATION_DESIRED, SURGE, may_stand, set_going, stands
from tests.support.build import pod as pod_of
from tests.support.build import resource

IN_PLACE = {"maxSurge": 0, "maxUnavailable": 1}


def deployment(replicas: int, strategy: Mapping[str, int] = IN_PLACE, observed: int = 2, **status: int) -> Child:
    """A Deployment of generation 2."""
    return child_from(
        {
            "kind": "Deployment",
            "metadata": {"name": "demo", "uid": "deployment", "resourceVersion": "1", "generation": 2},
            "spec": {"replicas": replicas, "strategy": {"type": "RollingUpdate", "rollingUpdate": strategy}},
            "status": {"observedGeneration": observed, "replicas": replicas, **status},
        }
    )


def pod(replica_set: str = "demo-1", **fields: Any) -> Pod:
    return pod_of(resource(), controller=("ReplicaSet", replica_set, f"uid-{replica_set}"), **fields)


def seen(child: Child, *pods: Pod, stands_still: bool = False) -> Observed:
    return Observed({("Deployment", "engine"): child}, pods=pods or (pod(),), rollout_stands=stands_still)


def replica_set(replicas: Any, desired: Any, uid: str = "deployment") -> dict[str, Any]:
    meta = {
        "annotations": {ANNOTATION_DESIRED: desired},
        "ownerReferences": [{"uid": uid, "kind": "Deployment", "controller": True}],
    }
    return {"metadata": meta, "spec": {"replicas": replicas}}


def body(replicas: int) -> dict[str, Any]:
    return {"spec": {"replicas": replicas, "strategy": {"type": "RollingUpdate", "rollingUpdate": IN_PLACE}}}


def test_the_old_replica_set_is_looked_at_while_nothing_is_updated() -> None:
    assert may_stand(seen(deployment(2), pod(), pod("demo-0", deleting=True), pod("demo-9", phase="Failed"))) == (
        "demo-1",
    )


@pytest.mark.parametrize(
    "observed",
    [
        Observed(),
        seen(deployment(2, observed=1)),
        seen(deployment(2, updatedReplicas=1)),
        seen(deployment(0)),
        seen(replace(deployment(2), paused=True)),
        seen(replace(deployment(2), deleting=True)),
        seen(deployment(2), replace(pod(), controller=("", "", ""))),
        seen(deployment(2), pod(deleting=True)),
    ],
    ids=["no Deployment", "unseen", "goes on", "parked", "paused", "deleting", "nobody's pod", "goes"],
)
def test_nothing_is_looked_at_otherwise(observed: Observed) -> None:
    assert may_stand(observed) == ()


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        (replica_set(2, "3"), True),
        (replica_set(2, "1"), True),
        # Of the first step of any rollout.
        (replica_set(1, "2"), False),
        (replica_set(2, "2"), False),
        (replica_set(2, "3", uid="another"), False),
        # What the controller doesn't believe.
        (replica_set(2, "many"), False),
        (replica_set(2, "-3"), False),
        (replica_set(2, None), False),
        (replica_set(None, "3"), False),
        ({}, False),
        ({"metadata": {"annotations": None, "ownerReferences": None}, "spec": None}, False),
    ],
)
def test_a_wrong_annotation_beside_the_right_size_holds_the_rollout(live: dict[str, Any], *, expected: bool) -> None:
    assert stands(deployment(2), live) is expected


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_it_is_set_going_by_one_replica_less(replicas: int) -> None:
    lowered = set_going(body(replicas), seen(deployment(replicas), stands_still=True))["spec"]
    assert (lowered["replicas"], lowered["strategy"]["rollingUpdate"]) == (replicas - 1, SURGE)


@pytest.mark.parametrize(
    ("child", "waits"),
    [
        (deployment(1, SURGE, observed=1), True),
        (deployment(1, SURGE), True),
        (deployment(1, SURGE, updatedReplicas=1), False),
        (replace(deployment(1, SURGE), paused=True), False),
        # Somebody scaled it down, or the object asks for one more.
        (deployment(1, IN_PLACE), False),
        (deployment(1, IN_PLACE, observed=1), False),
        (deployment(2, SURGE), False),
    ],
)
def test_the_number_of_the_spec_waits_for_a_new_pod(child: Child, *, waits: bool) -> None:
    assert (set_going(body(2), seen(child)) != body(2)) is waits


def test_of_one_replica_the_controller_has_to_see_zero_only() -> None:
    assert set_going(body(1), seen(deployment(0, SURGE, observed=1))) != body(1)
    assert set_going(body(1), seen(deployment(0, SURGE))) == body(1)
    assert set_going(body(0), seen(deployment(0, SURGE, observed=1), stands_still=True)) == body(0)
