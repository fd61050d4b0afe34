"""The filter before the engines' routers: a real uvicorn, started as a pod starts it; all routes of all versions."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_operator.engines import engine_of, guard
from tests.engines import environments
from tests.engines.environments import lite_interpreter
from tests.engines.routes import routes

HERE = Path(__file__).resolve().parent
START_SECONDS = 60
SERVED = {
    "lmdeploy": {
        "/distserve/engine_info", "/health", "/metrics", "/v1/chat/completions", "/v1/chat/interactive",
        "/v1/completions", "/v1/embeddings", "/v1/encode", "/v1/models", "/v1/responses",
    },
    "vllm": {
        "/health", "/metrics", "/v1/audio/transcriptions", "/v1/audio/translations", "/v1/chat/completions",
        "/v1/chat/completions/batch", "/v1/chat/completions/derender", "/v1/chat/completions/render", "/v1/completions",
        "/v1/completions/derender", "/v1/completions/render", "/v1/decisions", "/v1/embeddings", "/v1/messages",
        "/v1/messages/count_tokens", "/v1/messages/render", "/v1/models", "/v1/realtime", "/v1/rerank", "/v1/responses",
        "/v1/responses/render", "/v1/responses/{response_id}", "/v1/responses/{response_id}/cancel", "/v1/score",
        "/v1/systemone",
    },
}  # fmt: skip
"""Every route that was read and found to be of the serving API. A new one of a new version fails here until it was."""
VERSIONS = [(engine, version) for engine in environments.TESTED for version in environments.tested_versions(engine)]


class Server:
    """A guarded server in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, guarded: bool = True) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [str(lite_interpreter()), "-W", "ignore", str(HERE / "workers" / "guarded_app.py"), str(self.port)]
        command += arguments
        if guarded:
            (folder / guard.FILE).write_text(guard.source())
            command = [word.replace(guard.FOLDER, str(folder)) for word in guard.guarded(())] + command
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self.process = subprocess.Popen(command, env=environment)

    def wait(self) -> None:
        """Until it answers."""
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask("GET", "/health")
            except OSError:
                assert self.process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.1)
            else:
                return

    def ask(self, method: str, path: str, address: str = "127.0.0.1") -> tuple[int, str]:
        """Status and body."""
        connection = http.client.HTTPConnection(address, self.port, timeout=30)
        try:
            connection.request(method, path, body=b"xxx" if method == "POST" else None)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def stop(self) -> int:
        """End it as the kubelet does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("guard"))
    try:
        running.wait()
        yield running
    finally:
        running.stop()


@pytest.mark.parametrize(("engine", "version"), VERSIONS)
def test_every_route_of_a_version_is_served_or_refused_as_reviewed(server: Server, engine: str, version: str) -> None:
    declared = routes(engine, version)
    # Fewer would mean that the sources are read wrongly.
    assert {"/v1/models", "/health", "/metrics", "/update_weights", "/pooling"} <= declared
    for route in sorted(declared):
        path = route.replace("{", "").replace("}", "")
        served = route in SERVED[engine]
        for method in ("GET", "POST"):
            expected = served and (route != "/distserve/engine_info" or method == "GET")
            status, body = server.ask(method, path)
            assert (status == 200) == expected, (engine, version, method, path, status)
            assert ("reached" in body) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../update_weights", "/v1/%2e%2e/update_weights", "//update_weights", "/%75pdate_weights",
        "/v1/..%2fsleep", "/v1%2f..%2fsleep", "http://x/sleep", "/sleep?x=/v1/models", "/sleep;/v1/", "/v1\\..\\sleep",
        "/health/../sleep",
    ],
)  # fmt: skip
def test_disguised_paths_are_not_found(server: Server, path: str) -> None:
    assert server.ask("POST", path)[0] in (400, 404)


def test_encoded_names_reach_the_engine(server: Server) -> None:
    status, body = server.ask("GET", "/v1/models/org%2Fname")
    assert (status, json.loads(body)) == (200, {"reached": "v1/models/org/name"})


def test_streams_pass(server: Server) -> None:
    status, body = server.ask("POST", "/v1/stream")
    assert (status, body.count("data:")) == (200, 3)


def test_it_listens_for_the_network_and_ends_by_sigterm(tmp_path: Path) -> None:
    running = Server(tmp_path)
    try:
        running.wait()
        assert running.ask("GET", "/health", address="127.0.0.2")[0] == 200
    finally:
        code = running.stop()
    assert code in (0, -signal.SIGTERM)


def test_without_the_guard_nothing_but_loopback_is_opened(tmp_path: Path) -> None:
    running = Server(tmp_path, guarded=False)
    try:
        running.wait()
        with pytest.raises(ConnectionRefusedError):
            running.ask("GET", "/health", address="127.0.0.2")
    finally:
        running.stop()


def test_a_root_path_opens_nothing(tmp_path: Path) -> None:
    running = Server(tmp_path, "/v1")
    try:
        running.wait()
        assert running.ask("POST", "/v1/update_weights")[0] == 404
        assert running.ask("POST", "/v1/v1/models")[0] == 200
    finally:
        running.stop()


def run_guarded(folder: Path, program: str, **environment: str) -> str:
    (folder / guard.FILE).write_text(guard.source())
    command = [
        word.replace(guard.FOLDER, str(folder)) for word in guard.guarded((str(lite_interpreter()), "-c", program))
    ]
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_spawned_servers_are_guarded_too(tmp_path: Path) -> None:
    child = "import uvicorn; print(uvicorn.Config.load.__name__, flush=True)"
    program = "import multiprocessing as m; p = m.get_context('spawn').Process(target=exec, args=(CHILD,)); p.start()"
    program = program.replace("CHILD", repr(child))
    assert run_guarded(tmp_path, program) == "guarded_load\n"


def test_each_api_server_of_vllm_is_guarded(tmp_path: Path) -> None:
    """vLLM's own launcher with --api-server-count 2: it spawns the servers, which share a port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / guard.FILE).write_text(guard.source())
    worker = [str(environments.interpreter("vllm")), str(HERE / "workers" / "api_servers.py"), str(port), "2"]
    command = [word.replace(guard.FOLDER, str(tmp_path)) for word in guard.guarded(())] + worker
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    connections: list[http.client.HTTPConnection] = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            said = [json.loads(process.stdout.readline()) for _ in range(2)]
            assert sorted(one["server"] for one in said) == [0, 1]
            assert {one["load"] for one in said} == {"guarded_load"}
            seen: set[int] = set()
            end = time.monotonic() + START_SECONDS
            # The least loaded accepts: connections stay open until both have some.
            while seen != {0, 1}:
                assert time.monotonic() < end, seen
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connections.append(connection)
                try:
                    connection.request("GET", "/v1/models")
                except ConnectionRefusedError:
                    time.sleep(0.2)
                    continue
                answer = connection.getresponse()
                server = json.loads(answer.read())["server"]
                for path in ("/version", "/load", "/collective_rpc"):
                    connection.request("POST", path)
                    refused = connection.getresponse()
                    assert (refused.status, b"only the serving API" in refused.read()) == (404, True), (server, path)
                seen.add(server)
        finally:
            for connection in connections:
                connection.close()
            os.killpg(process.pid, signal.SIGKILL)


