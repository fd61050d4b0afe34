"""Health is told by a thread of its own, and no scraper holds up anything."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from llm_operator.kube import web
from llm_operator.kube.web import Pulse, WebServer
from llm_operator.telemetry.metrics import Metrics
from tests.operator_process import free_port


class Served:
    """A web server on ports of its own."""

    def __init__(self, review: web.PrepareReview | None = None) -> None:
        self.metrics = Metrics()
        self.server = WebServer(self.metrics, "127.0.0.1", review, lambda: b"of_objects 7\n")
        self.ports = free_port(), free_port()

    async def __aenter__(self) -> Served:
        await self.server.start(*self.ports)
        self.server.pulse = Pulse(time.monotonic())
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
        await self.server.stop()

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        port = self.ports[0 if path == "/metrics" else 1]
        async with self.session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as response:
            return response.status, await response.text()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with Served() as started:
        yield started


async def test_health_and_readiness_say_what_the_loop_left(served: Served) -> None:
    assert await served.get("/healthz") == (200, "ok")
    assert await served.get("/readyz") == (200, "ok")
    served.server.pulse = Pulse(time.monotonic(), unready="the cache is not filled yet")
    assert await served.get("/healthz") == (200, "ok")
    assert await served.get("/readyz") == (503, "the cache is not filled yet")
    served.server.pulse = Pulse(time.monotonic(), unhealthy="stuck")
    assert await served.get("/healthz") == (503, "stuck")
    assert await served.get("/readyz") == (503, "stuck")


async def test_a_loop_that_turns_no_more_is_unhealthy(served: Served) -> None:
    served.server.pulse = Pulse(time.monotonic() - web.STALLED_SECONDS - 1)
    status, text = await served.get("/healthz")
    assert status == 503
    assert "the event loop has not turned for 6" in text


async def test_health_is_told_while_the_loop_is_busy(served: Served) -> None:
    """Ten thousand objects once held the loop, and with it every probe, for half a minute."""

    async def ask() -> tuple[int, float]:
        # As a process of its own would: this loop is the one that is busy.
        def blocking() -> tuple[int, float]:
            start = time.monotonic()
            with urllib.request.urlopen(f"http://127.0.0.1:{served.ports[1]}/healthz", timeout=10) as response:
                return response.status, time.monotonic() - start

        return await asyncio.to_thread(blocking)

    asking = asyncio.ensure_future(ask())
    await asyncio.sleep(0)
    busy_until = time.monotonic() + 2.0
    while time.monotonic() < busy_until:
        sum(range(1000))
    status, seconds = await asking
    assert status == 200
    assert seconds < 2.0, "the answer waited for the loop"


async def test_scrapes_share_one_text_per_second(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def counted(registry: CollectorRegistry) -> bytes:
        nonlocal made
        made += 1
        return generate_latest(registry)

    monkeypatch.setattr(web, "generate_latest", counted)
    monkeypatch.setattr(web, "FRESH_SECONDS", 3600.0)
    monkeypatch.setattr(web, "SCRAPES_PER_SECOND", 1000)
    answers = [await served.get("/metrics") for _ in range(50)]
    assert {status for status, _ in answers} == {200}
    assert "leader_election_master_status" in answers[0][1]
    assert answers[0][1].endswith("\nof_objects 7\n")
    assert made == 1


async def test_more_than_a_few_scrapes_at_a_time_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "RENDER_SECONDS", 1.0)
    # The loop does not get to the metrics: whoever asks waits.
    monkeypatch.setattr(served.server, "_render", lambda _: None)
    statuses = [status for status, _ in await asyncio.gather(*(served.get("/metrics") for _ in range(20)))]
    assert statuses.count(503) == 20
    assert served.server._scrapes == 0
    monkeypatch.undo()
    served.server._rendering = None
    assert (await served.get("/metrics"))[0] == 200


async def test_a_flood_of_scrapes_does_not_starve_the_loop(served: Served) -> None:
    """Once 22 turns in six seconds. Client and server share this process, so the bound is wide."""
    stop, waits, statuses = asyncio.Event(), list[float](), Counter[int]()

    async def flood() -> None:
        while not stop.is_set():
            status, _ = await served.get("/metrics")
            statuses[status] += 1

    flooding = [asyncio.ensure_future(flood()) for _ in range(50)]
    for _ in range(20):
        start = time.monotonic()
        assert await asyncio.wait_for(served.get("/healthz"), 20) == (200, "ok")
        await asyncio.sleep(0.01)
        waits.append(time.monotonic() - start)
    stop.set()
    await asyncio.gather(*flooding)
    assert statistics.median(waits) < 5.0
    assert statuses[200] > 0, "nobody was answered"
    assert statuses[503] > 0, "everybody was answered"


async def test_a_taken_port_is_told_at_the_start() -> None:
    first, second = Served(), Served()
    async with first:
        second.ports = (first.ports[0], second.ports[1])
        with pytest.raises(OSError, match="address already in use"):
            await second.server.start(*second.ports)


async def test_scrapers_are_reviewed() -> None:
    closed = asyncio.Event()

    async def prepare() -> tuple[web.Review, web.Close]:
        async def review(authorization: str | None) -> int:
            return {None: 401, "Bearer good": 200}.get(authorization, 403)

        async def close() -> None:
            closed.set()

        return review, close

    async with Served(prepare) as served:
        assert (await served.get("/metrics"))[0] == 401
        assert (await served.get("/metrics", Authorization="Bearer bad"))[0] == 403
        assert (await served.get("/metrics", Authorization="Bearer good"))[0] == 200
        assert await served.get("/healthz") == (200, "ok"), "the kubelet has no token"
    assert closed.is_set()


async def test_health_waits_for_no_scraper() -> None:
    """The loop that answers scrapers stands still; the kubelet does not notice."""
    asked, go_on = threading.Event(), threading.Event()

    async def prepare() -> tuple[web.Review, web.Close]:
        async def review(_: str | None) -> int:
            asked.set()
            go_on.wait(60)
            return 200

        async def close() -> None:
            pass

        return review, close

    async with Served(prepare) as served:
        scraping = asyncio.ensure_future(served.get("/metrics"))
        assert await asyncio.to_thread(asked.wait, 60)
        try:
            assert await asyncio.wait_for(served.get("/healthz"), 30) == (200, "ok")
            assert await asyncio.wait_for(served.get("/readyz"), 30) == (200, "ok")
            assert not scraping.done()
        finally:
            go_on.set()
        assert (await scraping)[0] == 200


async def test_one_port_serves_both() -> None:
    both = Served()
    both.ports = both.ports[0], both.ports[0]
    async with both as served:
        assert await served.get("/healthz") == (200, "ok")
        assert (await served.get("/metrics"))[0] == 200


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
async def test_connections_that_ask_for_nothing_keep_nobody_out(
    served: Served, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs a file descriptor of the process that talks to the API server."""
    monkeypatch.setattr(web, "CONNECTIONS", 32)
    port = served.ports[0 if path == "/metrics" else 1]
    silent: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    try:
        for _ in range(3 * web.CONNECTIONS):
            silent.append(await asyncio.open_connection("127.0.0.1", port))
            if len(silent) % 16 == 0:
                assert (await served.get(path))[0] in (200, 503)
        closed = [reader for reader, _ in silent[: 2 * web.CONNECTIONS]]
        assert set(await asyncio.wait_for(asyncio.gather(*(one.read() for one in closed)), 30)) == {b""}
        (listener,) = (one for one in served.server._listeners if one._address[1] == port)
        assert listener.connections() <= web.CONNECTIONS
    finally:
        for _, writer in silent:
            writer.close()
