"""A rollout that the Deployment controller does not begin (kubernetes/kubernetes#102551): real controllers."""

from __future__ import annotations

import pytest

from llm_operator.reconcile.rollout import ANNOTATION_DESIRED
from tests.cluster.helpers import JSON, Space, Spaces, operator_fixture, space_fixture
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

SPACES = Spaces("rollout", 4)
operator = operator_fixture(SPACES, "--no-leader-elect", "--no-gpu-inventory")
space = space_fixture(SPACES)


def replica_sets(space: Space) -> list[JSON]:
    """Of the object `demo`, the newest last."""
    items: list[JSON] = space.plane.request("GET", space.path("ReplicaSet"))["items"]
    return sorted(items, key=lambda item: int(item["metadata"]["annotations"]["deployment.kubernetes.io/revision"]))


def scaled_within_a_rollout(space: Space, replicas: int) -> None:
    """What is left if replicas are lowered in the moment between the two first steps of a rollout."""
    (only,) = replica_sets(space)
    stale = {"metadata": {"annotations": {ANNOTATION_DESIRED: str(replicas + 1)}}}
    space.patch(only["metadata"]["name"], stale, "ReplicaSet")


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_a_rollout_begins_after_replicas_were_lowered_within_one(
    space: Space, operator: OperatorUnderTest, replicas: int
) -> None:
    space.create(llm("demo", replicas=replicas, contextLength=2048))
    eventually(lambda: space.is_ready("demo"))
    scaled_within_a_rollout(space, replicas)
    space.patch("demo", {"spec": {"contextLength": 4096}})
    eventually(lambda: space.is_ready("demo"), why=lambda: f"{space.condition('demo', 'Ready')}")
    old, new = replica_sets(space)
    assert (old["spec"]["replicas"], new["spec"]["replicas"]) == (0, replicas)
    deployment = space.get("Deployment", "demo")
    assert deployment is not None
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert deployment["status"]["updatedReplicas"] == replicas


def test_a_deployment_that_is_paused_is_left_alone(space: Space, operator: OperatorUnderTest) -> None:
    space.create(llm("demo", replicas=2, contextLength=2048))
    eventually(lambda: space.is_ready("demo"))
    scaled_within_a_rollout(space, 2)
    space.patch("demo", {"spec": {"paused": True}}, "Deployment")
    space.patch("demo", {"spec": {"contextLength": 4096}})
    eventually(lambda: space.condition("demo", "Ready")[1] == "DeploymentPaused", why="the pause is said")
    space.wait_quiet(operator)
    (only,) = replica_sets(space)
    assert only["spec"]["replicas"] == 2
    space.patch("demo", {"spec": {"paused": None}}, "Deployment")
    eventually(lambda: space.is_ready("demo") and len(replica_sets(space)) == 2, why="it goes on")
