"""Leadership ends by its own clock, whatever the API server does; requests to it are answered by a stand-in."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from aiohttp import web

from llm_operator.kube import election, lease
from llm_operator.kube.client import ApiClient
from llm_operator.kube.connection import load
from llm_operator.kube.lease import Leadership, LostLeadershipError, leadership
from llm_operator.telemetry.metrics import Metrics

JSON = dict[str, Any]
COLLECTION = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


class FakeLeases:
    """One Lease; it can stop answering, answer with a page, or be taken by another process."""

    def __init__(self) -> None:
        self.lease: JSON | None = None
        self.version = 1
        self.mode = "well"
        self.renewals = 0

    async def answer(self, request: web.Request) -> web.Response:
        if self.mode == "hung":
            await asyncio.sleep(3600)
        if self.mode == "page":
            return web.Response(text="<html>", content_type="text/html")
        if request.method == "GET":
            if self.lease is None:
                return web.json_response({"kind": "Status", "code": 404, "reason": "NotFound"}, status=404)
            return web.json_response(self.lease)
        self.store(await request.json())
        self.renewals += 1
        return web.json_response(self.lease)

    def store(self, body: JSON) -> None:
        self.version += 1
        body["metadata"] |= {"namespace": "default", "uid": "u", "resourceVersion": str(self.version)}
        self.lease = body

    @property
    def holder(self) -> str | None:
        holder: str | None = (self.lease or {}).get("spec", {}).get("holderIdentity")
        return holder


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {
        "RENEW_DEADLINE_SECONDS": 2,
        "RETRY_SECONDS": 0.05,
        "ATTEMPT_SECONDS": 0.5,
        "CHECK_SECONDS": 0.05,
    }.items():
        monkeypatch.setattr(lease, name, seconds)
    for module in (lease, election):
        monkeypatch.setattr(module, "LEASE_SECONDS", 5)


async def _serve(fake: FakeLeases, address: Queue[int], stop: threading.Event) -> None:
    app = web.Application()
    app.router.add_route("*", COLLECTION, fake.answer)
    app.router.add_route("*", COLLECTION + "/{name}", fake.answer)
    # A handler that hangs is ended at once.
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address.put(runner.addresses[0][1])
    await asyncio.to_thread(stop.wait)
    await runner.cleanup()


@pytest.fixture
def server(short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLeases]:
    """In a thread: what keeps the test's loop busy must not keep the stand-in from answering."""
    fake, address, stop = FakeLeases(), Queue[int](), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(fake, address, stop)))
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{address.get(timeout=30)}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    yield fake
    stop.set()
    thread.join(30)
    # aiohttp leaves the socket of a request that was cancelled while the stand-in hung to the garbage collector.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
async def leader(server: FakeLeases) -> AsyncIterator[Leadership]:
    election = leadership(load(), "llm-operator", "default", "me")
    await asyncio.wait_for(election.acquire(), 10)
    yield election
    await election.release()


async def test_it_holds_while_the_lease_is_renewed(server: FakeLeases, leader: Leadership) -> None:
    before = server.renewals
    async with asyncio.timeout(10):
        while server.renewals < before + 3:  # noqa: ASYNC110 - the stand-in has no event
            await asyncio.sleep(0.02)
    assert server.holder == "me"
    assert leader.fence() > 0


@pytest.mark.parametrize("mode", ["hung", "page"])
async def test_it_ends_by_its_own_clock_when_nothing_answers(server: FakeLeases, leader: Leadership, mode: str) -> None:
    server.mode = mode
    await asyncio.wait_for(leader.hold(), 10)
    with pytest.raises(LostLeadershipError):
        leader.fence()


async def test_it_ends_when_another_process_holds_the_lease(server: FakeLeases, leader: Leadership) -> None:
    assert server.lease is not None
    server.store({**server.lease, "spec": {**server.lease["spec"], "holderIdentity": "other"}})
    await asyncio.wait_for(leader.hold(), 10)
    assert server.holder == "other"


async def test_a_busy_loop_delays_no_renewal(server: FakeLeases, leader: Leadership) -> None:
    before = server.renewals
    until = time.monotonic() + 30
    # This is the busy loop: nothing else runs in it until the thread has renewed.
    while server.renewals < before + 5 and time.monotonic() < until:
        time.sleep(0.05)  # noqa: ASYNC251
    assert server.renewals >= before + 5
    assert leader.fence() > 0


async def test_a_release_gives_the_lease_up(server: FakeLeases, leader: Leadership) -> None:
    await leader.release()
    assert server.holder is None
    with pytest.raises(LostLeadershipError):
        leader.fence()


async def test_a_release_ends_although_nothing_answers(server: FakeLeases, leader: Leadership) -> None:
    server.mode = "hung"
    await asyncio.wait_for(leader.release(), 10)


async def test_a_second_candidate_waits_until_the_first_one_is_over(server: FakeLeases, leader: Leadership) -> None:
    second = leadership(load(), "llm-operator", "default", "you")
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.5)
    assert not waiting.done()
    await leader.release()
    await asyncio.wait_for(waiting, 10)
    assert server.holder == "you"
    await second.release()


##### The client asks before it writes


class Closed:
    """A connection that nothing may use."""

    server = "http://127.0.0.1:9"
    proxy = None

    def ssl_context(self) -> None:
        return None

    def authorization(self) -> str:
        return ""


async def test_nothing_is_sent_by_a_process_that_does_not_lead() -> None:
    def lost() -> float:
        raise LostLeadershipError("not written")

    connection: Any = Closed()
    async with ApiClient(connection, Metrics(), fence=lost) as client:
        body = {"kind": "Service", "metadata": {"namespace": "team", "name": "qwen"}}
        with pytest.raises(LostLeadershipError):
            await client.apply(body, force=True)
        with pytest.raises(LostLeadershipError):
            await client.apply_status("team", "qwen", "uid", {})
        with pytest.raises(LostLeadershipError):
            await client.delete("Service", "team", "qwen", "uid")
        with pytest.raises(LostLeadershipError):
            await client.annotate("Job", "team", "qwen", "1", {})
        with pytest.raises(LostLeadershipError):
            await client.create(body)
        with pytest.raises(OSError, match=r"127\.0\.0\.1"):
            await client.get("Service", "team", "qwen")
