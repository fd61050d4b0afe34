"""Two operators with different settings serve one namespace: one stands aside, and says so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from devcluster.control_plane import ControlPlane
from llm_operator.api import KIND
from llm_operator.kube import contest
from tests.cluster.helpers import JSON, Space, condition_of
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
STAYS_SECONDS = 6.0


def settings(name: str) -> tuple[str, ...]:
    """Another image of the model tools, another peer of the policies, and a Lease of its own."""
    return (
        "--no-gpu-inventory", "--lease-name", name, "--lease-namespace", "default",
        "--model-tools-image", f"tools-of-{name}:1", "--network-policies",
        "--network-policy-from", f'[{{"namespaceSelector": {{"matchLabels": {{"of": "{name}"}}}}}}]',
    )  # fmt: skip


def claim(space: Space) -> None:
    labels = {"llm-operator.dev/cache": "true"}
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    space.create({"metadata": {"name": "models", "labels": labels}, "spec": spec}, "PersistentVolumeClaim")


def state(space: Space) -> JSON:
    """Versions of everything that an operator writes."""
    kinds = (KIND, "Deployment", "Service", "NetworkPolicy", "Job")
    return {
        f"{kind} {item['metadata']['name']}": (item["metadata"]["uid"], item["metadata"]["resourceVersion"])
        for kind in kinds
        for item in space.plane.request("GET", space.path(kind))["items"]
    }


def test_one_of_two_operators_stands_aside(cluster_control_plane: ControlPlane, tmp_path: Path) -> None:
    space = Space(cluster_control_plane, "two-operators")
    claim(space)
    cached = llm("cached", cache={"claimName": "models"}, model={"huggingFace": {"repository": "org/model"}})
    # No node takes the Jobs' pods: they wait to begin, so each operator would make them again as it would have them.
    space.create({**cached, "spec": {**cached["spec"], "nodeSelector": {"no-such": "node"}}})
    space.create(llm("served", nodeSelector={"no-such": "node"}))
    path = cluster_control_plane.kubeconfig
    names = ("one", "two")
    logs = {name: tmp_path / name for name in names}

    def contested(name: str) -> str:
        return condition_of(space.get(KIND, name), contest.CONDITION)[2]

    with (
        OperatorUnderTest(path, space.name, arguments=settings("one"), log=logs["one"]) as one,
        OperatorUnderTest(path, space.name, arguments=settings("two"), log=logs["two"]) as two,
    ):
        one.wait_ready()
        two.wait_ready()
        for name in ("cached", "served"):
            eventually(lambda: contested(name), 90, lambda: str(space.get(KIND, name)))  # noqa: B023
        # A write that was under way drops the condition once more; then it is said again.
        eventually(lambda: _quiet(space), 60, lambda: f"{state(space)}")
        for name in ("cached", "served"):
            assert contested(name).startswith(
                ("Operator default/one stands aside", "Operator default/two stands aside")
            )
            assert condition_of(space.get(KIND, name), contest.CONDITION)[:2] == ("True", "TwoOperators")
        events = space.plane.request("GET", space.path("Event"))["items"]
        assert any(event["reason"] == contest.REASON and event["type"] == "Warning" for event in events)
        # The one that goes on still carries out what the object says.
        space.patch("served", {"spec": {"contextLength": 2048}})
        eventually(lambda: "2048" in str(space.get("Deployment", "served")), why="the change is carried out")
        assert contested("served")
    for log in logs.values():
        assert "Traceback" not in log.read_text()


def test_a_person_who_edits_and_deletes_is_no_second_operator(
    cluster_control_plane: ControlPlane, tmp_path: Path
) -> None:
    space = Space(cluster_control_plane, "one-operator")
    claim(space)
    cached = llm("cached", cache={"claimName": "models"}, model={"huggingFace": {"repository": "org/model"}})
    space.create({**cached, "spec": {**cached["spec"], "nodeSelector": {"no-such": "node"}}})
    status = f"{space.path(KIND)}/cached/status?fieldManager=kubectl-edit"

    def job() -> str:
        jobs = space.plane.request("GET", space.path("Job"))["items"]
        return next((str(one["metadata"]["uid"]) for one in jobs), "")

    with OperatorUnderTest(
        cluster_control_plane.kubeconfig, space.name, arguments=settings("one"), log=tmp_path / "log"
    ) as operator:
        operator.wait_ready()
        for _ in range(2 * contest.MOST_UNDONE):
            before = eventually(job, why="a Job")
            (one,) = space.plane.request("GET", space.path("Job"))["items"]
            space.delete("Job", one["metadata"]["name"])
            edit: JSON = {"status": {"conditions": []}}
            space.plane.request("PATCH", status, edit, "application/merge-patch+json")
            eventually(lambda: job() not in ("", before), why="the Job is made again")  # noqa: B023
            eventually(
                lambda: space.condition("cached", "Ready")[0] == "False",
                why=lambda: f"the status is written again: {space.get(KIND, 'cached')}",
            )
            assert condition_of(space.get(KIND, "cached"), contest.CONDITION)[:2] != ("True", "TwoOperators")


def _quiet(space: Space) -> bool:
    before = state(space)
    time.sleep(STAYS_SECONDS)
    return state(space) == before
