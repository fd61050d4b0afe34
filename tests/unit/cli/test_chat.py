"""`kubectl llm chat` against a stand-in for the API server and the engine behind its proxy, in a pseudo-terminal too.

The proxy itself is tested with both engines on the full node (tests/e2e/test_serving.py).
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

JSON = dict[str, Any]
COMMAND = Path(sys.executable).with_name("kubectl-llm")
OBJECTS = "/apis/llm-operator.dev/v1alpha1/namespaces/team/llmdeployments"
PROXY = "/api/v1/namespaces/team/services/qwen:http/proxy"


def llm(name: str, **more: Any) -> JSON:
    return {"metadata": {"namespace": "team", "name": name}, "spec": {}, **more}


def available(status: str, reason: str) -> JSON:
    return {
        "status": {
            "conditions": [{"type": kind, "status": status, "reason": reason} for kind in ("Available", "Ready")]
        }
    }


class FakeHandler(BaseHTTPRequestHandler):
    engine: FakeCluster
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        body = self._answer(self.path.partition("?")[0])
        text = json.dumps(body)
        self.send_response(body.get("code", 200))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def _answer(self, path: str) -> JSON:
        if path == f"{PROXY}/v1/models":
            return {"object": "list", "data": [{"id": "m"}]}
        objects = self.engine.objects
        if path == OBJECTS:
            return {"kind": "LLMDeploymentList", "metadata": {}, "items": list(objects.values())}
        name = path.removeprefix(f"{OBJECTS}/")
        missing = {"kind": "Status", "code": 404, "message": f'llmdeployments "{name}" not found'}
        return objects.get(name, missing)

    def do_POST(self) -> None:
        assert self.path.startswith(f"{PROXY}/v1/chat/completions")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.engine.asked.append(body)
        question = body["messages"][-1]["content"]
        if question == "refuse":
            text = json.dumps({"object": "error", "message": "the prompt is too long"})
            self.send_response(400)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._stream(question)

    def _stream(self, question: str) -> None:
        try:
            if question == "think":
                self._piece({"choices": [{"delta": {"reasoning_content": "hm"}}]})
            for word in ("Hello ", "\x1b[2Jworld"):
                self._piece({"choices": [{"delta": {"content": word}}]})
            if question == "broken":
                self._piece({"error": {"message": "out of memory"}})
            if question == "cut":
                self.close_connection = True
                return
            while question == "endless":
                self._piece({"choices": [{"delta": {"content": "again "}}]})
                time.sleep(0.02)
            self._write(b"data: [DONE]\n\n")
            self._write(b"")
        except OSError:
            self.engine.closed.set()

    def _piece(self, value: JSON) -> None:
        self._write(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _write(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()


@dataclass
class FakeCluster:
    """Speaks for the API server, and the OpenAI API behind its proxy; the question decides what it answers."""

    folder: Path
    objects: dict[str, JSON] = field(default_factory=lambda: {"qwen": llm("qwen")})
    asked: list[JSON] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        handler = type("Bound", (FakeHandler,), {"engine": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
            "users": [{"name": "u", "user": {}}],
        }
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(config))

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "NO_PROXY": "*", "COLUMNS": "80", "TERM": "dumb"}


@pytest.fixture
def space(tmp_path: Path) -> Iterator[FakeCluster]:
    made = FakeCluster(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


def ran(space: FakeCluster, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, standard output, standard error; no terminal."""
    done = subprocess.run(
        [str(COMMAND), *arguments],
        env=space.environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def test_one_question_through_the_proxy(space: FakeCluster) -> None:
    code, output, errors = ran(space, "chat", "qwen", "-m", "hi", "--system", "be short", "--max-tokens", "5")
    assert (code, output, errors) == (0, "Hello \\x1b[2Jworld\n", "")
    (asked,) = space.asked
    system, question = {"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}
    assert asked == {"model": "m", "stream": True, "max_tokens": 5, "messages": [system, question]}


def test_a_question_from_standard_input(space: FakeCluster) -> None:
    assert ran(space, "chat", "qwen", stdin="from a pipe\n")[0] == 0
    assert space.asked[0]["messages"] == [{"role": "user", "content": "from a pipe"}]
    assert ran(space, "chat", "qwen") == (
        *(2, ""),
        "kubectl llm chat: there is no question: give -m, or write it to standard input\n",
    )


def test_thoughts_are_shown_apart(space: FakeCluster) -> None:
    assert ran(space, "chat", "qwen", "-m", "think")[1] == "\n[thinks] hm\n[answers] Hello \\x1b[2Jworld\n"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("broken", "qwen stopped with an error: out of memory"),
        ("refuse", "cannot ask qwen: 400 the prompt is too long"),
        ("cut", "qwen broke off in the middle of the answer: the engine may have restarted; ask again"),
    ],
)
def test_an_answer_that_goes_wrong_is_one_sentence(space: FakeCluster, question: str, said: str) -> None:
    code, _, errors = ran(space, "chat", "qwen", "-m", question)
    assert (code, errors) == (2, f"kubectl llm chat: {said}\n")


