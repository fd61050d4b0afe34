"""What kopf is handed: good answers only. The API server is a stand-in that answers what a test says."""

from __future__ import annotations

import asyncio
import copy
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llm_operator.kube import answers, api_session, reading
from llm_operator.kube.answers import needed_resources
from llm_operator.kube.api_session import ApiSession
from llm_operator.manifests.kinds import WATCHED
from llm_operator.telemetry.metrics import Metrics

JSON = dict[str, Any]
PODS = "/api/v1/pods"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Connection:
    """Credentials that change with every question."""

    asked = 0

    proxy = None

    def refused(self) -> None:
        """As always."""

    def authorization(self) -> str:
        self.asked += 1
        return f"Bearer token-{self.asked}"

    def ssl_context(self) -> bool:
        return False


class Session:
    """A session in front of answers that a test gives, in turn; the last one stays."""

    def __init__(self, *answers: Handler, **options: Any) -> None:
        self.answers = list(answers)
        self.requests: list[web.Request] = []
        self.metrics = Metrics()
        connection: Any = Connection()
        self.api = ApiSession(connection, [None], self.metrics, **options)

    async def __aenter__(self) -> Session:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.server = TestServer(app)
        await self.server.start_server()
        self.client = self.api.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.close()
        await self.server.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        handler = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await handler(request)

    async def get(self, path: str) -> Any:
        """As kopf's `get`."""
        response = await self.client.request(method="get", url=self.server.make_url(path))
        async with response:
            return await response.json()

    async def lines(self, path: str = f"{PODS}?watch=true") -> AsyncIterator[JSON]:
        """As kopf's `stream`."""
        response = await self.client.request(method="get", url=self.server.make_url(path))
        async with response:
            async for line in response.content.iter_chunked(1 << 20):
                yield json.loads(line)


def json_answer(body: object, status: int = 200, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body, status=status, headers=headers)

    return answer


def text_answer(text: str, kind: str = "application/json") -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type=kind)

    return answer


def pod(name: str, version: str = "1") -> JSON:
    return {"metadata": {"name": name, "namespace": "team", "uid": name, "resourceVersion": version}}


def listed(*pods: JSON, **meta: str) -> JSON:
    return {"kind": "PodList", "items": list(pods), "metadata": {"resourceVersion": "7", **meta}}


def events(*lines: object) -> Handler:
    return text_answer("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_session, "BACKOFF_SECONDS", 0.001)


@pytest.mark.parametrize(
    "bad",
    [
        json_answer({"kind": "Status", "reason": "Unauthorized"}, 401),
        json_answer({"kind": "Status"}, 403),
        json_answer({"kind": "Status"}, 404),
        json_answer({}, 500),
        text_answer("<html>", "text/html"),
        text_answer("<html>"),
        text_answer(""),
        text_answer("[" * 5000),
        json_answer([]),
        json_answer({"items": 5, "metadata": {"resourceVersion": "1"}}),
        json_answer({"items": [], "metadata": {}}),
        json_answer({"items": []}),
    ],
)
async def test_a_list_is_asked_for_until_it_is_one(bad: Handler) -> None:
    async with Session(bad, bad, json_answer(listed(pod("a")))) as session:
        assert await session.get(PODS) == listed(pod("a"))
        assert len(session.requests) == 3
        tokens = [request.headers["Authorization"] for request in session.requests]
        assert len(set(tokens)) == 3, "a token that is rotated is read again"


async def test_a_list_whose_token_expired_is_begun_anew() -> None:
    async with Session(json_answer({"kind": "Status", "code": 410}, 410)) as session:
        with pytest.raises(aiohttp.ClientPayloadError):
            await session.get(f"{PODS}?continue=x")
        assert len(session.requests) == 1


@pytest.mark.parametrize("bound", ["bytes", "values"])
async def test_a_page_that_is_too_long_is_asked_for_in_smaller_ones(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """A hundred objects of one tenant must not keep kopf from its list: the watch would be deaf to everybody."""
    monkeypatch.setattr(answers, "PAGE_BYTES", 4000 if bound == "bytes" else 1 << 20)
    monkeypatch.setattr(reading, "PAGE_VALUES", 1 << 20 if bound == "bytes" else 500)
    limits = []

    async def page(request: web.Request) -> web.Response:
        limit, start = int(request.query["limit"]), int(request.query.get("continue") or 0)
        limits.append(limit)
        items = [{**pod(f"n-{n}"), "x": [{}] * 130} for n in range(start, min(start + limit, 20))]
        return web.json_response(listed(*items, **({"continue": str(start + limit)} if start + limit < 20 else {})))

    async with Session(page) as session:
        names, token = [], "continue="
        while token:
            body = await session.get(f"{PODS}?limit=100&{token}")
            names += [item["metadata"]["name"] for item in body["items"]]
            token = f"continue={meta}" if (meta := body["metadata"].get("continue")) else ""
        assert names == [f"n-{n}" for n in range(20)]
        assert limits == [100, 12, *[1] * 20]
        await session.get(f"{PODS}?limit=100")
        assert limits[22] == 100, "the next list may be shorter"


async def test_kopf_gets_what_the_cache_does_not_hold() -> None:
    def known(kind: str, raw: JSON) -> bool:
        return (kind, raw["metadata"]["resourceVersion"]) == ("Pod", "1")

    items = [pod("old"), pod("new", "2"), {"metadata": None}, {"metadata": {"name": "x"}}, 5]
    async with Session(json_answer({**listed(), "items": items}), known=known) as session:
        assert (await session.get(PODS))["items"] == [pod("new", "2")]
        unreadable = session.metrics.registry.get_sample_value("llm_operator_unreadable_objects_total", {"kind": "Pod"})
        assert unreadable == 3


def deep(levels: int) -> JSON:
    value: Any = 1
    for _ in range(levels):
        value = {"a": [value]}
    return {**pod("deep"), "spec": value}


def written(value: object) -> str:
    """json.dumps is recursive, too."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        return json.dumps(value)
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize("levels", [50, 99, 100, 150, 400, 5000])
async def test_an_object_that_is_nested_deeply_hides_no_other(levels: int) -> None:
    """Fields that preserve what they do not know take 10,000 levels: one object must not blind the operator."""
    async with Session(text_answer(written(listed(pod("a"), deep(levels), pod("b"))))) as session:
        names = [item["metadata"]["name"] for item in (await session.get(PODS))["items"]]
        assert names == ["a", "deep", "b"]
    lines = [written({"type": "ADDED", "object": one}) for one in (pod("a"), deep(levels), pod("b"))]
    async with Session(events(*lines)) as session:
        told = [event async for event in session.lines()]
        assert [event["object"]["metadata"]["name"] for event in told] == names
        copy.deepcopy(told)  # as kopf does


async def test_a_watch_that_begins_anew_asks_for_a_relist() -> None:
    relists = []
    async with Session(json_answer(listed()), relisted=lambda: relists.append(1)) as session:
        await session.get(PODS)
        assert relists == []
        await session.get(PODS)
        await session.get(f"{PODS}?continue=x")
        assert relists == [1]


async def test_an_event_that_an_answer_has_told_already_is_no_news() -> None:
    def known(_: str, raw: JSON) -> bool:
        return bool(raw["metadata"]["resourceVersion"] == "5")

    said = [("ADDED", "5"), ("MODIFIED", "5"), ("MODIFIED", "6"), ("DELETED", "5")]
    lines = [{"type": kind, "object": pod("a", version)} for kind, version in said]
    async with Session(events(*lines), known=known) as session:
        seen = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "5"}}}
        assert [event async for event in session.lines()] == [seen, seen, *lines[2:]]


async def test_good_events_pass_and_others_are_left_out() -> None:
    good = [
        {"type": "ADDED", "object": pod("a")},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}},
        {"type": "DELETED", "object": pod("a", "10")},
    ]
    bad: list[object] = [
        {"type": "ADDED", "object": None},
        {"type": "MODIFIED", "object": {"metadata": {"name": "x"}}},
        {"type": "SNEEZED", "object": pod("a")},
        {"type": "BOOKMARK"},
        {},
    ]
    async with Session(events(*(one for pair in zip(good, bad[:3], strict=True) for one in pair), *bad[3:])) as session:
        assert [event async for event in session.lines()] == good
        assert session.api.streams[PODS].opened
        assert not session.api.streams[PODS].watching


@pytest.mark.parametrize("line", ["<html>", "[1]", '{"type": "ADDED", "obj', "[" * 5000])
async def test_a_line_that_is_no_event_breaks_the_connection(line: str) -> None:
    async with Session(events({"type": "ADDED", "object": pod("a")}, line)) as session:
        lines = session.lines()
        assert (await anext(lines))["type"] == "ADDED"
        with pytest.raises(aiohttp.ClientPayloadError):
            await anext(lines)
        assert session.api.streams[PODS].failures == 1


@pytest.mark.parametrize(
    "error",
    [{"code": 410}, {"code": 500, "message": "etcdserver: no leader"}, {}, None, {"code": "410"}],
)
async def test_an_error_in_a_watch_makes_kopf_list_again(error: object) -> None:
    async with Session(events({"type": "ERROR", "object": error})) as session:
        told = [event async for event in session.lines()]
        assert [(event["type"], event["object"]["code"]) for event in told] == [("ERROR", 410)]


async def test_a_watch_that_is_refused_with_410_makes_kopf_list_again() -> None:
    async with Session(json_answer({"code": 410}, 410)) as session:
        assert [event["object"]["code"] async for event in session.lines()] == [410]


async def test_a_watch_that_is_reopened_makes_kopf_list_again_once() -> None:
    """After an etcd restore, a watch from what kopf saw last would tell nothing for as long as versions are lower."""
    event = {"type": "ADDED", "object": pod("a")}
    async with Session(events(event)) as session:
        session.api.reopen("Pod")
        assert [one["object"]["code"] async for one in session.lines()] == [410]
        assert [one async for one in session.lines()] == [event]


@pytest.mark.parametrize("bad", [json_answer({}, 401), json_answer({}, 403), text_answer("<html>", "text/html")])
async def test_a_watch_is_opened_until_it_is_one(bad: Handler) -> None:
    event = {"type": "ADDED", "object": pod("a")}
    async with Session(bad, bad, events(event)) as session:
        assert [one async for one in session.lines()] == [event]


async def test_the_discovery_is_asked_for_until_nothing_is_missing() -> None:
    """kopf reads it once, and never watches what it does not find there."""
    path, names = next(iter(needed_resources().items()))
    whole = {"resources": [{"name": name} for name in [*names, "others"]]}
    async with Session(json_answer({"resources": []}), json_answer({}, 404), json_answer(whole)) as session:
        assert await session.get(path) == whole
    groups = {"groups": [{"name": group} for group in sorted({row.group for row in WATCHED} - {""})]}
    async with Session(json_answer({"groups": []}), json_answer({"groups": 5}), json_answer(groups)) as session:
        assert await session.get("/apis") == groups


async def test_retry_after_is_heeded_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []
    pause = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await pause(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    bad = [json_answer({}, 429, **{"Retry-After": value}) for value in ("7", "100000", "9" * 5_000, "soon", "\u00b2")]
    async with Session(*bad, json_answer(listed())) as session:
        await session.get(PODS)
    assert [seconds for seconds in pauses if seconds >= 1] == [7.0, answers.RETRY_AFTER_LIMIT_SECONDS]
