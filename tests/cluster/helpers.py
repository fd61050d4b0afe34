"""What the cluster tests share: namespaces, the operator that serves them, objects, and reading them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devcluster.control_plane import ControlPlane
from llm_operator.api import API_VERSION, KIND, PLURAL
from llm_operator.manifests.kinds import KINDS
from tests.operator_process import OperatorUnderTest
from tests.waiting import eventually

EVERYWHERE = f"/apis/{API_VERSION}/{PLURAL}"
JSON = dict[str, Any]


def condition_of(body: JSON | None, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of an object's condition; empty where it is not there."""
    for entry in ((body or {}).get("status") or {}).get("conditions") or ():
        if entry["type"] == kind:
            return entry["status"], entry["reason"], entry["message"]
    return "", "", ""


class Space:
    """A namespace of its own on a control plane."""

    def __init__(self, plane: ControlPlane, name: str) -> None:
        self.plane = plane
        self.name = name
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def path(self, kind: str, name: str = "") -> str:
        """Path of a kind, or of one object."""
        return KINDS[kind].path(self.name) + (f"/{name}" if name else "")

    def create(self, body: JSON, kind: str = KIND) -> JSON:
        """POST."""
        answer: JSON = self.plane.request("POST", self.path(kind), body)
        return answer

    def get(self, kind: str, name: str) -> JSON | None:
        """GET; None where there is none."""
        answer: JSON | None = self.plane.find(self.path(kind, name))
        return answer

    def patch(self, name: str, body: JSON, kind: str = KIND) -> JSON:
        """JSON merge patch."""
        answer: JSON = self.plane.request("PATCH", self.path(kind, name), body, "application/merge-patch+json")
        return answer

    def delete(self, kind: str, name: str) -> None:
        """DELETE in the background."""
        self.plane.request("DELETE", self.path(kind, name), {"propagationPolicy": "Background"})

    def names(self, kind: str) -> set[str]:
        """Names of all objects of a kind."""
        return {item["metadata"]["name"] for item in self.plane.request("GET", self.path(kind))["items"]}

    def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition; empty where it is not there."""
        return condition_of(self.get(KIND, name), kind)

    def wait_quiet(self, operator: OperatorUnderTest) -> None:
        """Until nothing is left to write on this control plane: the metrics of each engine that serves were looked at.

        The condition Healthy follows the first looks, seconds after Ready, for the objects of earlier tests as well.
        """

        def waiting() -> list[str]:
            bodies = self.plane.request("GET", EVERYWHERE)["items"]
            metas = [body["metadata"] for body in bodies if condition_of(body, "Healthy")[1] == "NotSeenYet"]
            served = [meta for meta in metas if not operator.namespaces or meta["namespace"] in operator.namespaces]
            return [f"{meta['namespace']}/{meta['name']}" for meta in served if "deletionTimestamp" not in meta]

        eventually(lambda: not waiting(), 90, lambda: f"each engine that serves was looked at, but {waiting()}")
        operator.wait_idle()

    def is_ready(self, name: str) -> bool:
        """Whether Ready is True for the current generation."""
        body = self.get(KIND, name)
        return (
            body is not None
            and condition_of(body, "Ready")[0] == "True"
            and body["status"]["observedGeneration"] == body["metadata"]["generation"]
        )


class Spaces:
    """The namespaces of one test module, `prefix-0` and on: its operator serves these only.

    Jobs and objects of other tests, which end when they please, are then not written meanwhile.
    """

    def __init__(self, prefix: str, count: int) -> None:
        self.prefix = prefix
        self.names = tuple(f"{prefix}-{number}" for number in range(count))
        self._unused = iter(self.names)

    def next(self, plane: ControlPlane) -> Space:
        """A namespace that no test has had.

        Raises:
            RuntimeError: there is none left.
        """
        name = next(self._unused, None)
        if name is None:
            raise RuntimeError(
                f"the tests take more than {len(self.names)} namespaces {self.prefix}-N: raise the count"
            )
        return Space(plane, name)


@contextmanager
def serving(
    plane: ControlPlane, namespaces: Sequence[str], folder: Path, *arguments: str
) -> Iterator[OperatorUnderTest]:
    """An operator for these namespaces, none: all; its log must have no traceback when it ends."""
    log = folder / "log"
    with OperatorUnderTest(plane.kubeconfig, *namespaces, arguments=arguments, log=log) as process:
        process.wait_ready()
        yield process
    text = log.read_text()
    assert "Traceback" not in text, text[-4000:]


def operator_fixture(spaces: Spaces, *arguments: str) -> object:
    """The fixture `operator` of a test module, with a fake node of 64 GPUs.

    Args:
        spaces: which namespaces it serves.
        arguments: its command line; none: without leader election and without the GPU inventory.
    """

    @pytest.fixture(scope="module")
    def operator(
        cluster_control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[OperatorUnderTest]:
        cluster_control_plane.fake_gpu_node(f"{spaces.prefix}-1", gpus=64)
        with serving(
            cluster_control_plane, spaces.names, tmp_path_factory.mktemp(spaces.prefix), *arguments
        ) as process:
            yield process

    return operator


def space_fixture(spaces: Spaces) -> object:
    """The fixture `space` of a test module: a namespace for each test."""

    @pytest.fixture
    def space(cluster_control_plane: ControlPlane) -> Space:
        return spaces.next(cluster_control_plane)

    return space