def test_what_cannot_be_talked_to_is_said(space: FakeCluster) -> None:
    code, _, errors = ran(space, "chat", "qwn", "-m", "hi")
    assert code == 2
    assert errors == ("kubectl llm chat: there is no LLMDeployment 'qwn' in namespace team; did you mean qwen?\n")
    space.objects["qwen"] = llm("qwen", **available("False", "NoReadyReplica"))
    assert "qwen does not serve: NoReadyReplica" in ran(space, "chat", "qwen", "-m", "hi")[2]
    space.objects["keyed"] = llm("keyed", spec={"engine": {"apiKey": {"name": "secret", "key": "key"}}})
    assert "keyed needs an API key" in ran(space, "chat", "keyed", "-m", "hi")[2]


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, space: FakeCluster, *arguments: str) -> None:
        self.child, self.descriptor = pty.fork()
        if self.child == 0:
            # As a terminal starts a program: a test run under nohup, or in the background, has them ignored.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(COMMAND, [str(COMMAND), *arguments], space.environment)
        self.seen = ""

    def until(self, text: str) -> None:
        end = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.descriptor], [], [], 1)[0]:
                try:
                    self.seen += os.read(self.descriptor, 4096).decode()
                except OSError as error:
                    raise AssertionError(f"{text!r} never came: {self.seen}") from error
        self.seen = self.seen.split(text, 1)[1]

    def say(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def ended(self) -> int:
        _, status = os.waitpid(self.child, 0)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)


def test_a_conversation_on_a_terminal(space: FakeCluster, tmp_path: Path) -> None:
    terminal = Terminal(space, "chat", "qwen")
    terminal.until("> ")
    terminal.say("/system be kind\n")
    terminal.until("System prompt set.")
    terminal.until("> ")
    terminal.say("one \\\ntwo\n")
    terminal.until("world")
    terminal.until("first after")
    terminal.until("> ")
    terminal.say("endless\n")
    terminal.until("again again")
    terminal.say("\x03")
    terminal.until("[stopped]")
    assert space.closed.wait(30), "the engine was not told that nobody listens"
    terminal.until("> ")
    terminal.say(f"/save {tmp_path / 'talk.json'}\n")
    terminal.until("Saved to")
    terminal.until("> ")
    terminal.say("broken\n")
    terminal.until("qwen stopped with an error: out of memory")
    terminal.until("> ")
    terminal.say("/reset\n")
    terminal.until("starts again")
    terminal.until("> ")
    terminal.say("hi\n")
    terminal.until("first after")
    terminal.until("> ")
    terminal.say("\x04")
    assert terminal.ended() == 0
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert [entry["role"] for entry in saved] == ["system", "user", "assistant", "user", "assistant"]
    assert saved[1]["content"] == "one \ntwo"
    assert saved[4]["content"].startswith("Hello \x1b[2Jworldagain ")
    assert space.asked[-1]["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
    ]


def test_a_terminal_that_goes_away_ends_the_command(space: FakeCluster) -> None:
    terminal = Terminal(space, "chat", "qwen")
    terminal.until("> ")
    os.kill(terminal.child, signal.SIGHUP)
    assert terminal.ended() != 0
