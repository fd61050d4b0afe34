"""The filter before an engine's router, by itself: which paths it lets through, and what it does to uvicorn."""

from __future__ import annotations

import asyncio
import types
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.engines import guard

GUARD: Any = types.ModuleType("guard_under_test")
GUARD.__file__ = __file__
exec(compile(guard.source(), guard.FILE, "exec"), GUARD.__dict__)

HARMFUL = ("/update_weights", "/sleep", "/terminate", "/collective_rpc", "/distserve/p2p_connect")


def reached(path: str, kind: str = "http", method: str = "POST", app_root: str = "", scope_root: str = "") -> bool:
    """Whether a request comes as far as the application."""
    calls: list[str] = []
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["path"])

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": kind, "path": path, "root_path": scope_root}
    if kind == "http":
        scope["method"] = method
    asyncio.run(GUARD.Guard(app, app_root)(scope, None, send))
    assert bool(calls) != bool(sent)
    if sent:
        assert sent[0].get("status") == 404 or sent[0]["type"] == "websocket.close"
    return bool(calls)


@pytest.mark.parametrize(
    "path",
    ["/v1/models", "/v1/models/org/name", "/v1/chat/completions", "/v1/responses/r_1/cancel", "/health", "/metrics"],
)
def test_serving_is_let_through(path: str) -> None:
    assert reached(path)
    assert reached(f"/api{path}", app_root="/api")
    assert reached(f"/api{path}", scope_root="/api")


@pytest.mark.parametrize("path", HARMFUL)
@pytest.mark.parametrize(
    "form",
    [
        "{}", "{}/", "/{}", "//{}", "/v1/..{}", "/v1/.{}", "/v1/x/../..{}", "/v1/%2e%2e{}", "/v1/\\..{}", "/health{}",
        "/health/..{}",        "/metrics{}", "/V1{}", "/v1{}\x00", "\t{}", "/v1\n{}", "/distserve/engine_info{}",
    ],
)  # fmt: skip
def test_disguises_are_refused(path: str, form: str) -> None:
    hostile = form.format(path)
    assert not reached(hostile)
    assert not reached(hostile, kind="websocket")


def test_loading_files_is_refused() -> None:
    assert not reached("/v1/load_lora_adapter")
    assert not reached("/v1/unload_lora_adapter/")


def test_a_root_path_opens_nothing() -> None:
    # starlette takes the root path away before it looks for the route
    assert not reached("/v1/update_weights", app_root="/v1")
    assert not reached("/v1/update_weights", scope_root="/v1")
    assert not reached("/v1//update_weights", app_root="/v1/")
    assert not reached("/health/update_weights", app_root="/health")


def test_the_cache_is_told_to_readers_only() -> None:
    assert reached("/distserve/engine_info", method="GET")
    assert not reached("/distserve/engine_info", method="POST")
    assert not reached("/distserve/engine_info", kind="websocket")


@settings(max_examples=2000, deadline=None)
@given(st.text(alphabet="/.%\\v1Vhealtmrics2eEfF0ux \n\x00:;?#é", max_size=40))
def test_whatever_is_let_through_is_a_path_below_the_serving_api(path: str) -> None:
    if GUARD.allowed(path, "POST"):
        assert path in ("/health", "/metrics", "/metrics/") or path.startswith("/v1/")
        assert ".." not in path.split("/")
        assert "//" not in path
        assert not set(path) & set("\\%\n\x00")


def test_lifespan_passes() -> None:
    calls: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["type"])

    asyncio.run(GUARD.Guard(app)({"type": "lifespan"}, None, None))
    assert calls == ["lifespan"]


def test_the_port_is_opened_with_the_guard_only() -> None:
    class Config:
        def __init__(self, host: str) -> None:
            self.host, self.app, self.loaded_app = host, object(), "app"

        def load(self) -> None:
            self.loaded_app = "loaded"

    GUARD.protect(types.SimpleNamespace(Config=Config))
    for asked, listens in (("127.0.0.1", "0.0.0.0"), ("10.0.0.1", "10.0.0.1")):
        config = Config(asked)
        config.load()
        assert config.host == listens
        assert isinstance(config.loaded_app, GUARD.Guard)
