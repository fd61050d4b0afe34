"""The way to a running engine: a stub of the engine on loopback, as the real one needs a GPU."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import MeasuredStatus
from llm_operator.engines.registry import ENGINES
from llm_operator.kube import engine_api
from llm_operator.kube.client import ApiError
from llm_operator.kube.engine_api import ask
from llm_operator.kube.measurements import Measurements
from llm_operator.live.pods import Pod, pod_from
from llm_operator.reconcile.measured import Reading, measured
from llm_operator.reconcile.wants import Measuring, Rendered, identity
from tests.support.build import NOW, pod, resource
from tests.support.sources import wants
from tests.unit.reconcile.test_measured import ENGINE_INFO, INFO_LOG, SMALLER, metrics

KEY = ("team", "demo")
PER_TOKEN = 131_072


@dataclass
class StubEngine:
    """Answers by path, and remembers what it was asked."""

    answers: dict[str, Callable[[web.Request], Any]] = field(default_factory=dict)
    asked: list[web.Request] = field(default_factory=list)
    port: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        found = self.answers.get(request.path)
        response = web.Response(status=404) if found is None else found(request)
        return await response if asyncio.iscoroutine(response) else response


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StubEngine]:
    stub = StubEngine()
    app = web.Application()
    app.router.add_get("/{path:.*}", stub.answer)
    async with TestServer(app, host="127.0.0.1") as server:
        stub.port = server.port or 0
        for row in ENGINES.values():
            monkeypatch.setattr(type(row), "port", stub.port)
        yield stub


def text(body: str, status: int = 200) -> Callable[[web.Request], web.Response]:
    return lambda _: web.Response(text=body, status=status)


@dataclass
class FakeClient:
    """Has a log, or cannot read it."""

    log: str | None = None
    reads: int = 0

    async def read_log(self, *_: object) -> str:
        self.reads += 1
        if self.log is None:
            raise ApiError(500, "InternalError", "the kubelet cannot be reached")
        return self.log


@dataclass
class FakeQueue:
    added: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, _: object) -> None:
        self.added.set()


async def asked(
    client: FakeClient, address: str | None = "127.0.0.1", backend: str | None = None, kind: str = "VLLM"
) -> int | None:
    """What is read of one pod, as the reconciler gets it."""
    of = resource(engine={"type": kind})
    queue = FakeQueue()
    measurements = Measurements(client, queue)  # type: ignore[arg-type]
    one = pod(of, ready=True, started_at=NOW, ready_at=NOW, pod_ip=address)
    assert measurements.known(KEY) is None
    for _ in range(2):
        measurements.follow(KEY, wants(of, measuring=Measuring(one, kind, backend, PER_TOKEN)))  # type: ignore[arg-type]
    await asyncio.wait_for(queue.added.wait(), 20)
    found = measurements.known(KEY)
    assert found is not None
    assert (found.of, found.status.seconds_to_ready) == (identity(one), 0)
    return found.status.kv_tokens


async def test_vllms_metrics_are_asked_first(engine: StubEngine) -> None:
    engine.answers["/metrics"] = text(metrics(kv_cache_size_tokens=2048))
    client = FakeClient("GPU KV cache size: 1,024 tokens")
    assert await asked(client) == 2048
    assert client.reads == 0
    assert [request.path for request in engine.asked] == ["/metrics"], "once per pod"
    assert "Authorization" not in engine.asked[0].headers


@pytest.mark.parametrize("answer", [text("", 404), text("", 500), text("# nothing\n"), text("\0\xff")])
async def test_where_the_metrics_tell_nothing_the_log_does(
    engine: StubEngine, answer: Callable[[web.Request], web.Response]
) -> None:
    engine.answers["/metrics"] = answer
    assert await asked(FakeClient("GPU KV cache size: 1,024 tokens")) == 1024


@pytest.mark.parametrize("address", [None, "127.0.0.9", "no address"])
async def test_a_pod_out_of_reach_has_a_log(engine: StubEngine, address: str | None) -> None:
    assert await asked(FakeClient("GPU KV cache size: 1,024 tokens"), address) == 1024


async def test_blocks_are_the_last_resort(engine: StubEngine) -> None:
    told = metrics(num_gpu_blocks=10_240, block_size=16, kv_cache_memory_bytes=20 << 30)
    engine.answers["/metrics"] = text(told)
    assert await asked(FakeClient("GPU KV cache size: 1,024 tokens")) == 1024
    assert await asked(FakeClient(None)) == 163_840


async def test_nothing_is_told_and_nothing_is_said(engine: StubEngine) -> None:
    assert await asked(FakeClient(None)) is None


async def test_the_pytorch_backend_is_asked_for_its_blocks(engine: StubEngine) -> None:
    engine.answers["/distserve/engine_info"] = lambda _: web.Response(text=ENGINE_INFO, content_type="application/json")
    assert await asked(FakeClient("started"), backend="PyTorch", kind="LMDeploy") == 3710 * 64
    assert await asked(FakeClient(SMALLER), backend="PyTorch", kind="LMDeploy") == 3710 * 32
    assert await asked(FakeClient(None), backend="PyTorch", kind="LMDeploy") is None


async def test_with_an_api_key_only_its_log_tells(engine: StubEngine) -> None:
    engine.answers["/distserve/engine_info"] = text('{"message":"Unauthorized."}', 401)
    assert await asked(FakeClient("started"), backend="PyTorch", kind="LMDeploy") is None
    assert await asked(FakeClient(INFO_LOG), backend="PyTorch", kind="LMDeploy") == 3917 * 64


async def test_turbomind_is_not_asked(engine: StubEngine) -> None:
    line = "[TM][INFO] Object cache budget: 101933.70 MB from free 127417.12 MB and ratio 0.8"
    assert await asked(FakeClient(line), backend="TurboMind", kind="LMDeploy") == 815_360
    assert engine.asked == []


async def test_an_answer_is_read_to_its_limit_only(engine: StubEngine) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    engine.answers["/metrics"] = endless
    assert await asyncio.wait_for(ask("127.0.0.1", engine.port, "/metrics", 100_000), 5) == "x" * 100_000


async def test_a_silent_engine_is_left_alone(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    engine.answers["/metrics"] = silent
    monkeypatch.setattr(engine_api, "TIMEOUT_SECONDS", 0.1)
    assert await asyncio.wait_for(ask("127.0.0.1", engine.port, "/metrics", 100), 5) == ""


async def test_no_redirect_is_followed(engine: StubEngine) -> None:
    def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound("/other")

    engine.answers |= {"/metrics": elsewhere, "/other": text("secret")}
    assert await ask("127.0.0.1", engine.port, "/metrics", 100) == ""
    assert [request.path for request in engine.asked] == ["/metrics"]


async def test_no_proxy_is_asked(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    engine.answers["/metrics"] = text("here")
    assert await ask("127.0.0.1", engine.port, "/metrics", 100) == "here"


async def test_addresses_of_ipv6_are_written_in_brackets(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "llm_operator.engine_api"):
        assert await ask("::1", 9, "/metrics", 100) == ""
    assert "http://[::1]:9/metrics does not answer" in caplog.text
    assert "InvalidURL" not in caplog.text


def test_a_pods_address_comes_from_its_status() -> None:
    raw = {"metadata": {"name": "demo-1", "uid": "1", "resourceVersion": "1"}, "status": {"podIP": "10.0.0.7"}}
    assert pod_from(raw).pod_ip == "10.0.0.7"
    assert pod_from({**raw, "status": {}}).pod_ip is None


def served(uid: str) -> tuple[LLMDeployment, Pod]:
    """An object and its pod."""
    of = resource()
    return of, pod(of, uid=uid, ready=True, started_at=NOW, ready_at=NOW, pod_ip="127.0.0.1")


SHOWN = MeasuredStatus(kv_tokens=7, seconds_to_ready=0, pod_uid="this")


@pytest.mark.parametrize(
    ("before", "tokens", "shown"),
    [
        (SHOWN, 2048, 2048),
        (SHOWN, None, 7),
        (SHOWN.model_copy(update={"pod_uid": "another"}), None, None),
        (SHOWN.model_copy(update={"pod_uid": None}), None, None),
        (SHOWN.model_copy(update={"seconds_to_ready": 5}), None, None),
        (None, 2048, 2048),
    ],
    ids=["this pod", "its log is gone", "another as fast", "not known which", "this pod, restarted", "a wiped status"],
)
def test_a_measurement_is_of_one_pod(before: MeasuredStatus | None, tokens: int | None, shown: int | None) -> None:
    _, one = served("this")
    assert measured(one, None, before) == before, "until the pod has answered"
    now = Reading(identity(one), MeasuredStatus(kv_tokens=tokens, seconds_to_ready=0, pod_uid="this"))
    found = measured(one, now, before)
    assert found is not None
    assert (found.kv_tokens, found.pod_uid) == (shown, "this")
    restarted = replace(one, started_at="2026-02-01T00:00:00Z")
    assert measured(restarted, now, before) == before
    assert measured(None, now, before) == before


RENDERED = Rendered(cast(Any, None), "0.18.0", (), 1, None)


@pytest.mark.parametrize(("ready_at", "learned"), [(NOW, []), ("2126-01-01T00:00:00Z", [2048])])
async def test_only_a_start_that_this_process_saw_is_learned_from(
    engine: StubEngine, ready_at: str, learned: list[int]
) -> None:
    engine.answers["/metrics"] = text(metrics(kv_cache_size_tokens=2048))
    queue, told = FakeQueue(), list[int]()
    measurements = Measurements(FakeClient(None), queue, lambda _, tokens: told.append(tokens))  # type: ignore[arg-type]
    of, one = served("this")
    started = Measuring(replace(one, ready_at=ready_at), "VLLM", None, PER_TOKEN, RENDERED)
    measurements.follow(KEY, wants(of, measuring=started))
    await asyncio.wait_for(queue.added.wait(), 20)
    assert told == learned


async def test_a_late_answer_of_an_earlier_pod_counts_no_more(engine: StubEngine) -> None:
    answered, go = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        answered.set()
        await go.wait()
        return web.Response(text=metrics(kv_cache_size_tokens=1))

    engine.answers["/metrics"] = slow
    queue = FakeQueue()
    measurements = Measurements(FakeClient(None), queue)  # type: ignore[arg-type]
    of, one = served("first")
    measurements.follow(KEY, wants(of, measuring=Measuring(one, "VLLM", None, PER_TOKEN)))
    await asyncio.wait_for(answered.wait(), 20)
    engine.answers["/metrics"] = text(metrics(kv_cache_size_tokens=2048))
    of, one = served("second")
    measurements.follow(KEY, wants(of, measuring=Measuring(one, "VLLM", None, PER_TOKEN)))
    await asyncio.wait_for(queue.added.wait(), 20)
    go.set()
    await asyncio.sleep(0.2)
    found = measurements.known(KEY)
    assert found is not None
    assert (found.status.kv_tokens, found.status.pod_uid) == (2048, "second")
