"""What a running vLLM shows of itself on the node: its start, a core that hangs, a private CA and a chat template."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devcluster.pki import make_pki
from devcluster.session import Session
from llm_operator.engines.metric_names import metric_names
from llm_operator.foreign import sample_sum
from tests.e2e.space import Space, leave, make
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NAMESPACE, NAME = "health", "hangs"
PACE = {"operator.engineLookSeconds": 2, "operator.engineSilentSeconds": 15}
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}" + " and so on" * 60
SIGNAL = """
import os, signal, sys
for entry in os.listdir("/proc"):
    if entry.isdigit() and int(entry) not in (1, os.getpid()):
        os.kill(int(entry), getattr(signal, sys.argv[1]))
"""
"""To every process but the API server, which is the first: the core and its helpers."""
TRUSTED = """
import ssl
subjects = [dict(part[0] for part in one["subject"]) for one in ssl.create_default_context().get_ca_certs()]
print([subject.get("commonName") for subject in subjects])
"""


@pytest.fixture(scope="module")
def space(installed: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    make(installed, NAMESPACE)
    installed.provide_tiny_model(NAMESPACE)
    installed.install_chart(numbers=PACE)
    space = Space(installed, NAMESPACE)
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder, ["DNS:nobody.example"])
    certificates = (folder / "ca.crt").read_text()
    for name, data in (("own-ca", {"ca.crt": certificates}), ("templates", {"long.jinja": TEMPLATE})):
        space.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
    document = installed.example("tiny-vllm")[0]
    document["metadata"]["name"] = NAME
    document["spec"] |= {"contextLength": 32_768, "caBundle": {"name": "own-ca", "key": "ca.crt"}}
    document["spec"]["model"]["chatTemplate"] = {"name": "templates", "key": "long.jinja"}
    space.apply(document)
    yield space
    leave(installed, NAMESPACE)
    installed.install_chart()


def running(space: Space) -> float:
    """Requests that the engine says it works on."""
    path = f"/api/v1/namespaces/{space.name}/services/{NAME}:http/proxy/metrics"
    text = space.kubectl("get", "--raw", path)
    return sum(sample_sum(text, metric.name) or 0.0 for metric in metric_names("VLLM", "requests_running"))


def send(space: Space, pod: str, signal: str) -> None:
    """A signal to the engine's core."""
    space.kubectl("exec", pod, "-c", "engine", "--", "python3", "-c", SIGNAL, signal)


@contextmanager
def hanging(space: Space, pod: str) -> Iterator[None]:
    """The engine's core hangs."""
    send(space, pod, "SIGSTOP")
    try:
        yield
    finally:
        send(space, pod, "SIGCONT")


@contextmanager
def a_long_answer(space: Space) -> Iterator[None]:
    """Somebody has the engine write for as long as its context lasts."""
    program = str(Path(sys.executable).with_name("kubectl-llm"))
    load = ("-c", "1", "--requests", "1", "--prompt-tokens", "32", "--output-tokens", "30000", "--seconds", "600")
    environment = {"KUBECONFIG": str(space.session.kubeconfig), "NO_PROXY": "*"}
    command = [program, "bench", NAME, "-n", space.name, *load]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_start_says_what_it_does(space: Space) -> None:
    seen: list[str] = []

    def serves() -> bool:
        status = space.status(NAME)
        stage = (status.get("progress") or {}).get("stage")
        if stage and stage not in seen:
            seen.append(stage)
        return space.condition(NAME, "Ready")[0] == "True"

    eventually(serves, 360, lambda: f"Ready, but {space.condition(NAME, 'Ready')}", every=0.5)
    told = {"Starting", "Reading weights", "Profiling memory", "Making the KV cache", "Opening the server"}
    assert told & set(seen), seen


def test_the_template_and_the_ca_are_the_engines(space: Space) -> None:
    path = f"/api/v1/namespaces/{space.name}/services/{NAME}:http/proxy/v1/chat/completions"
    request = {"model": NAME, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    assert space.session.request("POST", path, request)["usage"]["prompt_tokens"] >= 60
    (pod,) = space.pods(NAME)
    names = space.kubectl("exec", pod["metadata"]["name"], "-c", "engine", "--", "python3", "-c", TRUSTED)
    assert "'ca'" in names
    assert names.count("',") > 50, "the public roots are gone"


def test_a_core_that_hangs_is_not_healthy_and_its_end_is_seen(space: Space) -> None:
    space.becomes(NAME, "Healthy", "True", "EnginesWork")
    (pod,) = space.pods(NAME)
    name = pod["metadata"]["name"]

    with a_long_answer(space):
        eventually(lambda: running(space) >= 1, 60, "a request runs")
        with hanging(space, name):
            space.becomes(NAME, "Healthy", "False", "EngineSilent", seconds=120)
            message = space.condition(NAME, "Healthy")[2]
            assert name in message
            assert "delete the pod to get a new engine" in message
            assert space.condition(NAME, "Ready")[0] == "True", "its health check does not see it"
            said = space.command_line("status", NAME)
            assert "Healthy: False EngineSilent" in said
            assert "Next: look at the pod's log, then delete the pod" in said
        space.becomes(NAME, "Healthy", "True", "EnginesWork", seconds=120)
    assert space.get("Pod", name)["status"]["containerStatuses"][0]["restartCount"] == 0


def test_nothing_shows_an_idle_core_that_hangs(space: Space) -> None:
    """docs/operations.md says so: the server answers alone, and says what it said last."""
    space.becomes(NAME, "Healthy", "True", "EnginesWork")
    (pod,) = space.pods(NAME)
    name = pod["metadata"]["name"]
    eventually(lambda: running(space) == 0, 60, "nobody asks it anything")
    with hanging(space, name):
        time.sleep(2 * PACE["operator.engineSilentSeconds"])
        for path in ("health", "metrics", "v1/models"):
            space.kubectl("get", "--raw", f"/api/v1/namespaces/{space.name}/services/{NAME}:http/proxy/{path}")
        assert running(space) == 0
        assert space.condition(NAME, "Healthy")[0] == "True"
        assert space.condition(NAME, "Ready")[0] == "True"


def test_an_idle_core_that_dies_ends_the_engine(space: Space) -> None:
    (pod,) = space.pods(NAME)
    name = pod["metadata"]["name"]

    def engine() -> Any:
        return space.get("Pod", name)["status"]["containerStatuses"][0]

    before = engine()["restartCount"]
    send(space, name, "SIGKILL")
    eventually(lambda: engine()["restartCount"] > before, 120, "the server ends by itself when its core is gone")
    eventually(lambda: engine()["ready"], 360, "the new engine serves")
    space.becomes(NAME, "Ready", "True")
