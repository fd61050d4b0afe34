"""`kubectl llm` against a real API server."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.control_plane import ControlPlane
from tests.cluster.helpers import Space, llm

pytestmark = pytest.mark.cluster

COMMAND = Path(sys.executable).with_name("kubectl-llm")
numbers = itertools.count()


@pytest.fixture
def space(control_plane: ControlPlane) -> Space:
    """A namespace with the object `qwen`."""
    made = Space(control_plane, f"cli-{next(numbers)}")
    made.create(llm("qwen", maxConcurrentSequences=4))
    return made


def environment(space: Space) -> dict[str, str]:
    return {**os.environ, "KUBECONFIG": str(space.plane.kubeconfig), "COLUMNS": "80"}


def ran(space: Space, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, standard output, standard error; no terminal."""
    done = subprocess.run(
        [str(COMMAND), *arguments, "-n", space.name],
        env=environment(space),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def set_status(space: Space, kind: str, status: str, reason: str, message: str = "words") -> None:
    body = space.get("LLMDeployment", "qwen")
    assert body is not None
    generation = body["metadata"]["generation"]
    condition = {
        **{"type": kind, "status": status, "reason": reason, "message": message},
        **{"observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"},
    }
    written = {
        "status": {"observedGeneration": generation, "conditions": [condition], "measured": {"kvTokens": 1234567}}
    }
    path = f"{space.path('LLMDeployment', 'qwen')}/status"
    space.plane.request("PATCH", path, written, "application/merge-patch+json")


def test_an_object_that_is_not_there_is_answered_with_the_nearest(space: Space) -> None:
    code, _, errors = ran(space, "status", "qwn")
    assert code == 2
    assert errors == (
        f"kubectl llm status: there is no LLMDeployment 'qwn' in namespace {space.name}; did you mean qwen?\n"
    )


def test_list(space: Space) -> None:
    set_status(space, "Ready", "False", "Unschedulable", "0/1 nodes")
    code, output, _ = ran(space, "list")
    assert code == 0
    head, row = output.splitlines()
    assert head.split()[:3] == ["NAME", "ENGINE", "MODEL"]
    assert row.split() == ["qwen", "VLLM", "tiny/model", "-", "None", "0/1", "1,234,567", "-", "Unschedulable"]
    assert "0/1 nodes" in ran(space, "list", "-o", "wide")[1]
    for form, reader in (("json", json.loads), ("yaml", yaml.safe_load)):
        (item,) = reader(ran(space, "list", "-o", form)[1])["items"]
        assert item["metadata"]["name"] == "qwen"
    every = subprocess.run(
        [str(COMMAND), "list", "-A"], env=environment(space), capture_output=True, text=True, timeout=60, check=True
    )
    assert any(line.startswith(f"{space.name} ") for line in every.stdout.splitlines())


def pod(space: Space) -> None:
    """A pod of the object that has restarted once and is Ready, on a node that does not exist."""
    container = {"name": "engine", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "2"}}}
    body = {
        "metadata": {"name": "qwen-1", "labels": {"llm-operator.dev/deployment": "qwen"}},
        "spec": {"nodeName": "gone", "containers": [container]},
    }
    path = f"/api/v1/namespaces/{space.name}/pods"
    account = {"metadata": {"name": "default"}}
    space.plane.request("POST", f"/api/v1/namespaces/{space.name}/serviceaccounts", account)
    space.plane.request("POST", path, body)
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:00Z"}
    entry = {"name": "engine", "image": "none", "imageID": "", "ready": True, "restartCount": 1}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{**entry, "lastState": {"terminated": ended}}],
    }
    space.plane.request("PATCH", f"{path}/qwen-1/status", {"status": status}, "application/merge-patch+json")


def test_status_answers_the_questions_of_the_night(space: Space) -> None:
    set_status(space, "Ready", "False", "Unschedulable", "0/1 nodes")
    pod(space)
    code, output, errors = ran(space, "status", "qwen")
    assert (code, errors) == (0, "")
    assert "planned not known, held 1,234,567" in output
    last = "last end: OOMKilled, exit code 137, 2026-01-01T00:00:00Z"
    assert f"Pod qwen-1: ready, on gone, 2 GPUs, 1 restart; {last}" in output
    assert "0 offered, 2 held by pods, 0 free" in output
    assert "Operator: no Lease" in output
    assert "Next: free GPUs" in output
    found: Any = json.loads(ran(space, "status", "qwen", "-o", "json")[1])
    assert found["pods"][0]["restarts"] == 1
    assert any("cannot read the metrics of qwen" in note for note in found["notes"])


def test_wait_says_why_it_ended(space: Space) -> None:
    assert ran(space, "wait", "qwen", "--timeout", "0")[0] == 3
    set_status(space, "Stalled", "True", "SecretMissing")
    code, _, errors = ran(space, "wait", "qwen")
    assert (code, errors) == (1, "kubectl llm wait: stalled; see kubectl llm explain SecretMissing\n")
    set_status(space, "Ready", "True", "ReplicasReady")
    assert ran(space, "wait", "qwen")[:2] == (0, "qwen: ReplicasReady: words\n")


def test_restart_annotates_the_object(space: Space) -> None:
    assert ran(space, "restart", "qwen")[0] == 0
    body = space.get("LLMDeployment", "qwen")
    assert body is not None
    assert "llm-operator.dev/restartedAt" in body["metadata"]["annotations"]
    assert body["metadata"]["generation"] == 1


def test_logs_of_what_has_no_pods(space: Space) -> None:
    code, _, errors = ran(space, "logs", "qwen")
    assert (code, errors) == (2, "kubectl llm logs: qwen has no pods; see kubectl llm status qwen\n")
