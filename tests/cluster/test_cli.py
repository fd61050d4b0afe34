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
from tests.cluster.helpers import Space
from tests.support.objects import llm

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
    assert row.split() == ["qwen", "VLLM", "tiny/model", "-", "None", "0/1", "1,234,567", "0", "-", "Unschedulable"]
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
    assert "qwen-1: ready, on gone, 2 GPUs, 1 restart in " in output
    assert "the last one: HostMemoryExhausted (OOMKilled), exit code 137, " in output
    assert "nodes have 0, pods hold 2, 0 free (at most 0 on one node)" in output
    assert "Operator:   NOT running: its Lease has no holder" in output
    assert "Next: free GPUs" in output
    found: Any = json.loads(ran(space, "status", "qwen", "-o", "json")[1])
    assert found["pods"][0]["restarts"] == 1
    assert any("qwen does not answer: " in note for note in found["notes"]), found["notes"]


def test_wait_says_why_it_ended(space: Space) -> None:
    assert ran(space, "wait", "qwen", "--timeout", "0")[0] == 3
    set_status(space, "Stalled", "True", "SecretMissing")
    code, _, errors = ran(space, "wait", "qwen")
    assert (code, errors) == (1, "kubectl llm wait: stalled; see kubectl llm explain SecretMissing\n")
    set_status(space, "Ready", "True", "ReplicasReady")
    assert ran(space, "wait", "qwen")[:2] == (0, "qwen: ReplicasReady: words\n")


def test_restart_annotates_the_object(space: Space) -> None:
    code, output, errors = ran(space, "restart", "qwen")
    assert (code, output) == (0, "qwen: the operator replaces the pods; follow it with kubectl llm wait qwen\n")
    assert all(line.startswith("kubectl llm restart: no operator runs ") for line in errors.splitlines())
    body = space.get("LLMDeployment", "qwen")
    assert body is not None
    assert "llm-operator.dev/restartedAt" in body["metadata"]["annotations"]
    assert body["metadata"]["generation"] == 1


def test_logs_of_what_has_no_pods(space: Space) -> None:
    code, _, errors = ran(space, "logs", "qwen")
    assert (code, errors) == (2, "kubectl llm logs: qwen has no pods; see kubectl llm status qwen\n")


@pytest.fixture
def nobody(space: Space, tmp_path: Path) -> dict[str, str]:
    """The environment of a user without any right."""
    config = yaml.safe_load(space.plane.kubeconfig.read_text())
    for user in config["users"]:
        user["user"]["as"] = f"nobody-{space.name}"
    path = tmp_path / "nobody"
    path.write_text(yaml.safe_dump(config))
    return {**environment(space), "KUBECONFIG": str(path)}


def as_nobody(nobody: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [str(COMMAND), *arguments], env=nobody, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_user_without_rights_is_told_which_one_is_missing(space: Space, nobody: dict[str, str]) -> None:
    for command in (("list",), ("status", "qwen"), ("chat", "qwen", "-m", "hi"), ("bench", "qwen"), ("logs", "qwen")):
        code, output, errors = as_nobody(nobody, "-n", space.name, *command)
        assert (code, output, errors.count("\n")) == (2, "", 1), errors
        assert f'User "nobody-{space.name}" cannot ' in errors
        assert errors.endswith("request that right, or name a namespace with -n\n")


def test_status_shows_what_a_user_may_read_and_names_the_rest(space: Space, nobody: dict[str, str]) -> None:
    rule = {"apiGroups": ["llm-operator.dev"], "resources": ["llmdeployments"], "verbs": ["get", "list"]}
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space.name}"
    space.plane.request("POST", f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"nobody-{space.name}"}],
    }
    space.plane.request("POST", f"{rbac}/rolebindings", binding)
    set_status(space, "Ready", "False", "Unschedulable", "0/1 nodes")
    code, output, errors = as_nobody(nobody, "-n", space.name, "status", "qwen")
    assert (code, errors) == (0, "")
    assert "Ready: False Unschedulable: 0/1 nodes" in output
    for right in ("pods", "events", "leases", "nodes"):
        assert f'cannot list resource "{right}"' in output, output
    code, output, _ = as_nobody(nobody, "-n", space.name, "list")
    assert code == 0
    assert output.splitlines()[1].split()[:2] == ["qwen", "VLLM"]


def test_a_wrong_context_is_one_sentence(space: Space) -> None:
    code, _, errors = ran(space, "--context", "nowhere", "list")
    assert code == 2
    assert errors.startswith(
        f"kubectl llm list: the kubeconfig {space.plane.kubeconfig} has no context 'nowhere'; it has"
    )


def test_kubectl_itself_completes_the_plugin(space: Space) -> None:
    paths = {"PATH": f"{COMMAND.parent}:{os.environ['PATH']}"}

    def completed(*words: str) -> list[str]:
        done = subprocess.run(
            [str(space.plane.binaries / "kubectl"), "__complete", "llm", *words],
            env={**environment(space), **paths},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return [line.split("\t")[0] for line in done.stdout.splitlines() if not line.startswith(":")]

    assert {"plan", "list", "chat"} <= set(completed(""))
    assert completed("-n", space.name, "status", "") == ["qwen"]
    assert completed("list", "-o", "") == ["table", "wide", "json", "yaml"]
