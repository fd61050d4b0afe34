"""A fake of an engine's OpenAI-compatible API: it speaks what a test gives it, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Step = dict[str, Any] | str | Callable[[], object]
"""A delta; `cut`, `stop` or `length` for an end; a piece of text that is sent as it is; or something to wait for."""
Script = Callable[[dict[str, Any]], Iterable[Step]]
WAIT_SECONDS = 90.0


def words(text: str) -> list[Step]:
    """A text as deltas of content, a word each."""
    return [{"content": word + " "} for word in text.split()]


class FakeOpenAI:
    """A server on a port of this machine; `fake` in its name because no model answers."""

    def __init__(self, model: str = "tiny", port: int = 0, context: int | None = 2048) -> None:
        self.key = ""
        """The key that it demands; empty: none."""
        self.script: Script = lambda request: [*words(f"You said: {request['messages'][-1]['content'][:80]}"), "stop"]
        self.refusal: tuple[int, str] | None = None
        """HTTP status and message of its answer to every question."""
        self.requests: list[dict[str, Any]] = []
        self.left = threading.Event()
        """Set when a client went away in the middle of an answer."""
        self._entry: dict[str, Any] = {"id": model, "object": "model", "created": 1, "owned_by": "fake"}
        if context is not None:
            self._entry["max_model_len"] = context
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_arguments: object) -> None:
                """Silence."""

            def do_GET(self) -> None:
                fake._models(self)

            def do_POST(self) -> None:
                fake._chat(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Stop serving; the port is free again."""
        self._server.shutdown()
        self._server.server_close()

    def _admitted(self, handler: BaseHTTPRequestHandler) -> bool:
        if not self.key or handler.headers["authorization"] == f"Bearer {self.key}":
            return True
        _answer(handler, 401, {"error": "Unauthorized"})
        return False

    def _models(self, handler: BaseHTTPRequestHandler) -> None:
        if self._admitted(handler):
            _answer(handler, 200, {"object": "list", "data": [self._entry]})

    def _chat(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        if not self._admitted(handler):
            return
        self.requests.append(request)
        if self.refusal is not None:
            status, message = self.refusal
            _answer(handler, status, {"object": "error", "message": message, "type": "error", "code": status})
            return
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        try:
            for step in self.script(request):
                if callable(step):
                    step()
                elif step == "cut":
                    return
                elif step in ("stop", "length"):
                    handler.wfile.write(_event({}, str(step)) + b"data: [DONE]\n\n")
                elif isinstance(step, str):
                    handler.wfile.write(step.encode())
                else:
                    handler.wfile.write(_event(step, None))
        except OSError:
            self.left.set()


def _event(delta: dict[str, Any], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _answer(handler: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
