"""One request at a time to an API server: enough for starting a cluster and for tests."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class ApiClient:
    """Requests as the bearer of a token; no proxy is ever asked, because the servers are on this machine."""

    def __init__(self, url: str, token: str, ca: Path) -> None:
        self.url = url
        self._token = token
        tls = ssl.create_default_context(cafile=str(ca))
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)
        )

    def request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        """The decoded answer to one request.

        Raises:
            urllib.error.HTTPError: the API server refused.
            OSError: there is no API server.
        """
        return json.loads(self._send(method, path, body, content, seconds=30))

    def ready(self) -> bool:
        """Whether the API server says so itself."""
        try:
            return self._send("GET", "/readyz", None, "text/plain", seconds=5) == b"ok"
        except OSError:
            return False

    def _send(self, method: str, path: str, body: Any, content: str, seconds: float) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content, "Accept": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with self._opener.open(request, timeout=seconds) as response:
            answer: bytes = response.read()
        return answer
