"""A stand-in for the API server and the engine behind its proxy and its port-forward, and a pseudo-terminal."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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

    def setup(self) -> None:
        self.engine.connections += 1
        super().setup()

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.engine.away:
            self._send(503, {"kind": "Status", "code": 503, "message": "etcd is away"})
            return
        if path.endswith("/portforward"):
            self._forward()
            return
        if path.startswith("/v1/"):
            self.engine.keys.append(self.headers.get("Authorization"))
            if self.engine.key is not None and self.headers.get("Authorization") != f"Bearer {self.engine.key}":
                self._send(401, {"error": "Unauthorized"})
                return
        for known in (self.path, path):
            if known in self.engine.texts:
                self._text(200, self.engine.texts[known], "text/plain")
                return
        body = self._answer(path)
        self._send(body.get("code", 200), body)

    def _send(self, status: int, body: JSON) -> None:
        self._text(status, json.dumps(body), "application/json")

    def _text(self, status: int, text: str, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def _answer(self, path: str) -> JSON:
        if path.removeprefix(PROXY) == "/v1/models":
            return {"object": "list", "data": [{"id": "m"}]}
        if path in self.engine.answers:
            return self.engine.answers[path]
        objects = self.engine.objects
        if path == OBJECTS:
            return {"kind": "LLMDeploymentList", "metadata": {}, "items": list(objects.values())}
        name = path.removeprefix(f"{OBJECTS}/")
        missing = {"kind": "Status", "code": 404, "message": f'llmdeployments "{name}" not found'}
        return objects.get(name, missing)

    def do_POST(self) -> None:
        assert self.path.removeprefix(PROXY) == "/v1/chat/completions"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.engine.asked.append(body)
        self.engine.expected.append(self.headers.get("Expect"))
        question = body["messages"][-1]["content"]
        number = len(self.engine.asked)
        if question == "refuse" or number >= self.engine.refuse_from:
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
        self._stream(question, endless=question == "endless" or number >= self.engine.endless_from)

    def _stream(self, question: str, *, endless: bool) -> None:
        try:
            if question == "think":
                self._piece({"choices": [{"delta": {"reasoning_content": "hm"}}]})
            for delta in self.engine.deltas:
                self._piece({"choices": [{"delta": delta}]})
            if question == "broken":
                self._piece({"error": {"message": "out of memory"}})
            if question == "cut":
                self.close_connection = True
                return
            while endless:
                self._piece({"choices": [{"delta": {"content": "again "}}]})
                time.sleep(0.02)
            if self.engine.finish:
                self._piece({"choices": [{"delta": {"content": ""}, "finish_reason": self.engine.finish}]})
            if self.engine.usage is not None:
                self._piece({"choices": [], "usage": self.engine.usage})
            self._write(b"data: [DONE]\n\n")
            self._write(b"")
        except OSError:
            self.engine.closed.set()

    def _forward(self) -> None:
        """The kubelet's end of a port-forward: WebSocket frames to and from a connection to this server."""
        self.engine.forwarded.append(self.path)
        magic = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        assert self.headers["Sec-WebSocket-Protocol"] == "v4.channel.k8s.io"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode())
        self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
        self.end_headers()
        self.close_connection = True
        for channel in (b"\0", b"\1"):
            self._frame(channel + b"\x40\x1f")
        if self.engine.forward_error:
            self._frame(b"\1" + self.engine.forward_error.encode())
            return
        remote = socket.create_connection(("127.0.0.1", self.engine.server.server_port))
        threading.Thread(target=self._back, args=(remote,), daemon=True).start()
        # The program may end at any byte: then there is no head, or the file of the connection is closed already.
        with contextlib.suppress(OSError, ValueError, IndexError, struct.error):
            while message := self._message():
                assert message[0] == 0
                remote.sendall(message[1:])
        remote.close()

    def _back(self, remote: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := remote.recv(4096):
                self._frame(b"\0" + data)
            self.wfile.write(b"\x88\0")

    def _frame(self, content: bytes) -> None:
        size = bytes([len(content)]) if len(content) < 126 else b"\x7e" + struct.pack(">H", len(content))
        self.wfile.write(b"\x82" + size + content)
        self.wfile.flush()

    def _message(self) -> bytes:
        """The next binary message; empty at the end."""
        head = self.rfile.read(2)
        if head[0] & 0x0F == 8:
            return b""
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self.rfile.read(2))
        mask, content = self.rfile.read(4), self.rfile.read(size)
        return bytes(byte ^ mask[index % 4] for index, byte in enumerate(content))

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
    answers: dict[str, JSON] = field(default_factory=dict)
    """Further answers of the API server, by path."""
    texts: dict[str, str] = field(default_factory=dict)
    """Answers that are not JSON, by path, or by path and query."""
    key: str | None = None
    """The API key that the engine wants, on its own port; the proxy drops it."""
    away: bool = False
    """The API server answers 503."""
    connections: int = 0
    """How many were opened."""
    expected: list[str | None] = field(default_factory=list)
    """The Expect headers of the questions."""
    keys: list[str | None] = field(default_factory=list)
    """The Authorization headers that reached the engine."""
    usage: JSON | None = None
    deltas: list[JSON] = field(default_factory=lambda: [{"content": "Hello "}, {"content": "\x1b[2Jworld"}])
    """Of every answer."""
    finish: str = ""
    """Why every answer ended."""
    refuse_from: int = 1 << 30
    """From this question on, counted from 1, every one is refused."""
    endless_from: int = 1 << 30
    """From this question on every answer goes on for ever."""
    forwarded: list[str] = field(default_factory=list)
    """Paths of port-forwards."""
    forward_error: str = ""

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


def ran(space: FakeCluster, *arguments: str, stdin: str | bytes = "", **variables: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error; no terminal."""
    done = subprocess.run(
        [str(COMMAND), *(os.fsencode(argument) for argument in arguments)],
        env={**space.environment, **variables},
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    output, errors = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in output + errors
    return done.returncode, output, errors


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, space: FakeCluster, *arguments: str, **variables: str) -> None:
        self.child, self.descriptor = pty.fork()
        if self.child == 0:
            # As a terminal starts a program: a test run under nohup, or in the background, has them ignored.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(
                COMMAND,
                [str(COMMAND), *arguments],
                {name: value for name, value in {**space.environment, **variables}.items() if value},
            )
        self.seen = ""
        self.before = ""
        """What came before the text that was waited for last."""

    def until(self, text: str) -> None:
        end = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.descriptor], [], [], 1)[0]:
                try:
                    self.seen += os.read(self.descriptor, 4096).decode(errors="replace")
                except OSError as error:
                    raise AssertionError(f"{text!r} never came: {self.seen}") from error
        self.before, self.seen = self.seen.split(text, 1)

    def rest(self) -> str:
        """Everything until the command ends."""
        with contextlib.suppress(OSError):
            while part := os.read(self.descriptor, 4096):
                self.seen += part.decode()
        return self.seen

    def say(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def ended(self) -> int:
        _, status = os.waitpid(self.child, 0)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)
