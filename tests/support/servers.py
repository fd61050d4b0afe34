"""HTTP servers of tests, each in a separate thread, on loopback."""

from __future__ import annotations

import ssl
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self


class Serving:
    """Serves inside `with`."""

    def __init__(self, server: ThreadingHTTPServer, certificate: tuple[Path, Path] | None = None) -> None:
        """Prepare.

        Args:
            server: bound to its port.
            certificate: of the server and its key; None: plain HTTP.
        """
        self.server = server
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(10)
