"""The reader of logs of engines that load, over a client that answers as the API server does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from llm_operator.kube import starts
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.starts import Starts
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.starting import FORBIDDEN, STUCK_SECONDS, Start
from tests.support.build import pod, resource
from tests.support.sources import wanted
from tests.unit.reconcile.test_starting import VLLM
from tests.waiting import until

OF = resource()
KEY = ("team", "demo")


class Logs:
    """Answers with the lines of a log, or with an error."""

    def __init__(self) -> None:
        self.lines = VLLM[:3]
        self.error: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []

    async def read_log(self, *given: Any) -> str:
        self.asked.append(given)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return "\n".join(self.lines)


def loading(**fields: Any) -> Observed:
    given = {"running": True, "phase": "Running", "container": "engine", "started_at": "2026-01-01T00:00:00Z"}
    return Observed(pods=(pod(OF, **{**given, **fields}),))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "FORBIDDEN_SECONDS"):
        monkeypatch.setattr(starts, name, 0.001)


def made(logs: Logs, changed: list[Any], now: Callable[[], float]) -> Starts:
    return Starts(cast("ApiClient", logs), changed.append, now)


def look(reader: Starts, key: tuple[str, str], observed: Observed) -> tuple[Start, bool] | None:
    """One look of the reconciler: what is told, and what is followed from then on."""
    found = reader.known(key, observed)
    reader.follow(key, wanted(OF, observed))
    return found


@pytest.mark.usefixtures("quick")
async def test_a_start_is_followed_and_told_at_most_every_ten_seconds() -> None:
    logs, times = Logs(), [1000.0]
    changed: list[Any] = []
    reader = made(logs, changed, lambda: times[0])
    assert look(reader, KEY, loading()) is None
    await until(lambda: len(changed) == 1)
    found = look(reader, KEY, loading())
    assert found is not None
    assert found[0].progress is not None
    assert (found[0].progress.summary, found[1]) == ("Reading weights 43 %", False)
    logs.lines = VLLM[:5]
    asked = len(logs.asked)
    await until(lambda: len(logs.asked) > asked + 3)
    assert len(changed) == 1, "not due yet"
    times[0] += 10.0
    await until(lambda: len(changed) == 2)
    times[0] += STUCK_SECONDS
    await until(lambda: len(changed) == 3)
    stuck = look(reader, KEY, loading())
    assert stuck is not None
    assert stuck[1]
    assert look(reader, KEY, loading(ready=True)) is None
    asked = len(logs.asked)
    await asyncio.sleep(0.05)
    assert len(logs.asked) <= asked + 1, "nobody reads on"


@pytest.mark.usefixtures("quick")
async def test_without_the_right_to_logs_that_is_told_once() -> None:
    logs = Logs()
    changed: list[Any] = []
    logs.error = ApiError(403, "Forbidden", "pods/log is forbidden")
    reader = made(logs, changed, lambda: 1000.0)
    look(reader, KEY, loading())
    await until(lambda: len(logs.asked) > 3)
    found = look(reader, KEY, loading())
    assert found is not None
    assert found[0].unseen == FORBIDDEN
    assert len(changed) == 1
    reader.forget(KEY)


@pytest.mark.usefixtures("quick")
async def test_a_log_that_does_not_come_tells_nothing_and_is_asked_for_again() -> None:
    logs = Logs()
    changed: list[Any] = []
    logs.error = ApiError(500, "InternalError", "the kubelet does not answer")
    reader = made(logs, changed, lambda: 1000.0)
    look(reader, KEY, loading())
    await until(lambda: len(logs.asked) > 3)
    assert (look(reader, KEY, loading()), changed) == (None, [])
    logs.error = None
    await until(lambda: bool(changed))
    reader.forget(KEY)


async def test_where_many_engines_load_each_log_is_read_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = Logs()
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0.001 if seconds else 0)

    monkeypatch.setattr("llm_operator.kube.starts.asyncio.sleep", sleep)
    reader = made(logs, [], lambda: 1000.0)
    for number in range(200):
        look(reader, ("team", f"demo-{number}"), loading())
    await real(0.05)
    for number in range(200):
        reader.forget(("team", f"demo-{number}"))
    assert {seconds for seconds in waits if seconds} == {200 / starts.MOST_PER_SECOND}


@pytest.mark.usefixtures("quick")
async def test_what_initializes_or_ends_is_not_read() -> None:
    logs = Logs()
    reader = made(logs, [], lambda: 1000.0)
    for fields in ({"container": "fetch"}, {"deleting": True}, {"running": False}, {"ready": True}):
        look(reader, KEY, loading(**fields))
    await asyncio.sleep(0.02)
    assert logs.asked == []
