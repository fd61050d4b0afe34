"""What is made again, and what is not: real API server, real operator; the test plays the kubelet."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.control_plane import ControlPlane
from llm_operator.api import KIND
from tests.cluster.helpers import JSON, Space
from tests.cluster.test_model_jobs import FETCHED, TOOLS, becomes, cached, claim, end_pod, job_name, uid
from tests.operator_process import OperatorUnderTest
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
numbers = itertools.count()
OVERLAY: JSON = {"metadata": {"labels": {"cost-center": "research"}}}
IMAGE: JSON = {"image": {"reference": "registry.example/model:1"}}


@pytest.fixture(scope="module")
def plane(cluster_control_plane: ControlPlane) -> ControlPlane:
    return cluster_control_plane


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorUnderTest]:
    log = tmp_path_factory.mktemp("operator") / "log"
    spaces = [f"served-{number}" for number in range(10)]
    with OperatorUnderTest(plane.kubeconfig, *spaces, arguments=TOOLS, log=log) as process:
        process.wait_ready()
        yield process
    assert "Traceback" not in log.read_text()


@pytest.fixture
def space(plane: ControlPlane) -> Space:
    return Space(plane, f"served-{next(numbers)}")


def served(space: Space, **spec: Any) -> None:
    """An object that is served from its cache, and whose Deployment was written once, by its creation."""
    claim(space)
    body = cached("demo", gpu={"product": "A100"}, **spec)
    space.create(body)
    end_pod(space, job_name(body, space, "fetch"), FETCHED)
    eventually(lambda: "persistentVolumeClaim" in volume(space), why="the engine mounts the claim")


def volume(space: Space) -> JSON:
    """The model's volume of the engine's pods; empty where they have none."""
    body = space.get("Deployment", "demo") or {"spec": {"template": {"spec": {}}}}
    volumes = body["spec"]["template"]["spec"].get("volumes") or []
    return next((one for one in volumes if one["name"] == "model"), {})


@pytest.mark.parametrize("overlay", [None, OVERLAY], ids=["plain", "with podTemplate"])
@pytest.mark.parametrize("model", [None, IMAGE], ids=["from the hub", "from an image"])
def test_a_model_moves_from_the_cache(
    operator: OperatorUnderTest, space: Space, overlay: JSON | None, model: JSON | None
) -> None:
    served(space, **({"podTemplate": overlay} if overlay else {}))
    changed: JSON = {"cache": None}
    if model is not None:
        changed["model"] = {"huggingFace": None, **model}
    space.patch("demo", {"spec": changed})
    kind = "image" if model is not None else "emptyDir"

    def moved() -> bool:
        return kind in volume(space) and "persistentVolumeClaim" not in volume(space)

    eventually(moved, 60, why=lambda: f"{volume(space)}: {space.condition('demo', 'Ready')}")
    body = space.get(KIND, "demo")
    assert body is not None
    assert space.condition("demo", "Stalled")[0] == "False", space.condition("demo", "Stalled")


@pytest.mark.parametrize(("words", "reason"), [("", "ResultMissing"), ("\ufffd{", "ToolFailed")])
def test_a_complete_job_without_a_result_is_told_and_not_made_again_at_once(
    operator: OperatorUnderTest, space: Space, words: str, reason: str
) -> None:
    claim(space)
    body = space.create(cached("demo"))
    job = job_name(body, space, "fetch")
    end_pod(space, job, words)
    first = uid(space, job)
    becomes(space, "demo", "Stalled", "True", reason)
    becomes(space, "demo", "ModelCached", "False", reason)
    assert f"kubectl delete job {job}" in space.condition("demo", "ModelCached")[2]
    operator.wait_idle()
    assert uid(space, job) == first
    # By hand, as the message says.
    space.delete("Job", job)
    eventually(lambda: uid(space, job) not in ("", first), why="a new Job")
    end_pod(space, job, FETCHED)
    becomes(space, "demo", "ModelCached", "True", "Cached")
