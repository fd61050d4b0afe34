"""The watches without kopf: what they request, and what becomes of what they see. The API server is a stand-in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llm_operator.api import KIND
from llm_operator.kube import child_watches
from llm_operator.kube.api_session import ApiSession
from llm_operator.kube.child_watches import watch_children
from llm_operator.kube.handlers import known_lists
from llm_operator.manifests.kinds import KINDS, WATCHED
from llm_operator.telemetry.metrics import Metrics

JSON = dict[str, Any]
CHILDREN = [row for row in WATCHED if row.name != KIND]
SERVICES = KINDS["Service"].path()
GONE = {"type": "ERROR", "object": {"code": 410}}


class Connection:
    """No credentials."""

    proxy = None

    def authorization(self) -> None:
        """None."""

    def ssl_context(self) -> bool:
        return False


class Server:
    """Lists are empty but of Services; the watches of Services are what a test says, one after the other."""

    def __init__(self) -> None:
        self.items: list[JSON] = []
        self.watches: list[list[JSON]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """As the API server."""
        self.requests.append((request.path, dict(request.query)))
        mine = request.path == SERVICES
        if "watch" not in request.query:
            token = request.query.get("continue")
            shown = (self.items[1:] if token else self.items[:1]) if mine else []
            more = {"continue": "next"} if mine and not token and len(self.items) > 1 else {}
            return web.json_response({"items": shown, "metadata": {"resourceVersion": "7", **more}})
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if not mine or not self.watches:
            await asyncio.Event().wait()
        for event in self.watches.pop(0):
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    def of_services(self, name: str) -> list[str | None]:
        """That parameter of each request for Services so far."""
        return [query.get(name) for path, query in self.requests if path == SERVICES]


class World:
    """The watches in front of a server, with a cache and queues that only record."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.taken: list[tuple[str, str, str]] = []
        self.queued: list[tuple[str, object]] = []
        self.news: list[bool] = []
        connection: Any = Connection()
        self.session = ApiSession(connection, [None], Metrics())

    def update(self, raw: JSON) -> str:
        self.taken.append(("update", raw["kind"], raw["metadata"]["name"]))
        return str(raw["metadata"]["name"])

    def remove(self, raw: JSON) -> str:
        self.taken.append(("remove", raw["kind"], raw["metadata"]["name"]))
        return str(raw["metadata"]["name"])

    def add(self, key: str, because: object, *, news: bool = True) -> None:
        self.queued.append((key, because))
        self.news.append(news)

    async def until(self, done: Callable[[], bool]) -> None:
        """Watch until something is so."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.server.answer)
        test_server = TestServer(app)
        await test_server.start_server()
        me: Any = self
        watching = asyncio.ensure_future(
            watch_children(self.session, str(test_server.make_url("")).rstrip("/"), me, me)
        )
        try:
            async with asyncio.timeout(20):
                while not done():
                    assert not watching.done(), watching.result()
                    await asyncio.sleep(0.001)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self.session.close()
            await test_server.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_watches, "AGAIN_SECONDS", 0.001)


def service(name: str, version: str) -> JSON:
    return {"metadata": {"name": name, "namespace": "team", "uid": name, "resourceVersion": version}}


def event(kind: str, name: str, version: str) -> JSON:
    return {"type": kind, "object": service(name, version)}


async def test_every_child_kind_is_listed_and_watched_by_its_selector() -> None:
    world = World(Server())
    await world.until(lambda: all(world.session.streams[row.path()].watching for row in CHILDREN))
    for row in CHILDREN:
        queries = [query for path, query in world.server.requests if path == row.path()]
        assert [query.get("watch") for query in queries] == [None, "true"], row.name
        assert {query.get("labelSelector") for query in queries} == {row.selector or None}, row.name
        assert queries[1]["resourceVersion"] == "7"
    assert KINDS[KIND].path() not in {path for path, _ in world.server.requests}, "kopf watches these"


async def test_a_list_is_taken_in_page_by_page_and_then_the_events() -> None:
    world = World(Server())
    world.server.items = [service("a", "3"), service("b", "4")]
    world.server.watches = [[event("MODIFIED", "a", "8"), event("DELETED", "b", "9")]]
    await world.until(lambda: len(world.queued) == 4)
    assert world.taken == [
        (how, "Service", name) for how, name in [*[("update", one) for one in "aba"], ("remove", "b")]
    ]
    assert world.queued == [("a", ("Service", "3")), ("b", ("Service", "4")), ("a", ("Service", "8")), ("b", None)]
    assert world.news == [False, False, True, True], "what a list holds waits behind what a watch reports"


async def test_a_watch_goes_on_where_it_ended() -> None:
    world = World(Server())
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}}
    world.server.watches = [[event("ADDED", "a", "8")], [bookmark], []]
    await world.until(lambda: len(world.server.of_services("watch")) == 5)
    assert world.server.of_services("resourceVersion") == [None, "7", "8", "20", "20"]


async def test_a_watch_that_expired_begins_with_a_list() -> None:
    world = World(Server())
    world.server.watches = [[event("ADDED", "a", "8"), GONE]]
    await world.until(lambda: len(world.server.of_services("watch")) == 4)
    assert world.server.of_services("watch") == [None, "true", None, "true"]


async def test_a_line_that_is_no_event_costs_no_event() -> None:
    world = World(Server())
    world.server.watches = [[event("ADDED", "a", "8"), "nonsense"], [event("ADDED", "b", "9")]]  # type: ignore[list-item]
    await world.until(lambda: len(world.queued) == 2)
    assert [key for key, _ in world.queued] == ["a", "b"]
    assert world.server.of_services("resourceVersion")[:3] == [None, "7", "8"]


async def test_a_silent_watch_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_watches, "SILENT_SECONDS", 0.01)
    world = World(Server())
    await world.until(lambda: world.server.of_services("watch").count("true") >= 2)
    asked = world.server.of_services("watch")
    assert asked[0] is None
    # On a busy machine the list takes longer than that, too, and is requested again.
    assert None not in asked[asked.index("true") :]


async def test_what_the_cache_was_filled_from_is_not_listed_again() -> None:
    world = World(Server())
    world.session.begin_at({row.path(): "5" for row in WATCHED})
    world.server.watches = [[GONE]]
    await world.until(lambda: len(world.server.of_services("watch")) == 3)
    assert world.server.of_services("watch") == ["true", None, "true"], "but for one whose version has expired"
    assert world.server.of_services("resourceVersion")[0] == "5"


async def test_kopf_lists_nothing_that_is_known() -> None:
    """As kopf's `get`; the second time, it is the API server that answers."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"items": [service("a", "9")], "metadata": {"resourceVersion": "9"}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    connection: Any = Connection()
    session = ApiSession(connection, [None], Metrics())
    path = KINDS[KIND].path()
    session.begin_at({path: "5"})
    requests = known_lists(session)

    async def get() -> Any:
        response = await requests.request(method="get", url=str(server.make_url(f"{path}?limit=100")), json=None)
        assert response.status == 200
        async with response:
            return await response.json()

    try:
        assert await get() == {"items": [], "metadata": {"resourceVersion": "5"}}
        assert asked == []
        assert (await get())["metadata"] == {"resourceVersion": "9"}
        assert asked == [path]
        assert not requests.closed
    finally:
        await session.close()
        await server.close()