def test_vllm_reads_its_modes_as_off() -> None:
    modes = engine_of("VLLM").modes_off
    program = f"import vllm.envs as e; print([bool(getattr(e, name)) for name in {sorted(modes)}])"
    for values, expected in ((modes, False), (dict.fromkeys(modes, "1"), True)):
        done = subprocess.run(
            [environments.interpreter("vllm"), "-c", program],
            env={"PATH": os.environ["PATH"], **values}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == str([expected] * len(modes))


def test_what_an_image_has_on_its_path_stays(tmp_path: Path) -> None:
    own, image = tmp_path / "guard", tmp_path / "image"
    own.mkdir()
    image.mkdir()
    (image / "sitecustomize.py").write_text("print('customized')")
    (image / "extra.py").write_text("print('imported')")
    assert run_guarded(own, "import extra", PYTHONPATH=str(image)) == "customized\nimported\n"


def test_the_engine_keeps_its_process_and_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / guard.FILE).write_text(guard.source())
    command = [word.replace(guard.FOLDER, str(tmp_path)) for word in guard.guarded((str(lite_interpreter()), "-c"))]
    process = subprocess.Popen(
        [*command, "import os, sys; print(os.getpid(), sys.argv); sys.exit(7)", "$(x) a b"],
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (7, f"{process.pid} ['-c', '$(x) a b']\n")
