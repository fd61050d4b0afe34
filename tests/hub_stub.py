"""A stub of the Hugging Face hub on loopback: what the planner asks of it, told from files given by the test.

A stub and not the hub: no network reaches the tests. The client is the real huggingface_hub, with HF_ENDPOINT set to
`url`; paths, headers and error codes are the ones that huggingface_hub 2.4.0 reads.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def safetensors_start(stored_bytes: int) -> bytes:
    """The beginning of a safetensors file with one tensor of that many bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [stored_bytes], "data_offsets": [0, stored_bytes]}}).encode()
    return len(header).to_bytes(8, "little") + header


class StubHub:
    """Repositories as name -> file -> content; errors as name -> HTTP status."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.errors: dict[str, int] = {}
        self.requests: list[str] = []
        """Every "METHOD path" so far."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, name: str, config: bytes, **files: bytes) -> None:
        """A repository with config.json; further files by name, `__` for a dot."""
        self.repositories[name] = {
            "config.json": config,
            **{file.replace("__", "."): content for file, content in files.items()},
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path."""
        parts = path.split("?", maxsplit=1)[0].strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if is_api else parts[:2])
        if name in self.errors:
            code = {401: "RepoNotFound", 403: "GatedRepo", 404: "RepoNotFound"}.get(self.errors[name], "")
            return self.errors[name], {"X-Error-Code": code, "X-Error-Message": "told by the stub"}, b"{}"
        files = self.repositories.get(name)
        if files is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if is_api:
            if parts[4:5] == ["revision"] and parts[5] not in ("main", COMMIT):
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            siblings = [{"rfilename": file} for file in files]
            return 200, {}, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
        content = files.get("/".join(parts[4:]))
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        etag = hashlib.sha256(content).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, content

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._respond(with_body=True)

            def do_HEAD(self) -> None:
                self._respond(with_body=False)

            def _respond(self, *, with_body: bool) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                status, headers, body = hub.answer(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler
