"""The whole path: real pods of both engines' real servers, made by the operator that the chart installed."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from devcluster.session import OPERATOR_NAMESPACE, CommandError, Session
from llm_operator.api import KIND
from llm_operator.engines.common import PRE_STOP_SLEEP_SECONDS
from tests.browser import chromium
from tests.e2e.chat_page import assert_the_page_answers
from tests.e2e.space import Space, leave, make, restricted
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NAMESPACE = "serving"
CLIENT = Path(__file__).with_name("streaming_client.py")
SENTENCE = "tiny test model"
CONTEXT_LENGTH = 32_768


@pytest.fixture(scope="module")
def space(installed: Session) -> Iterator[Space]:
    make(installed, NAMESPACE)
    installed.provide_tiny_model(NAMESPACE)
    yield Space(installed, NAMESPACE)
    leave(installed, NAMESPACE)


def deploy(space: Space, example: str, name: str, **spec: Any) -> None:
    document = space.session.example(example)[0]
    document["metadata"]["name"] = name
    document["spec"] |= spec
    space.apply(document)


def serving(space: Space, name: str) -> dict[str, str]:
    """Names and uids of the pods that are not going away."""
    metadata = [item["metadata"] for item in space.pods(name)]
    return {entry["name"]: entry["uid"] for entry in metadata if "deletionTimestamp" not in entry}


def sigterm_comes_during_a_stream(space: Space, name: str, seconds: int, end: Callable[[str], object]) -> bool:
    """An object's only pod, by its name, is told to end while it streams for about so long; the stream is whole.

    False where the engine was so much faster than it was when its speed was measured that SIGTERM came too late. The
    client is in a pod beside it: a stream through the API server's proxy would be cut for other reasons.
    """
    (pod,) = serving(space, name)
    engine = space.get("Pod", pod)
    address = f"{engine['status']['podIP']}:{engine['spec']['containers'][0]['ports'][0]['containerPort']}"
    command = ["python3", "-c", CLIENT.read_text(), f"http://{address}/v1/chat/completions", name, str(seconds)]
    container = {"name": "client", "image": space.session.images["lmdeploy-cpu-test"], "command": command}
    spec = restricted({"restartPolicy": "Never", "containers": [container]})
    space.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"}, "spec": spec})

    def phase() -> str:
        return str(space.get("Pod", "client")["status"]["phase"])

    def said() -> list[str]:
        return [] if phase() == "Pending" else space.kubectl("logs", "client").splitlines()

    eventually(lambda: "streaming" in said(), 180, lambda: f"a stream, but {said()}")
    end(pod)
    eventually(lambda: phase() in ("Succeeded", "Failed"), 180, "the stream ends")
    report = json.loads(said()[-1])
    space.kubectl("delete", "pod", "client")
    assert report["end"] == "whole"
    return bool(report["seconds"] > PRE_STOP_SLEEP_SECONDS + 2)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def lmdeploy(space: Space) -> Iterator[str]:
    deploy(space, "tiny-lmdeploy", "tiny-lmdeploy", contextLength=CONTEXT_LENGTH)
    space.ready("tiny-lmdeploy")
    yield "tiny-lmdeploy"
    space.delete("tiny-lmdeploy")


def test_lmdeploy_answers(space: Space, lmdeploy: str) -> None:
    assert SENTENCE in space.chat(lmdeploy)
    options = ("-m", "hello", "--temperature", "0", "--max-tokens", "32")
    assert SENTENCE in space.command_line("chat", lmdeploy, *options)
    assert SENTENCE in space.command_line("chat", lmdeploy, *options, "--port-forward")


def test_the_page_in_front_of_lmdeploy_answers(space: Space, lmdeploy: str, browser: Browser) -> None:
    before = serving(space, lmdeploy)
    assert_the_page_answers(space, browser, lmdeploy, "LMDeploy")
    space.kubectl("patch", "llmdep", lmdeploy, "--type=merge", "-p", '{"spec": {"webUI": null}}')
    eventually(lambda: space.find("Deployment", f"{lmdeploy}-chat") is None, why="the page goes with its field")
    assert serving(space, lmdeploy) == before


def test_an_upgrade_and_a_restart_of_the_operator_change_no_pod(space: Space, lmdeploy: str) -> None:
    before = serving(space, lmdeploy)
    space.session.install_chart("operator.logLevel=DEBUG")
    space.session.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "restart", "deployment/llm-operator")
    space.session.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "status", "deployment/llm-operator", "--timeout=120s")
    time.sleep(5)
    assert serving(space, lmdeploy) == before
    assert space.condition(lmdeploy, "Ready")[0] == "True"


def test_a_deleted_child_comes_back(space: Space, lmdeploy: str) -> None:
    before = space.get("Service", lmdeploy)["metadata"]["uid"]
    space.kubectl("delete", "service", lmdeploy)
    eventually(lambda: (found := space.find("Service", lmdeploy)) and found["metadata"]["uid"] != before)


def test_a_killed_engine_recovers(space: Space, lmdeploy: str) -> None:
    (name,) = serving(space, lmdeploy)
    # The first process of a PID namespace hears no SIGKILL from within, but the SIGTERM that it has a handler for.
    script = (
        "import os, signal\n"
        "for entry in os.listdir('/proc'):\n"
        "    if entry.isdigit() and int(entry) != os.getpid(): os.kill(int(entry), signal.SIGTERM)\n"
    )
    # It ends with the process that it was to end.
    with contextlib.suppress(CommandError):
        space.kubectl("exec", name, "--", "python3", "-c", script)

    def restarted() -> bool:
        status = space.get("Pod", name)["status"]["containerStatuses"][0]
        return bool(status["restartCount"] >= 1)

    eventually(restarted, 120, "the container was restarted")
    eventually(lambda: space.condition(lmdeploy, "Ready")[0] == "True", 120, "Ready again")
    assert SENTENCE in space.chat(lmdeploy)


def test_scaling_keeps_the_first_pod(space: Space, lmdeploy: str) -> None:
    before = serving(space, lmdeploy)
    space.kubectl("scale", f"llmdep/{lmdeploy}", "--replicas=2")
    eventually(lambda: space.get(KIND, lmdeploy)["status"].get("readyReplicas") == 2, 180, "two replicas")
    assert before.items() < serving(space, lmdeploy).items()
    space.kubectl("scale", f"llmdep/{lmdeploy}", "--replicas=1")
    eventually(lambda: len(serving(space, lmdeploy)) == 1, 180, "one replica")


def test_sigterm_during_a_stream_finishes_the_stream(space: Space, lmdeploy: str) -> None:
    def end(name: str) -> None:
        space.kubectl("delete", "pod", name, "--wait=false")
        eventually(lambda: serving(space, lmdeploy).keys() - {name}, why="another pod")

    # The stand-in takes longer for a token the more there are: a little is enough, as a rule.
    for seconds in (6, 12, 24):
        done = sigterm_comes_during_a_stream(space, lmdeploy, seconds, end)
        space.ready(lmdeploy)
        if done:
            return
    pytest.fail("every stream had ended before SIGTERM came")


def test_a_changed_spec_rolls_the_pods(space: Space, lmdeploy: str) -> None:
    before = serving(space, lmdeploy)
    space.kubectl("patch", "llmdep", lmdeploy, "--type=merge", "-p", '{"spec": {"contextLength": 640}}')

    def rolled() -> bool:
        body = space.get(KIND, lmdeploy)
        fresh = body["status"]["observedGeneration"] == body["metadata"]["generation"]
        return (
            fresh and space.condition(lmdeploy, "Ready")[0] == "True" and not serving(space, lmdeploy).keys() & before
        )

    eventually(rolled, 240, "a new pod serves")
    (name,) = serving(space, lmdeploy)
    assert "640" in space.get("Pod", name)["spec"]["containers"][0]["args"]


def test_vllm_answers_and_deletion_finishes_the_stream_and_leaves_nothing(space: Space, browser: Browser) -> None:
    deploy(space, "tiny-vllm", "tiny-vllm", contextLength=CONTEXT_LENGTH)
    space.ready("tiny-vllm", 360)
    assert SENTENCE in space.chat("tiny-vllm")
    said = space.command_line("chat", "tiny-vllm", "-m", "hello", "--temperature", "0", "--max-tokens", "32")
    load = ("-c", "1,2", "--requests", "3", "--prompt-tokens", "32", "--output-tokens", "8", "-o", "json")
    for level in json.loads(space.command_line("bench", "tiny-vllm", *load))["levels"]:
        assert (level["requests"], level["failed"], level["outputTokens"]) == (3, 0, 24), level
    assert SENTENCE in said
    assert_the_page_answers(space, browser, "tiny-vllm", "vLLM 0.32.0")

    def end(name: str) -> None:
        space.kubectl("delete", "llmdep", "tiny-vllm")
        # At once, and not when the garbage collector comes by.
        space.kubectl("delete", "pod", name, "--wait=false", "--ignore-not-found")

    assert sigterm_comes_during_a_stream(space, "tiny-vllm", 25, end)
    eventually(lambda: not space.pods("tiny-vllm"), 180, "its pods are gone")
    kinds = ("Deployment", "Service", "PodDisruptionBudget")
    eventually(lambda: not any(space.find(kind, "tiny-vllm") for kind in kinds), why=f"no {', '.join(kinds)}")


def test_a_missing_secret_an_image_and_a_claim_are_named(space: Space) -> None:
    key = {"name": "no-such-secret", "key": "token"}
    example = space.session.example("tiny-lmdeploy")[0]["spec"]
    deploy(space, "tiny-lmdeploy", "no-secret", engine={**example["engine"], "apiKey": key})
    deploy(
        space, "tiny-lmdeploy", "no-image", engine={**example["engine"], "image": "localhost/llm-operator/nothing:none"}
    )
    deploy(space, "tiny-lmdeploy", "no-claim", model={"persistentVolumeClaim": {"claimName": "no-such-claim"}})
    expected = {"no-secret": "SecretMissing", "no-image": "ImagePullFailed", "no-claim": "ClaimMissing"}

    def reasons() -> dict[str, str]:
        return {name: space.condition(name, "Ready")[1] for name in expected}

    eventually(lambda: reasons() == expected, why=lambda: f"the reasons {expected}, but {reasons()}")
    assert "no-such-secret" in space.condition("no-secret", "Ready")[2]
    for name in expected:
        space.kubectl("delete", "llmdep", name)


def test_a_crashing_engine_says_why(space: Space) -> None:
    deploy(
        space,
        "tiny-lmdeploy",
        "crashes",
        model={"persistentVolumeClaim": {"claimName": "tiny-model", "path": "no-such-folder"}},
    )
    eventually(lambda: "no-such-folder" in space.condition("crashes", "Ready")[2], 180, "Ready names the folder")
    status, reason, _ = space.condition("crashes", "Ready")
    assert status == "False"
    assert reason not in ("", "Unschedulable", "Progressing")
    space.kubectl("delete", "llmdep", "crashes")


def test_an_api_key_guards_the_engine_and_not_the_probes(space: Space) -> None:
    space.kubectl("create", "secret", "generic", "api-key", "--from-literal=token=sesame")
    example = space.session.example("tiny-lmdeploy")[0]["spec"]
    deploy(
        space, "tiny-lmdeploy", "guarded", engine={**example["engine"], "apiKey": {"name": "api-key", "key": "token"}}
    )
    space.ready("guarded")
    with pytest.raises(Exception, match=r"401|Unauthorized|provide credentials"):
        space.chat("guarded")
    options = ("-m", "hello", "--temperature", "0", "--max-tokens", "32")
    assert SENTENCE in space.command_line("chat", "guarded", *options)
    load = ("-c", "2", "--requests", "4", "--prompt-tokens", "32", "--output-tokens", "8", "-o", "json")
    (level,) = json.loads(space.command_line("bench", "guarded", *load))["levels"]
    assert (level["requests"], level["failed"], level["outputTokens"]) == (4, 0, 32), level
    assert level["tokensCountedByEngine"]
    space.kubectl("patch", "secret", "api-key", "-p", '{"stringData": {"token": "another"}}')
    with pytest.raises(CommandError, match="guarded refuses the API key of the Secret api-key; if the Secret changed"):
        space.command_line("chat", "guarded", *options)
    space.delete("guarded")
