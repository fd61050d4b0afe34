"""A proxy between one operator and the API server, which answers, delays, cuts and kills as a rule says.

It runs in a thread with a loop of its own, one for all proxies of a test run. A rule sees each request before it is
forwarded and returns what is to happen to it, or None. Rules are called in that loop only, one at a time.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

JSON = dict[str, Any]
T = TypeVar("T")
WRITES = ("POST", "PUT", "PATCH", "DELETE")
BODY_BYTES = 16 << 20
HEALTH = "Healthy"
"""The condition that tells of engines; no engine is here."""


@dataclass(frozen=True)
class Before:
    """Do something, and never forward the request."""

    act: Callable[[], None]


@dataclass(frozen=True)
class After:
    """Forward the request, and do something once the answer is delivered; or, if it is lost, in its place."""

    act: Callable[[], None]
    lost: bool = False


@dataclass(frozen=True)
class Answer:
    """Answer in the API server's place."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content: str = "application/json"


@dataclass(frozen=True)
class Reset:
    """Close the connection without an answer; with `forwarded`, after the API server has done what was asked."""

    forwarded: bool = False


@dataclass(frozen=True)
class Delay:
    """Forward the request after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Silence:
    """Never answer. A watch is answered, and then tells nothing."""


@dataclass(frozen=True)
class Cut:
    """Of a watch: end it after so many seconds, in the middle of a line or with one more line."""

    seconds: float
    last_line: bytes = b""
    reset: bool = False


@dataclass(frozen=True)
class Stale:
    """Answer a list with what an earlier one of the same path was answered with."""


@dataclass(frozen=True)
class Lines:
    """Of a watch: pass on other lines than came.

    Attributes:
        changed: what is passed on of some lines that came together, without their ends.
    """

    changed: Callable[[list[bytes]], list[bytes]]


Fault = Before | After | Answer | Reset | Delay | Silence | Cut | Stale | Lines


def status_answer(code: int, reason: str, message: str = "a fault of the test", **headers: str) -> Answer:
    """An error as the API server words it."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return Answer(code, json.dumps({**body, "code": code}).encode(), headers)


def error_event(code: int, reason: str) -> bytes:
    """A watch's ERROR event."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
    return json.dumps({"type": "ERROR", "object": {**status, "message": "a fault of the test"}}).encode() + b"\n"


@dataclass(frozen=True)
class Exchange:
    """One request."""

    at: float
    """Monotonic seconds."""
    method: str
    path: str
    query: dict[str, str]
    body: bytes
    number: int
    """How many writes there were before this one."""
    authorization: str = ""

    @property
    def write(self) -> bool:
        """It changes something, other than the Lease."""
        return self.method in WRITES and "dryRun" not in self.query and "/leases" not in self.path

    @property
    def lease(self) -> bool:
        """It is about the Lease."""
        return "/leases" in self.path

    @property
    def watch(self) -> bool:
        """It is a watch."""
        return self.query.get("watch", "") in ("true", "1")

    @property
    def listing(self) -> bool:
        """It lists a collection."""
        return self.method == "GET" and not self.watch and "limit" in self.query


Rule = Callable[[Exchange], Fault | None]


class Loop:
    """The thread in which the proxies run."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T], seconds: float = 30) -> T:
        """Run something in the loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def close(self) -> None:
        """End the thread."""
        self.do(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Proxy:
    """One port of the loopback interface in front of one API server."""

    def __init__(self, loop: Loop, server: str, ca: Path, name: str, tls: ssl.SSLContext | None = None) -> None:
        self._loop = loop
        self._server = server
        self._upstream_tls = ssl.create_default_context(cafile=str(ca))
        self.name = name
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.ServerRunner | None = None
        self._lists: dict[str, tuple[int, bytes, str]] = {}
        self._numbered = 0
        self.rule: Rule | None = None
        self.down = False
        """Every connection is reset, and none is answered."""
        self.url = ""
        self.requests: Counter[int] = Counter()
        """By second of the monotonic clock."""
        self.done: list[tuple[float, str, str, int]] = []
        """Time, method, path and status of every write that the API server answered. The path of a status that changes
        nothing but what engines report ends with #engines."""
        self._statuses: dict[str, JSON] = {}
        """By path: the status that was written last."""
        self.faults: Counter[str] = Counter()
        """By kind."""
        loop.do(self._start())

    @property
    def writes(self) -> int:
        """Writes that were sent so far, those that were never forwarded included."""
        return self._numbered

    def made(self) -> Counter[str]:
        """How many objects of each name were created, Events left out; a name by its whole path."""
        return Counter(
            path for _, method, path, status in self.done if (method, status) == ("POST", 201) and "/events" not in path
        )

    def most_per_second(self, since: float, until: float) -> int:
        """Requests in the busiest second of a time."""
        return max((count for second, count in self.requests.items() if since <= second <= until), default=0)

    def disconnect(self) -> None:
        """Reset every connection that is open."""
        self._loop.do(self._disconnect())

    def close(self) -> None:
        """Stop listening."""
        self._loop.do(self._stop())

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._upstream_tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._disconnect()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _disconnect(self) -> None:
        assert self._runner is not None
        server = self._runner.server
        for connection in list(server.connections) if isinstance(server, web.Server) else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        now = time.monotonic()
        self.requests[int(now)] += 1
        if self.down:
            return self._reset(request)
        body = await request.read()
        given = request.headers.get("Authorization", "")
        exchange = Exchange(now, request.method, request.path, dict(request.query), body, self._numbered, given)
        if exchange.write:
            self._numbered += 1
        fault = self.rule(exchange) if self.rule is not None else None
        if fault is not None:
            self.faults[type(fault).__name__] += 1
        return await self._carry_out(request, exchange, fault)

    async def _carry_out(self, request: web.BaseRequest, exchange: Exchange, fault: Fault | None) -> web.StreamResponse:
        match fault:
            case Before():
                fault.act()
                return self._reset(request)
            case Answer():
                return web.Response(
                    status=fault.status, body=fault.body, headers=fault.headers, content_type=fault.content
                )
            case Reset(forwarded=False):
                return self._reset(request)
            case Silence() if not exchange.watch:
                await asyncio.sleep(3600)
            case Delay():
                await asyncio.sleep(fault.seconds)
            case Stale() if exchange.listing and (known := self._lists.get(_key(exchange))) is not None:
                return web.Response(status=known[0], body=known[1], content_type=known[2])
        if exchange.watch:
            return await self._watch(request, exchange, fault)
        # What a killed operator has sent is done, as on the real way to the API server.
        return await asyncio.shield(self._forward(request, exchange, fault))

    async def _forward(self, request: web.BaseRequest, exchange: Exchange, fault: Fault | None) -> web.StreamResponse:
        assert self._session is not None
        try:
            async with self._session.request(
                exchange.method,
                self._server + request.path_qs,
                data=exchange.body or None,
                headers=self._headers(request),
            ) as response:
                text = await response.read()
                status, content = response.status, response.content_type
        except aiohttp.ClientError:
            return self._reset(request)
        if exchange.write:
            self.done.append((time.monotonic(), exchange.method, self._named(exchange, status), status))
        if exchange.listing and status == 200:
            self._lists.setdefault(_key(exchange), (status, text, content))
        match fault:
            case After(lost=True):
                fault.act()
                return self._reset(request)
            case Reset():
                return self._reset(request)
        answer = web.Response(status=status, body=text, content_type=content)
        if isinstance(fault, After):
            await answer.prepare(request)
            await answer.write_eof()
            fault.act()
        return answer

    async def _watch(self, request: web.BaseRequest, exchange: Exchange, fault: Fault | None) -> web.StreamResponse:
        assert self._session is not None
        try:
            async with self._session.get(self._server + request.path_qs, headers=self._headers(request)) as response:
                answer = web.StreamResponse(status=response.status, headers={"Content-Type": response.content_type})
                await answer.prepare(request)
                try:
                    async with asyncio.timeout(fault.seconds if isinstance(fault, Cut) else None):
                        rest = b""
                        async for piece in response.content.iter_any():
                            passed = b"" if isinstance(fault, Silence) else piece
                            if isinstance(fault, Lines):
                                *lines, rest = (rest + piece).split(b"\n")
                                passed = b"".join(line + b"\n" for line in fault.changed(lines))
                            if passed:
                                await answer.write(passed)
                except TimeoutError:
                    assert isinstance(fault, Cut)
                    if fault.last_line:
                        await answer.write(fault.last_line)
                    if fault.reset:
                        return self._reset(request)
                await answer.write_eof()
                return answer
        except (aiohttp.ClientError, ConnectionError):
            return self._reset(request)

    def _named(self, exchange: Exchange, answered: int) -> str:
        """The path of what is written; of a creation, with the name that its body gives."""
        try:
            body = json.loads(exchange.body)
            if exchange.method == "POST":
                return f"{exchange.path}/{body['metadata']['name']}"
            if not exchange.path.endswith("/status") or answered != 200:
                return exchange.path
            before, now = self._statuses.get(exchange.path, {}), body["status"]
            of_engines = now != before and _without_engines(now) == _without_engines(before)
        except (ValueError, KeyError, TypeError):
            return exchange.path
        self._statuses[exchange.path] = now
        return exchange.path + ("#engines" if of_engines else "")

    def _headers(self, request: web.BaseRequest) -> dict[str, str]:
        """What is passed on; the audit log shows the proxy's name as the user agent."""
        kept = ("Authorization", "Content-Type", "Accept")
        own = {
            "User-Agent": self.name,
            # The API server compresses answers of 128 KiB, and what is kept here is only a body.
            "Accept-Encoding": "identity",
        }
        return {name: request.headers[name] for name in kept if name in request.headers} | own

    def _reset(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)


def _key(exchange: Exchange) -> str:
    return f"{exchange.path}?{exchange.query.get('labelSelector', '')}&{exchange.query.get('continue', '')}"


def _without_engines(status: JSON) -> JSON:
    """A status without what engines report: their metrics, and what was measured of them."""
    conditions = [one for one in status.get("conditions") or () if one["type"] != HEALTH]
    return {**{name: value for name, value in status.items() if name != "measured"}, "conditions": conditions}
