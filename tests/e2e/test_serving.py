"""The whole path: real pods of both engines' real servers, made by the operator that the chart installed."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.session import OPERATOR_NAMESPACE, Session
from tests.e2e.space import eventually, leave

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NAMESPACE = "serving"
SENTENCE = "tiny test model"


@pytest.fixture(scope="module")
def space(installed: Session) -> Iterator[Session]:
    installed.kubectl("create", "namespace", NAMESPACE)
    installed.provide_tiny_model(NAMESPACE)
    yield installed
    leave(installed, NAMESPACE)


def deploy(space: Session, example: str, name: str, **spec: Any) -> None:
    document = space.example(example)[0]
    document["metadata"]["name"] = name
    document["spec"] |= spec
    space.apply([document], NAMESPACE)


def get(space: Session, kind: str, name: str = "") -> Any:
    return json.loads(space.kubectl("-n", NAMESPACE, "get", kind, *([name] if name else []), "-o", "json"))


def ready(space: Session, name: str, seconds: int = 240) -> None:
    space.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", f"--timeout={seconds}s", f"llmdep/{name}")


def condition(space: Session, name: str, kind: str) -> dict[str, str]:
    entries = get(space, "llmdep", name).get("status", {}).get("conditions", [])
    found: dict[str, str] = next((entry for entry in entries if entry["type"] == kind), {"reason": "", "status": ""})
    return found


def pods(space: Session, name: str) -> dict[str, str]:
    """Names and uids of the pods that are not going away."""
    listed = json.loads(
        space.kubectl("-n", NAMESPACE, "get", "pods", "-l", f"llm-operator.dev/deployment={name}", "-o", "json")
    )
    return {
        item["metadata"]["name"]: item["metadata"]["uid"]
        for item in listed["items"]
        if "deletionTimestamp" not in item["metadata"]
    }


def delete(space: Session, name: str) -> None:
    space.kubectl("-n", NAMESPACE, "delete", "llmdep", name, "--timeout=60s")
    eventually(lambda: not pods(space, name), 180, "its pods are gone")


@pytest.fixture(scope="module")
def lmdeploy(space: Session) -> Iterator[str]:
    deploy(space, "tiny-lmdeploy", "tiny-lmdeploy")
    ready(space, "tiny-lmdeploy")
    yield "tiny-lmdeploy"
    delete(space, "tiny-lmdeploy")


def test_lmdeploy_answers(space: Session, lmdeploy: str) -> None:
    assert SENTENCE in space.chat(NAMESPACE, lmdeploy, lmdeploy, "hello")


def test_an_upgrade_and_a_restart_of_the_operator_change_no_pod(space: Session, lmdeploy: str) -> None:
    before = pods(space, lmdeploy)
    space.install_chart("operator.logLevel=DEBUG")
    space.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "restart", "deployment/llm-operator")
    space.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "status", "deployment/llm-operator", "--timeout=120s")
    time.sleep(5)
    assert pods(space, lmdeploy) == before
    assert condition(space, lmdeploy, "Ready")["status"] == "True"


def test_a_deleted_child_comes_back(space: Session, lmdeploy: str) -> None:
    before = get(space, "service", lmdeploy)["metadata"]["uid"]
    space.kubectl("-n", NAMESPACE, "delete", "service", lmdeploy)
    eventually(
        lambda: (
            lmdeploy in space.kubectl("-n", NAMESPACE, "get", "services")
            and get(space, "service", lmdeploy)["metadata"]["uid"] != before
        )
    )


def test_a_killed_engine_recovers(space: Session, lmdeploy: str) -> None:
    (name,) = pods(space, lmdeploy)
    # The first process of a PID namespace hears no SIGKILL from within, but the SIGTERM that it has a handler for.
    script = (
        "import os, signal\n"
        "for entry in os.listdir('/proc'):\n"
        "    if entry.isdigit() and int(entry) != os.getpid(): os.kill(int(entry), signal.SIGTERM)\n"
    )
    subprocess.run(
        [str(space.binaries / "kubectl"), "--kubeconfig", str(space.kubeconfig), "-n", NAMESPACE, "exec", name, "--",
         "python3", "-c", script],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip

    def restarted() -> bool:
        status = get(space, "pod", name)["status"]["containerStatuses"][0]
        return bool(status["restartCount"] >= 1)

    eventually(restarted, 120, "the container was restarted")
    eventually(lambda: condition(space, lmdeploy, "Ready")["status"] == "True", 120, "Ready again")
    assert SENTENCE in space.chat(NAMESPACE, lmdeploy, lmdeploy, "hello")


def test_scaling_keeps_the_first_pod(space: Session, lmdeploy: str) -> None:
    before = pods(space, lmdeploy)
    space.kubectl("-n", NAMESPACE, "scale", f"llmdep/{lmdeploy}", "--replicas=2")
    eventually(lambda: get(space, "llmdep", lmdeploy)["status"].get("readyReplicas") == 2, 180, "two replicas")
    assert before.items() < pods(space, lmdeploy).items()
    space.kubectl("-n", NAMESPACE, "scale", f"llmdep/{lmdeploy}", "--replicas=1")
    eventually(lambda: len(pods(space, lmdeploy)) == 1, 180, "one replica")


def test_sigterm_during_a_stream_finishes_the_stream(space: Session, lmdeploy: str) -> None:
    (name,) = pods(space, lmdeploy)
    address = get(space, "pod", name)["status"]["podIP"]
    code = (
        "import json, sys, urllib.request\n"
        "body = {'model': sys.argv[2], 'stream': True, 'max_tokens': 400, 'ignore_eos': True,"
        " 'messages': [{'role': 'user', 'content': 'hello'}]}\n"
        "request = urllib.request.Request(f'http://{sys.argv[1]}:23333/v1/chat/completions', json.dumps(body).encode(),"
        " {'Content-Type': 'application/json'})\n"
        "for line in urllib.request.urlopen(request, timeout=120): print(line.decode().strip(), flush=True)\n"
    )
    # From a pod beside it: a stream through the API server's proxy would be cut for other reasons.
    client = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stream"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "client",
                    "image": space.images["lmdeploy-cpu-test"],
                    "command": ["python3", "-c", code, address, lmdeploy],
                }
            ],
        },
    }
    space.apply([client], NAMESPACE)
    eventually(lambda: get(space, "pod", "stream")["status"]["phase"] != "Pending", 60, "the client runs")
    eventually(lambda: "data:" in space.kubectl("-n", NAMESPACE, "logs", "stream", "--tail=3"), 60, "the stream began")
    space.kubectl("-n", NAMESPACE, "delete", "pod", name, "--wait=false")
    eventually(
        lambda: get(space, "pod", "stream")["status"]["phase"] in ("Succeeded", "Failed"), 180, "the stream ended"
    )
    log = space.kubectl("-n", NAMESPACE, "logs", "stream")
    assert log.strip().endswith("data: [DONE]"), log[-500:]
    assert len(re.findall(r"^data: \{", log, re.MULTILINE)) > 100
    space.kubectl("-n", NAMESPACE, "delete", "pod", "stream", "--wait=false")
    eventually(lambda: name not in pods(space, lmdeploy), 60)
    ready(space, lmdeploy)


def test_a_changed_spec_rolls_the_pods(space: Session, lmdeploy: str) -> None:
    before = pods(space, lmdeploy)
    space.kubectl(
        "-n", NAMESPACE, "patch", "llmdep", lmdeploy, "--type=merge", "-p", '{"spec": {"contextLength": 640}}'
    )

    def rolled() -> bool:
        body = get(space, "llmdep", lmdeploy)
        fresh = body["status"]["observedGeneration"] == body["metadata"]["generation"]
        return (
            fresh
            and condition(space, lmdeploy, "Ready")["status"] == "True"
            and not pods(space, lmdeploy).keys() & before
        )

    eventually(rolled, 240, "a new pod serves")
    (name,) = pods(space, lmdeploy)
    assert "640" in get(space, "pod", name)["spec"]["containers"][0]["args"]


def test_vllm_answers_and_deletion_leaves_nothing(space: Session) -> None:
    deploy(space, "tiny-vllm", "tiny-vllm")
    ready(space, "tiny-vllm", 360)
    assert SENTENCE in space.chat(NAMESPACE, "tiny-vllm", "tiny-vllm", "hello")
    delete(space, "tiny-vllm")
    for kind in ("deployments", "services", "poddisruptionbudgets"):
        eventually(lambda kind=kind: "tiny-vllm" not in space.kubectl("-n", NAMESPACE, "get", kind), 60, f"no {kind}")


def test_a_missing_secret_an_image_and_a_claim_are_named(space: Session) -> None:
    key = {"name": "no-such-secret", "key": "token"}
    example = space.example("tiny-lmdeploy")[0]["spec"]
    deploy(space, "tiny-lmdeploy", "no-secret", engine={**example["engine"], "apiKey": key})
    deploy(
        space, "tiny-lmdeploy", "no-image", engine={**example["engine"], "image": "docker.io/llm-operator/nothing:none"}
    )
    deploy(space, "tiny-lmdeploy", "no-claim", model={"persistentVolumeClaim": {"claimName": "no-such-claim"}})
    expected = {"no-secret": "SecretMissing", "no-image": "ImagePullFailed", "no-claim": "ClaimMissing"}
    for name, reason in expected.items():
        eventually(
            lambda name=name, reason=reason: condition(space, name, "Ready")["reason"] == reason,
            60,
            f"{name}: {reason}",
        )
    assert "no-such-secret" in condition(space, "no-secret", "Ready")["message"]
    for name in expected:
        space.kubectl("-n", NAMESPACE, "delete", "llmdep", name)


def test_a_crashing_engine_says_why(space: Session) -> None:
    deploy(
        space,
        "tiny-lmdeploy",
        "crashes",
        model={"persistentVolumeClaim": {"claimName": "tiny-model", "path": "no-such-folder"}},
    )
    found = eventually(
        lambda: (
            (entry := condition(space, "crashes", "Ready")) and "no-such-folder" in entry.get("message", "") and entry
        ),
        180,
        "Ready names the folder",
    )
    assert found["status"] == "False"
    assert found["reason"] not in ("", "Unschedulable", "Progressing")
    space.kubectl("-n", NAMESPACE, "delete", "llmdep", "crashes")


def test_an_api_key_guards_the_engine_and_not_the_probes(space: Session) -> None:
    space.kubectl("-n", NAMESPACE, "create", "secret", "generic", "api-key", "--from-literal=token=sesame")
    example = space.example("tiny-lmdeploy")[0]["spec"]
    deploy(
        space, "tiny-lmdeploy", "guarded", engine={**example["engine"], "apiKey": {"name": "api-key", "key": "token"}}
    )
    ready(space, "guarded")
    with pytest.raises(Exception, match=r"401|Unauthorized|provide credentials"):
        space.chat(NAMESPACE, "guarded", "guarded", "hello")
    delete(space, "guarded")
