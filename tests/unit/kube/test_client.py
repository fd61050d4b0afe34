"""The client against a server of its own, which answers what it was asked."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import to_json

from llm_operator.kube import client as client_module
from llm_operator.kube import reading, transport
from llm_operator.kube.client import REPLACED, ApiClient, ApiError
from llm_operator.kube.encoding import as_go, yaml_safe
from llm_operator.telemetry.metrics import Metrics

SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo", "namespace": "team"}, "spec": {"ä": [1]}}


class FakeConnection:
    """Credentials that change with every question."""

    proxy = None

    def __init__(self, server: str) -> None:
        self.server = server
        self.asked = 0

    def refused(self) -> None:
        """They change anyway."""

    def authorization(self) -> str:
        self.asked += 1
        return f"Bearer token-{self.asked}"

    def ssl_context(self) -> ssl.SSLContext | bool:
        return False


async def echo(request: web.Request) -> web.Response:
    if "missing" in request.path:
        return web.json_response({"reason": "NotFound", "message": "no such thing"}, status=404)
    return web.json_response(
        {
            "metadata": {"name": "demo", "namespace": "team", "uid": "1", "resourceVersion": "1"},
            "authorization": request.headers["Authorization"],
            "type": request.headers["Content-Type"],
            "query": dict(request.query),
            "body": await request.json() if request.can_read_body else None,
        }
    )


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    started = TestServer(app)
    async with started:
        yield started


def client_for(server: TestServer) -> ApiClient:
    return ApiClient(FakeConnection(str(server.make_url("")).rstrip("/")), Metrics())  # type: ignore[arg-type]


async def test_a_request_that_the_chart_does_not_grant_is_not_sent(server: TestServer) -> None:
    async with client_for(server) as client:
        for work in (
            client.delete("Pod", "team", "demo", "1"),
            client.annotate("Node", "team", "demo", "1", {}),
            client.create({"kind": "ReplicaSet", "metadata": {"namespace": "team", "name": "demo"}}),
        ):
            with pytest.raises(ValueError, match="is not in the table of kinds"):
                await work


async def test_an_apply_sends_the_object_under_our_field_manager(server: TestServer) -> None:
    async with client_for(server) as client:
        answer = await client.apply(SERVICE, force=True)
    assert answer["body"] == SERVICE
    assert answer["query"] == {"fieldManager": "llm-operator", "force": "true"}
    assert answer["type"] == "application/apply-patch+yaml"


async def test_credentials_are_asked_for_now_and_then(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with client_for(server) as client:
        told = [(await client.get("Service", "team", "demo"))["authorization"] for _ in range(3)]
        assert told == ["Bearer token-1"] * 3
    monkeypatch.setattr(transport, "AUTHORIZATION_SECONDS", 0.0)
    async with client_for(server) as client:
        told = [(await client.get("Service", "team", "demo"))["authorization"] for _ in range(2)]
        assert told == ["Bearer token-1", "Bearer token-2"]


async def test_a_refusal_carries_the_server_s_words(server: TestServer) -> None:
    async with client_for(server) as client:
        with pytest.raises(ApiError, match="404 NotFound: no such thing"):
            await client.get("Service", "team", "missing")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("999999999", 60.0), ("9" * 5_000, None), ("\u00b2", None), ("-1", None), ("Wed, 21 Oct", None)],
)
async def test_a_proxy_s_retry_after_is_read_as_input(value: str, seconds: float | None) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({}, status=503, headers={"Retry-After": value})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    started = TestServer(app)
    async with started, client_for(started) as client:
        with pytest.raises(ApiError) as refused:
            await client.get("Service", "team", "demo")
    assert refused.value.retry_after == seconds


@pytest.mark.parametrize(
    ("details", "causes"),
    [
        ({"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}, {"NamespaceTerminating"}),
        ({"causes": None}, set()),
        ({"causes": {"reason": "NamespaceTerminating"}}, set()),
        ({"causes": ["NamespaceTerminating", None, {}]}, {"None"}),
        ({"causes": [{"reason": str(number)} for number in range(1000)]}, {str(number) for number in range(16)}),
        ("NamespaceTerminating", set()),
    ],
)
def test_a_refusal_carries_its_causes_whatever_they_are(details: object, causes: set[str]) -> None:
    text = json.dumps({"reason": "Forbidden", "message": "it is being terminated", "details": details}).encode()
    assert client_module._error(403, text, None).causes == causes


@pytest.mark.parametrize(
    "text", ["<html>busy</html>", "", '{"items": [', "[]", "null", "{}", '{"items": null, "metadata": {}}']
)
async def test_an_answer_that_is_no_list_is_a_refusal_and_not_an_empty_list(text: str) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    started = TestServer(app)
    async with started, client_for(started) as client:
        with pytest.raises(ApiError, match="502 Unreadable"):
            [item async for item in client.list("Pod", None)]
        with pytest.raises(ApiError, match="502 Unreadable"):
            await client.list_events("team", "pod-1", 10)


async def test_events_of_one_object_are_bounded_in_number_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def page(request: web.Request) -> web.Response:
        asked.append((request.path, dict(request.query)))
        return web.json_response({"items": [{"message": "x" * 100}] * 20, "metadata": {"continue": "more"}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    async with TestServer(app) as server, api_of(server) as api:
        assert len(await api.list_events("team", "pod-1", 10)) == 10
        monkeypatch.setattr(client_module, "EVENTS_BYTES", 1000)
        with pytest.raises(ApiError, match="more than 1,000 bytes"):
            await api.list_events("team", "pod-1", 10)
    assert asked[0] == ("/api/v1/namespaces/team/events", {"fieldSelector": "involvedObject.uid=pod-1", "limit": "10"})
    assert len(asked) == 2, "nothing is asked a second time"


def api_of(server: BaseTestServer) -> ApiClient:
    connection: Any = FakeConnection(str(server.make_url("")).rstrip("/"))
    return ApiClient(connection, Metrics())


async def test_an_answer_of_any_length_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "OBJECT_BYTES", 1000)
    monkeypatch.setattr(client_module, "ERROR_BYTES", 1000)

    async def long(_: web.Request) -> web.Response:
        return web.Response(text=json.dumps({"metadata": {"x": "y" * 10_000}}), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", long)
    async with TestServer(app) as server, api_of(server) as api:
        with pytest.raises(ApiError, match="more than 1,000 bytes"):
            await api.get("Service", "team", "demo")
        with pytest.raises(ApiError, match="more than 1,200 bytes"):
            await api.read_log("team", "pod", "engine", 100)


async def test_a_page_that_is_too_long_is_asked_for_in_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE_BYTES", 4000)
    limits = []

    async def page(request: web.Request) -> web.Response:
        limit, start = int(request.query["limit"]), int(request.query.get("continue", 0))
        limits.append(limit)
        items = [{"metadata": {"name": f"n-{n}", "x": "y" * 400}} for n in range(start, min(start + limit, 20))]
        meta = {"continue": str(start + limit)} if start + limit < 20 else {}
        return web.json_response({"items": items, "metadata": meta})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    async with TestServer(app) as server, api_of(server) as api:
        names = [item["metadata"]["name"] async for item in api.list("Pod", None)]
    assert names == [f"n-{n}" for n in range(20)]
    assert limits[:3] == [100, 12, 1]


async def test_a_page_of_too_many_values_is_asked_for_in_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three bytes of JSON take up to seventy of memory. A single object is read, however it is made."""
    monkeypatch.setattr(reading, "PAGE_VALUES", 500)
    limits = []

    async def page(request: web.Request) -> web.Response:
        limit, start = int(request.query["limit"]), int(request.query.get("continue", 0))
        limits.append(limit)
        items = [{"metadata": {"name": f"n-{n}"}, "x": [{}] * 300} for n in range(start, min(start + limit, 3))]
        meta = {"continue": str(start + limit)} if start + limit < 3 else {}
        return web.json_response({"items": items, "metadata": meta})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    async with TestServer(app) as server, api_of(server) as api:
        assert len([item async for item in api.list("Pod", None)]) == 3
    assert limits == [100, 12, 1, 1, 1]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
@example("\x7f\x80\x85\x9f\u2028\u2029\ufeff\ufffe\uffff")
@example("--\x7f")
def test_what_is_sent_as_yaml_says_the_same_as_json(text: str) -> None:
    sent = yaml_safe(to_json({"args": [text]}))
    assert json.loads(sent) == {"args": [text]}
    assert yaml.safe_load(sent) == {"args": [text]}


@pytest.mark.parametrize("text", ["{}", '{"metadata": null}', '{"metadata": {"name": "demo", "uid": 7}}', "[]", "{"])
async def test_an_answer_that_is_no_stored_object_is_a_refusal(text: str) -> None:
    """It would be taken into the cache; an empty one ended each reconciliation with a KeyError."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    started = TestServer(app)
    async with started, client_for(started) as client:
        for work in (
            client.get("Service", "team", "demo"),
            client.create(SERVICE),
            client.create(SERVICE, dry_run=True),
            client.apply(SERVICE, force=True),
            client.annotate("Job", "team", "demo", "1", {}),
            client.apply_status("team", "demo", "1", {}),
        ):
            with pytest.raises(ApiError, match="502 Unreadable"):
                await work


@given(st.text())
@example("<&>\u2028\u2029\x7f\x08\u00e9")
def test_json_is_sent_as_go_writes_it_and_means_the_same(text: str) -> None:
    sent = as_go(to_json({"args": [text]}))
    assert json.loads(sent) == {"args": [text]}
    assert not set("<>&\u2028\u2029") & set(sent.decode())
    assert as_go(sent) == sent


async def test_a_write_to_a_successor_is_a_conflict() -> None:
    """A patch that names another uid is refused as Invalid (kube-apiserver 1.30 and 1.36): the object was replaced."""

    async def invalid(_: web.Request) -> web.Response:
        cause = {"reason": "FieldValueInvalid", "field": "metadata.uid", "message": "field is immutable"}
        told = {"kind": "Status", "reason": "Invalid", "message": "no", "details": {"causes": [cause]}, "code": 422}
        return web.json_response(told, status=422)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", invalid)
    started = TestServer(app)
    async with started, client_for(started) as client:
        with pytest.raises(ApiError) as refused:
            await client.annotate("Job", "team", "demo", "1", {"a": "b"})
    assert (refused.value.status, refused.value.reason) == (409, REPLACED)


def test_a_field_that_an_older_api_server_does_not_have_is_refused_and_not_its_failure() -> None:
    """As kube-apiserver 1.30.14 answers an apply of an image volume: to try that again does not help."""
    said = (
        "failed to create typed patch object (a/b; apps/v1, Kind=Deployment): .spec.image: field not declared in schema"
    )
    text = json.dumps({"kind": "Status", "message": said, "code": 500}).encode()
    assert client_module._error(500, text, None).status == 422
    assert client_module._error(500, b'{"message": "etcdserver: no leader"}', None).status == 500
