"""A stub of the kubelet on loopback: the API server asks it for the logs of pods that do not run.

A stub and not a kubelet: the engine whose capacity is read needs a GPU. The request for the log, its way through the
API server and the operator's reading are real.
"""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class StubKubelet:
    """Logs by (namespace, pod)."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.logs: dict[tuple[str, str], str] = {}
        self.asked: list[str] = []
        """Every path so far."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

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
