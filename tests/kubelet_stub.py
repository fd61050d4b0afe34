"""A stub of the kubelet on loopback: the API server asks it for the logs of pods that do not run.

A stub and not a kubelet: the engine whose capacity is read needs a GPU. The request for the log, its way through the
API server and the operator's reading are real.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.servers import Serving


class StubKubelet(Serving):
    """Logs by (namespace, pod)."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.logs: dict[tuple[str, str], str] = {}
        self.asked: list[str] = []
        """Every path so far."""
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), self._handler()), (certificate, key))
        self.port: int = self.server.server_port

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        kubelet = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kubelet.asked.append(self.path)
                _, kind, namespace, pod, *_ = urlsplit(self.path).path.split("/")
                text = kubelet.logs.get((namespace, pod)) if kind == "containerLogs" else None
                body = (text if text is not None else "no such log").encode()
                self.send_response(404 if text is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler
