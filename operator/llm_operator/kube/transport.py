"""One request to the API server and its answer: connections, credentials, deadlines, and the count of both."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import aiohttp

from llm_operator.kube.connection import Connection
from llm_operator.kube.exchange import Answer, Exchange
from llm_operator.kube.reading import read_at_most
from llm_operator.telemetry.metrics import Metrics

LOG_CONNECTIONS = 12
"""Separate connections: a kubelet that does not answer must not hold up writes. Each kind of reader takes a few."""
LOG_TIMEOUT_SECONDS = 5
REQUEST_TIMEOUT_SECONDS = 30
AUTHORIZATION_SECONDS = 5.0
"""For this long the same credentials are sent without a question."""


class Transport:
    """Two pools of connections to one API server: for requests, and for logs."""

    def __init__(
        self, connection: Connection, metrics: Metrics, connections: int, fence: Callable[[], float] | None
    ) -> None:
        """Prepare.

        Args:
            connection: to the API server.
            metrics: counts the requests.
            connections: at a time, but for those of logs.
            fence: seconds that a write may take; raises if this process must not write.
        """
        self._connection = connection
        self._metrics = metrics
        self._limit = connections
        self._fence = fence
        self._session: aiohttp.ClientSession | None = None
        self._logs: aiohttp.ClientSession | None = None
        self._exchange: Exchange | None = None
        """None: a proxy is on the way, and the session does what it expects."""
        self._server = connection.server
        self._headers: dict[str, str] = {}
        self._headers_until = 0.0
        self._counters: dict[tuple[str, int], Any] = {}

    async def open(self) -> None:
        """Open the pools."""
        self._session, self._logs = self._pool(self._limit), self._pool(LOG_CONNECTIONS)
        if self._connection.proxy is None:
            self._exchange = Exchange(self._session, self._server)

    async def close(self) -> None:
        """Close them."""
        for session in (self._session, self._logs):
            if session is not None:
                await session.close()

    async def send(
        self,
        method: str,
        path: str,
        parameters: dict[str, str],
        headers: dict[str, str],
        data: bytes | None,
        limit_bytes: int,
    ) -> Answer:
        """Send one request, and read its answer.

        Raises:
            TooLongError: the answer has more than `limit_bytes` bytes.
            aiohttp.ClientError, TimeoutError: there is none.
        """
        if self._session is None:
            raise RuntimeError("the client is not open: use it as `async with`")
        seconds = self._fence() if self._fence is not None and method != "GET" else REQUEST_TIMEOUT_SECONDS
        seconds = min(seconds, REQUEST_TIMEOUT_SECONDS)
        if self._exchange is not None:
            answer = await self._exchange.send(
                method,
                path,
                parameters,
                headers,
                data,
                common=self._common_headers(),
                seconds=seconds,
                limit=limit_bytes,
            )
            return self._noted(method, answer)
        async with self._session.request(
            method,
            self._server + path,
            params=parameters,
            data=data,
            headers={**headers, **self._common_headers()},
            timeout=aiohttp.ClientTimeout(total=seconds),
        ) as response:
            return self._noted(method, await _read(response, limit_bytes))

    async def read_log(self, path: str, parameters: dict[str, str], limit_bytes: int) -> Answer:
        """Read a log over the connections that are kept for logs.

        Raises:
            TooLongError: it has more than `limit_bytes` bytes.
            aiohttp.ClientError, TimeoutError: no answer within LOG_TIMEOUT_SECONDS.
        """
        if self._logs is None:
            raise RuntimeError("the client is not open: use it as `async with`")
        headers = {"Accept": "application/json", **self._common_headers()}
        timeout = aiohttp.ClientTimeout(total=LOG_TIMEOUT_SECONDS)
        async with self._logs.get(self._server + path, params=parameters, headers=headers, timeout=timeout) as response:
            return self._noted("GET", await _read(response, limit_bytes))

    def _pool(self, limit: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._connection.ssl_context(), limit=limit),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._connection.proxy,
        )

    def _noted(self, method: str, answer: Answer) -> Answer:
        key = (method, answer.status)
        if key not in self._counters:
            self._counters[key] = self._metrics.requests.labels(code=str(answer.status), method=method)
        self._counters[key].inc()
        if answer.status == 401:
            # The token may have been rotated: the next request looks for the new one.
            self._headers_until = 0.0
            self._connection.refused()
        return answer

    def _common_headers(self) -> dict[str, str]:
        now = time.monotonic()
        if now >= self._headers_until:
            authorization = self._connection.authorization()
            self._headers = {}
            if authorization:
                self._headers["Authorization"] = authorization
            self._headers_until = now + AUTHORIZATION_SECONDS
        return self._headers


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> Answer:
    return Answer(response.status, response.headers, await read_at_most(response, limit_bytes))
