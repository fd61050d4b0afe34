"""A log is read once per pod, however many objects wait for it."""

from __future__ import annotations

import asyncio
import json

import pytest

from llm_operator.kube import progress
from llm_operator.kube.client import ApiError
from llm_operator.kube.progress import ProgressReader
from llm_operator.kube.transport import LOG_CONNECTIONS
from llm_operator.reconcile.starting import FORBIDDEN
from llm_operator.reconcile.wants import LogSource
from tests.support.build import resource
from tests.support.sources import wants

OF = resource()
FETCH = LogSource("team", "fetch-0", "tool")
LINE = json.dumps({"progress": {"stage": "Fetching", "bytes": 5, "totalBytes": 10}})


class Logs:
    """Stands in for the API client: the kubelet's part is played."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.text = LINE

    async def read_log(self, namespace: str, pod: str, container: str, *_: object) -> str:
        self.reads.append(pod)
        await asyncio.sleep(0)
        return self.text


async def test_two_hundred_objects_that_share_a_job_read_its_log_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 3600.0)
    logs, changed = Logs(), list[tuple[str, str]]()
    reader = ProgressReader(logs, changed.append)  # type: ignore[arg-type]
    keys = [("team", f"llm-{number}") for number in range(200)]
    for key in keys:
        reader.follow(key, wants(OF, log=FETCH))
    assert reader.known(FETCH) is None
    for _ in range(10):
        await asyncio.sleep(0)
    assert logs.reads == ["fetch-0"]
    assert sorted(changed) == sorted(keys)
    told = reader.known(FETCH)
    assert told is not None
    assert told.bytes == 5
    for key in keys:
        reader.forget(key)
    assert reader.known(FETCH) is None
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("progress")]


async def test_a_reader_goes_on_for_those_who_still_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.0)
    logs = Logs()
    reader = ProgressReader(logs, lambda _: None)  # type: ignore[arg-type]
    reader.follow(("team", "a"), wants(OF, log=FETCH))
    reader.follow(("team", "b"), wants(OF, log=FETCH))
    reader.follow(("team", "a"), wants(OF, log=None))
    await asyncio.sleep(0.01)
    assert len(logs.reads) > 1
    reader.follow(("team", "b"), wants(OF, log=LogSource("team", "fetch-1", "tool")))
    await asyncio.sleep(0.01)
    assert logs.reads[-1] == "fetch-1"
    count = logs.reads.count("fetch-0")
    await asyncio.sleep(0.01)
    assert logs.reads.count("fetch-0") == count
    reader.forget(("team", "b"))
    await asyncio.sleep(0)


async def test_kubelets_that_do_not_answer_are_asked_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of its own per pod is bounded: others must be able to read logs meanwhile."""
    asking = most = 0

    class Silent(Logs):
        async def read_log(self, namespace: str, pod: str, container: str, *_: object) -> str:
            nonlocal asking, most
            asking += 1
            most = max(most, asking)
            try:
                await asyncio.sleep(0.002)
                raise TimeoutError
            finally:
                asking -= 1

    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.0)
    reader = ProgressReader(Silent(), lambda _: None)  # type: ignore[arg-type]
    for number in range(40):
        reader.follow(("team", f"llm-{number}"), wants(OF, log=LogSource("team", f"fetch-{number}", "tool")))
    await asyncio.sleep(0.05)
    for number in range(40):
        reader.forget(("team", f"llm-{number}"))
    assert 0 < most <= progress.AT_ONCE < LOG_CONNECTIONS


async def test_without_the_right_to_logs_that_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "FORBIDDEN_SECONDS"):
        monkeypatch.setattr(progress, name, 0.0)
    logs, changed = Logs(), list[tuple[str, str]]()
    allowed, refused = logs.read_log, True

    async def read_log(*given: str) -> str:
        text = await allowed(*given)
        if refused:
            raise ApiError(403, "Forbidden", "pods/log")
        return text

    monkeypatch.setattr(logs, "read_log", read_log)
    reader = ProgressReader(logs, changed.append)  # type: ignore[arg-type]
    reader.follow(("team", "demo"), wants(OF, log=FETCH))
    for _ in range(50):
        await asyncio.sleep(0)
    assert reader.unseen([FETCH]) == FORBIDDEN
    assert reader.unseen([LogSource("team", "other", "tool")]) == ""
    assert changed == [("team", "demo")]
    refused = False
    for _ in range(50):
        await asyncio.sleep(0)
    assert reader.unseen([FETCH]) == ""
    assert reader.known(FETCH) is not None
    reader.forget(("team", "demo"))
