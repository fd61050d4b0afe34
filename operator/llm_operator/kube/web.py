"""The process's own HTTP: health and readiness in one thread, metrics in another.

The reconciler's loop is busy for as long as its work takes; the kubelet and scrapers must not wait for it, nor the
kubelet for scrapers, and no flood of requests may hold it up. So these threads read nothing of the reconciler's: the
loop leaves its pulse here, and the text of the metrics at most once per second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from llm_operator.kube import tasks
from llm_operator.kube.event_loop import new_event_loop
from llm_operator.telemetry.metrics import Metrics

log = logging.getLogger("llm_operator.web")

FRESH_SECONDS = 1.0
"""For this long the same text answers all scrapes."""
SCRAPES_AT_ONCE = 4
SCRAPES_PER_SECOND = 20
REFUSAL_SECONDS = 0.5
"""A refused scraper waits at least this long, so that a hundred connections that never stop cause no load."""
REFUSAL_STEPS = 16
"""Refusals that came due together took a tenth of a second together: one after the other waits a little longer."""
RENDER_SECONDS = 10.0
STALLED_SECONDS = 60.0
"""An event loop that has not turned for this long hangs: the longest step of its work takes less than a second."""
START_SECONDS = 10.0
CONNECTIONS = 256
"""Of one port; beyond them the oldest is closed, so that idle ones keep no one out."""
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the reconciler's loop said of itself last."""

    at: float
    """By time.monotonic."""
    unhealthy: str | None = None
    unready: str | None = None


Review = Callable[[str | None], Awaitable[int]]
"""The HTTP status for a scraper's Authorization header: 200, 401, 403, or 503 if no one can say."""
Close = Callable[[], Awaitable[None]]
PrepareReview = Callable[[], Awaitable[tuple[Review, Close]]]
"""Makes a review in the loop that will ask it, and what closes it."""


Prepare = Callable[[contextlib.AsyncExitStack], Awaitable[list[web.RouteDef]]]
"""Makes the routes of a port in the loop that answers them; what has to be closed goes onto the stack."""


class _Listener:
    """A thread with its own loop that answers one port."""

    def __init__(self, name: str, host: str, port: int, prepares: Sequence[Prepare]) -> None:
        self._name = name
        self._address = host, port
        self._prepares = prepares
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread: tasks.Started | None = None
        self._runner: web.AppRunner | None = None
        self._listening = threading.Event()
        self.error: BaseException | None = None
        """What ended the thread; None while it serves."""

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        self._thread = tasks.thread(self._run, self._name)
        await asyncio.to_thread(self._listening.wait, START_SECONDS)
        if self.error is not None:
            raise self.error

    def connections(self) -> int:
        """How many are open."""
        server = self._runner.server if self._runner is not None else None
        return len(server.connections) if server is not None else 0

    async def stop(self) -> None:
        """Close the listener and all connections."""
        if self._thread is None:
            return
        if self._loop is not None and self._end is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._end.set)
        await asyncio.to_thread(self._thread.join, START_SECONDS)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._serve())
        except Exception as error:
            self.error = error
            raise
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            app = web.Application()
            for prepare in self._prepares:
                app.add_routes(await prepare(stack))
            runner = self._runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            host, port = self._address
            listening = await self._loop.create_server(lambda: _connected(runner), host, port, backlog=BACKLOG)
            stack.callback(listening.close)
            self._listening.set()
            await self._end.wait()


def _connected(runner: web.AppRunner) -> asyncio.Protocol:
    """What answers a new connection; the oldest ones make room."""
    server = runner.server
    assert server is not None  # noqa: S101
    for oldest in server.connections[: 1 - CONNECTIONS]:
        oldest.force_close()
    return server()


class WebServer:
    """Listens on two ports: metrics for scrapers, health for the kubelet."""

    def __init__(
        self,
        metrics: Metrics,
        host: str = "0.0.0.0",  # noqa: S104
        review: PrepareReview | None = None,
        objects: Callable[[], bytes] = bytes,
    ) -> None:
        """Prepare.

        Args:
            metrics: of the process.
            host: address to listen on.
            review: makes what decides who may scrape; None: anyone may.
            objects: more lines for scrapers; called in the loop that starts the server.
        """
        self._metrics = metrics
        self._objects = objects
        self._host = host
        self._prepare_review = review
        self._review: Review | None = None
        self._main: asyncio.AbstractEventLoop | None = None
        self._listeners: list[_Listener] = []
        self._text: tuple[float, bytes] = (0.0, b"")
        self._rendering: asyncio.Future[bytes] | None = None
        self._scrapes = 0
        self._second = self._in_second = self._refused = 0
        self.pulse = Pulse(time.monotonic(), unready="the process starts")
        """Set by the reconciler's loop."""

    async def start(self, metrics_port: int, health_port: int) -> None:
        """Listen; the same port may serve both, and then health waits for scrapers.

        Raises:
            OSError: a port is taken.
        """
        self._main = asyncio.get_running_loop()
        prepares: dict[int, list[Prepare]] = {health_port: [self._health_routes]}
        prepares.setdefault(metrics_port, []).append(self._metrics_routes)
        for port, routes in prepares.items():
            listener = _Listener("health" if port == health_port else "metrics", self._host, port, routes)
            self._listeners.append(listener)
            await listener.start()

    @property
    def error(self) -> BaseException | None:
        """What ended a thread; None while both serve."""
        return next((one.error for one in self._listeners if one.error is not None), None)

    async def stop(self) -> None:
        """Close the listeners."""
        for listener in self._listeners:
            await listener.stop()

    async def _health_routes(self, _: contextlib.AsyncExitStack) -> list[web.RouteDef]:
        return [web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)]

    async def _metrics_routes(self, stack: contextlib.AsyncExitStack) -> list[web.RouteDef]:
        if self._prepare_review is not None:
            self._review, close = await self._prepare_review()
            stack.push_async_callback(close)
        return [web.get("/metrics", self._scrape)]

    def _stalled(self) -> str | None:
        seconds = time.monotonic() - self.pulse.at
        return f"the event loop has not turned for {seconds:.0f} s" if seconds > STALLED_SECONDS else None

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self._stalled() or self.pulse.unhealthy)

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._stalled() or self.pulse.unhealthy or self.pulse.unready)

    async def _scrape(self, request: web.Request) -> web.Response:
        if self._too_many():
            self._refused += 1
            await asyncio.sleep(REFUSAL_SECONDS * (1 + self._refused % REFUSAL_STEPS / REFUSAL_STEPS))
            return web.Response(status=503, text="too many requests", headers={"Retry-After": "1"})
        self._scrapes += 1
        try:
            status = 200 if self._review is None else await self._review(request.headers.get("Authorization"))
            if status != 200:
                return web.Response(status=status)
            text = await self._rendered()
        except TimeoutError:
            return web.Response(status=503, text="the event loop does not answer", headers={"Retry-After": "1"})
        finally:
            self._scrapes -= 1
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _too_many(self) -> bool:
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._in_second = now, 0
        self._in_second += 1
        return self._scrapes >= SCRAPES_AT_ONCE or self._in_second > SCRAPES_PER_SECOND

    async def _rendered(self) -> bytes:
        made, text = self._text
        if time.monotonic() - made < FRESH_SECONDS:
            return text
        if self._rendering is None or self._rendering.done():
            assert self._main is not None  # noqa: S101
            rendered: Future[bytes] = Future()
            # What the metrics are read from belongs to the reconciler's loop.
            self._main.call_soon_threadsafe(self._render, rendered)
            self._rendering = asyncio.wrap_future(rendered)
        async with asyncio.timeout(RENDER_SECONDS):
            text = await asyncio.shield(self._rendering)
        self._text = (time.monotonic(), text)
        return text

    def _render(self, rendered: Future[bytes]) -> None:
        if not rendered.set_running_or_notify_cancel():
            return
        try:
            rendered.set_result(generate_latest(self._metrics.registry) + self._objects())
        except Exception as error:
            rendered.set_exception(error)


def _answer(wrong: str | None) -> web.Response:
    return web.Response(status=503 if wrong else 200, text=wrong or "ok")
