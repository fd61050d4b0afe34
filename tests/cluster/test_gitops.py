"""What GitOps tools ask of a resource, with the real kubectl on a real API server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devcluster.cache import ROOT
from devcluster.control_plane import ControlPlane
from devcluster.toolchain import ensure
from llm_operator.api import KIND
from tests.cluster.helpers import JSON, Space
from tests.operator_process import OperatorUnderTest
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.yaml") if f"kind: {KIND}" in path.read_text())


class Kubectl:
    """kubectl as one user, with a field manager of its own as each GitOps tool has."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.binary = ensure(["kubectl"]) / "kubectl"

    def run(self, *arguments: str, documents: list[JSON]) -> subprocess.CompletedProcess[str]:
        """One call with documents on stdin."""
        return subprocess.run(
            [str(self.binary), "--kubeconfig", str(self.plane.kubeconfig), *arguments, "-f", "-"],
            input=yaml.safe_dump_all(documents),
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def plane(cluster_control_plane: ControlPlane) -> ControlPlane:
    return cluster_control_plane


@pytest.fixture(scope="module")
def space(plane: ControlPlane) -> Space:
    return Space(plane, "gitops")


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, space: Space) -> Iterator[OperatorUnderTest]:
    with OperatorUnderTest(plane.kubeconfig, space.name) as running:
        yield running


def objects_of(path: Path, namespace: str) -> list[JSON]:
    found = [entry for entry in yaml.safe_load_all(path.read_text()) if entry and entry["kind"] == KIND]
    for entry in found:
        entry["metadata"]["namespace"] = namespace
    return found


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_what_was_applied_shows_no_difference_and_no_conflict(plane: ControlPlane, space: Space, path: Path) -> None:
    kubectl, documents = Kubectl(plane), objects_of(path, space.name)
    flux = ("apply", "--server-side", "--field-manager=kustomize-controller")
    argo = ("apply", "--server-side", "--field-manager=argocd-controller")
    first = kubectl.run(*flux, documents=documents)
    assert first.returncode == 0, first.stderr
    name = documents[0]["metadata"]["name"]

    def seen() -> bool:
        found = space.get(KIND, name) or {}
        generation = found["metadata"]["generation"]
        return bool(found.get("status", {}).get("observedGeneration", 0) >= generation)

    eventually(seen, 60, f"the operator has written the status of {name}")
    before = space.get(KIND, name)
    assert before is not None
    # Defaults were filled in and a status was written; neither is a difference.
    for diff in (("diff",), ("diff", "--server-side", "--field-manager=kustomize-controller")):
        done = kubectl.run(*diff, documents=documents)
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    again = kubectl.run(*flux, documents=documents)
    assert again.returncode == 0, again.stderr
    # A second tool may own the same values: no conflict, as it changes nothing.
    second = kubectl.run(*argo, documents=documents)
    assert second.returncode == 0, second.stderr
    after = space.get(KIND, name)
    assert after is not None
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["spec"] == before["spec"]
    # The object as read back, applied by the one who owns it, is the same object too.
    exported = {key: value for key, value in after.items() if key != "status"}
    exported["metadata"] = {"name": name, "namespace": space.name}
    third = kubectl.run(*flux, documents=[exported])
    assert third.returncode == 0, third.stderr
    found = space.get(KIND, name)
    assert found is not None
    assert found["metadata"]["generation"] == before["metadata"]["generation"]


@pytest.mark.usefixtures("operator")
def test_the_operator_owns_nothing_of_what_users_write(space: Space) -> None:
    for path in EXAMPLES:
        for document in objects_of(path, space.name):
            found = space.get(KIND, document["metadata"]["name"])
            assert found is not None
            for entry in found["metadata"]["managedFields"]:
                if entry.get("subresource") != "status":
                    assert entry["manager"] in ("kustomize-controller", "argocd-controller")
                else:
                    assert set(entry["fieldsV1"]) <= {"f:status"}, entry
