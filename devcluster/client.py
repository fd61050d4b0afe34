"""Requests to an API server over connections that are kept: for starting a cluster, and for tests that ask often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import urllib3

NOT_FOUND = 404
REQUEST_SECONDS = 30.0
READY_SECONDS = 5.0
THREADS = 16
"""Connections that are kept: as many as threads may ask at a time."""


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        """HTTP status code."""
        self.body = body
        """What the server answered, usually a Status object as JSON."""


class ApiClient:
    """Requests as the bearer of a token; no proxy is ever asked, because the servers are on this machine."""

    def __init__(self, url: str, token: str, ca: Path) -> None:
        self.url = url
        self._token = token
        self._pool = urllib3.PoolManager(ca_certs=str(ca), retries=False, maxsize=THREADS)

    def request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        """The decoded answer to one request.

        Raises:
            ApiError: the API server refused.
            OSError: there is no API server.
        """
        return json.loads(self._send(method, path, body, content, REQUEST_SECONDS))

    def ready(self) -> bool:
        """Whether the API server says so itself."""
        try:
            return self._send("GET", "/readyz", None, "text/plain", READY_SECONDS) == b"ok"
        except (ApiError, OSError):
            return False

    def _send(self, method: str, path: str, body: Any, content: str, seconds: float) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content, "Accept": "application/json"}
        try:
            response = self._pool.request(method, self.url + path, body=data, headers=headers, timeout=seconds)
        except urllib3.exceptions.HTTPError as error:
            raise OSError(f"{method} {self.url}{path}: {error}") from error
        if response.status >= 400:
            raise ApiError(response.status, response.data.decode(errors="replace"))
        return response.data
