"""The watches are started anew when they end, and a kind that nobody watches is noticed; kopf's part is played."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_operator.kube import watches
from llm_operator.kube.api_session import Stream
from llm_operator.kube.handlers import settings
from llm_operator.kube.watches import Watches, WatchesFailedError
from llm_operator.manifests.kinds import WATCHED
from llm_operator.telemetry.metrics import Metrics

PATHS = [f"/{row.name}" for row in WATCHED]


class Session:
    """Stands in for ApiSession: how each watch stands is what a test says."""

    def __init__(self) -> None:
        self.streams = {path: Stream("Pod", path, trying=1, opened=True) for path in PATHS}
        self.scanning: list[Stream] = []
        self.closed = 0

    def new_run(self) -> None:
        """Nothing of an earlier run is kept here."""

    def discovery(self) -> list[Stream]:
        return self.scanning

    async def close(self) -> None:
        self.closed += 1


class Played(Watches):
    """Watches whose kopf does what a test says, once per run; then it watches on."""

    def __init__(self, session: Any, *runs: Exception | None) -> None:
        self.counted = Metrics()
        nothing: Any = None
        super().__init__(session, "http://server", (), nothing, nothing, self.counted)
        self.runs = list(runs)
        self.started = 0
        self.watching = asyncio.Event()

    async def _kopf(self, ended: asyncio.Event, signals: Any) -> None:
        self.started += 1
        if self.runs:
            error = self.runs.pop(0)
            if error is not None:
                raise error
            return
        self.watching.set()
        await ended.wait()

    async def _others(self) -> None:
        await asyncio.Event().wait()

    def restarts(self) -> float | None:
        return self.counted.registry.get_sample_value("llm_operator_watch_restarts_total")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "RESTART_SECONDS", 0.0)
    monkeypatch.setattr(watches, "CHECK_SECONDS", 0.001)


async def test_kopf_that_ends_is_started_anew(caplog: pytest.LogCaptureFixture) -> None:
    played, stop = Played(Session(), None, RuntimeError("a bug"), KeyError("code")), asyncio.Event()
    running = asyncio.ensure_future(played.run(stop))
    await asyncio.wait_for(played.watching.wait(), 20)
    assert (played.started, played.restarts()) == (4, 3)
    assert [record.message for record in caplog.records] == [
        "the watches are started anew: kopf ended",
        "the watches are started anew: RuntimeError: a bug",
        "the watches are started anew: KeyError: 'code'",
    ]
    stop.set()
    await asyncio.wait_for(running, 20)


async def test_kopf_that_ends_again_and_again_ends_the_process() -> None:
    session = Session()
    played = Played(session, *[RuntimeError("a bug")] * 100)
    with pytest.raises(WatchesFailedError, match="the watches ended 6 times in a row, last at: RuntimeError: a bug"):
        await asyncio.wait_for(played.run(asyncio.Event()), 20)
    assert session.closed == played.started == 6


async def test_a_kind_that_nobody_watches_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """A 401 once left all watches deaf, in a process that called itself healthy."""
    session = Session()
    played, stop = Played(session), asyncio.Event()
    running = asyncio.ensure_future(played.run(stop))
    await asyncio.wait_for(played.watching.wait(), 20)
    played.watching.clear()
    session.streams[PATHS[2]].trying = 0
    await asyncio.wait_for(played.watching.wait(), 20)
    assert caplog.records[0].message == f"the watches are started anew: no watch for {PATHS[2]}"
    session.streams[PATHS[2]].trying = 1
    stop.set()
    await asyncio.wait_for(running, 20)


async def test_nothing_is_deaf_while_the_api_is_discovered() -> None:
    session = Session()
    for stream in session.streams.values():
        stream.trying = 0
    session.scanning = [Stream("discovery", "/apis", trying=1)]
    played, stop = Played(session), asyncio.Event()
    running = asyncio.ensure_future(played.run(stop))
    await asyncio.sleep(3 * watches.DEAF_CHECKS * watches.CHECK_SECONDS)
    assert played.restarts() == 0
    stop.set()
    await asyncio.wait_for(running, 20)


async def test_readiness_knows_what_is_not_watched_yet_or_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    played = Played(session)
    assert (played.waiting_for(), played.interrupted()) == ([], [])
    session.streams[PATHS[0]].opened = False
    assert played.waiting_for() == [PATHS[0]]
    broken = session.streams[PATHS[1]]
    broken.failures, broken.reason, broken.failing_since = 3, "403 Forbidden", asyncio.get_running_loop().time()
    assert played.interrupted() == []
    monkeypatch.setattr(watches, "INTERRUPTED_SECONDS", -1.0)
    assert played.interrupted() == [f"{PATHS[1]} (403 Forbidden)"]


def test_kopf_neither_gives_up_nor_kills() -> None:
    """kopf's first end would have the process killed ten minutes later, although the watches were started anew."""
    chosen = settings()
    assert chosen.process.ultimate_exiting_timeout is None
    assert chosen.networking.request_timeout is None
    assert tuple(chosen.networking.error_backoffs) == ()  # type: ignore[arg-type]
