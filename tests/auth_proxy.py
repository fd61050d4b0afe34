"""A proxy that asks for a name and a password, and knows the way to hosts that no resolver knows."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from tests.support.servers import Serving

USER, PASSWORD = "model-tools", "s3cret-word"


class AuthProxy(Serving):
    """CONNECT only, as clients of HTTPS use it."""

    def __init__(self, ways: Mapping[str, int]) -> None:
        """Take the port on loopback of each host."""
        self.accepted: list[str] = []
        self.refused = 0
        self.ways = dict(ways)
        handler = type("Bound", (_Handler,), {"proxy": self})
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), handler))

    @property
    def url(self) -> str:
        """With the password."""
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    proxy: ClassVar[AuthProxy]

    def do_CONNECT(self) -> None:
        word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Proxy-Authorization") != f"Basic {word}":
            self.proxy.refused += 1
            self.send_response(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        port = self.proxy.ways.get(self.path.partition(":")[0])
        if port is None:
            self.send_error(502)
            return
        self.proxy.accepted.append(self.path)
        with socket.create_connection(("127.0.0.1", port), 10) as hub:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(hub, self.connection), daemon=True)
            back.start()
            _pump(self.connection, hub)
            back.join(10)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
