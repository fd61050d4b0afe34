"""Deletions that take their time, and deletions that are refused, on a real API server."""

from __future__ import annotations

import itertools

import pytest

from devcluster.client import ApiError
from llm_operator.api import KIND
from tests.cluster.helpers import JSON, Space, Spaces, operator_fixture, space_fixture
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
SPACES = Spaces("deletions", 5)
looks = itertools.count()
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
operator = operator_fixture(SPACES)
space = space_fixture(SPACES)


def serving(space: Space, **spec: object) -> None:
    space.create(llm("demo", **spec))
    eventually(lambda: space.is_ready("demo"), why=lambda: str(space.condition("demo", "Ready")))


def held(space: Space, pod: str, *, hold: bool) -> None:
    finalizers = ["example.com/held"] if hold else None
    space.patch(pod, {"metadata": {"finalizers": finalizers}}, "Pod")


def test_a_foreground_deletion_ends_when_the_pods_have_ended(operator: OperatorUnderTest, space: Space) -> None:
    """As Argo CD prunes: what comes next may need the GPUs."""
    serving(space)
    (pod,) = space.names("Pod")
    held(space, pod, hold=True)
    space.plane.request("DELETE", space.path(KIND, "demo"), {"propagationPolicy": "Foreground"})

    def going() -> bool:
        return "deletionTimestamp" in (space.get("Pod", pod) or {"metadata": {}})["metadata"]

    eventually(going, why="the pod is being deleted")
    operator.wait_idle()
    assert space.get(KIND, "demo") is not None, "its pod has not ended"
    held(space, pod, hold=False)
    eventually(lambda: space.get(KIND, "demo") is None, why="the object is gone")
    assert space.names("Pod") == set()


def forbidden(space: Space, *, forbid: bool) -> None:
    """A policy of the cluster that lets nobody delete a budget of this namespace."""
    name = f"no-deletion-{space.name}"
    if not forbid:
        space.plane.request("DELETE", f"{BINDINGS}/{name}")
        space.plane.request("DELETE", f"{POLICIES}/{name}")
        return
    rule = {"apiGroups": ["policy"], "apiVersions": ["v1"], "operations": ["DELETE"]}
    match: JSON = {"resourceRules": [{**rule, "resources": ["poddisruptionbudgets"]}]}
    match["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": space.name}}
    policy = {"matchConstraints": match, "validations": [{"expression": "false", "message": "budgets stay here"}]}
    binding = {"policyName": name, "validationActions": ["Deny"]}
    for path, spec in ((POLICIES, policy), (BINDINGS, binding)):
        space.plane.request("POST", path, {"metadata": {"name": name}, "spec": spec})

    def in_force() -> bool:
        meta = {"name": "probe"}
        budget: JSON = {"metadata": meta, "spec": {"selector": {"matchLabels": {"a": "b"}}, "minAvailable": 0}}
        if space.get("PodDisruptionBudget", "probe") is None:
            space.create(budget, "PodDisruptionBudget")
        try:
            space.delete("PodDisruptionBudget", "probe")
        except ApiError as error:
            return "budgets stay here" in str(error)
        return False

    eventually(in_force, why="the policy is in force")


def test_a_refused_deletion_is_told_and_tried_again(operator: OperatorUnderTest, space: Space) -> None:
    serving(space, replicas=2)
    eventually(lambda: space.get("PodDisruptionBudget", "demo") is not None, why="a budget")
    forbidden(space, forbid=True)
    space.patch("demo", {"spec": {"replicas": 1}})
    eventually(
        lambda: space.condition("demo", "Ready")[:2] == ("False", "WriteRefused"),
        why=lambda: str(space.condition("demo", "Ready")),
    )
    message = space.condition("demo", "Ready")[2]
    assert "the deletion of PodDisruptionBudget 'demo' was refused" in message
    assert "budgets stay here" in message
    deployment = space.get("Deployment", "demo")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 1, "the rest is done"
    forbidden(space, forbid=False)

    def ready() -> bool:
        # Looked at anew, and not only after the time for what was refused.
        space.patch("demo", {"metadata": {"annotations": {"example.com/look": str(next(looks))}}})
        return space.is_ready("demo")

    eventually(ready, every=1, why=lambda: str(space.condition("demo", "Ready")))
    assert space.get("PodDisruptionBudget", "demo") is None
