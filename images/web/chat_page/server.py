"""The page's server: its pages, its probes, and what it refuses."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from chat_page.engine import Engine
from chat_page.page import STYLE, THEME, Page
from chat_page.settings import Settings

Headers = Mapping[bytes, bytes]

BODY_LIMIT_BYTES = 32 * 2**20
"""A conversation travels with every question."""
MOST_ATTEMPTS, ATTEMPT_SECONDS = 10, 60.0
"""Attempts to log in from one address, and the time in which they count."""
MOST_ADDRESSES = 4096
# What the page needs of gradio's server. Its uploads, its file server and its proxy stay closed.
_API = (
    "queue/join|queue/data|heartbeat/[^/]+|run/predict/?|cancel|reset/?|startup-events|theme.css|app_id/?|info/?|user/?"
)
OPEN_PATHS = re.compile(
    rf"/|/healthz|/readyz|/config/?|/login/?|/logout/?|/login_check/?|/theme\.css|/favicon\.ico|/robots\.txt"
    rf"|/manifest\.json|/(assets|static|svelte)/.+|/gradio_api/({_API}|login_check/?)"
)
HEADERS = {
    # Markdown of a model may name pictures of other servers: no browser loads them.
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; "
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; worker-src 'self' blob:; "
        "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def application(settings: Settings) -> Any:
    """The ASGI application of the page."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def alive() -> PlainTextResponse:
        """The page's own readiness: it is there to say what is wrong with the engine."""
        return PlainTextResponse("ok\n")

    for path in ("/healthz", "/readyz"):
        app.add_api_route(path, alive)

    def admits(user: str, password: str) -> bool:
        same_user = hmac.compare_digest(user.encode(), settings.user_name.encode())
        return hmac.compare_digest(password.encode(), settings.password.encode()) and same_user

    mounted = gr.mount_gradio_app(
        app,
        Page(settings, Engine(settings)).blocks(),
        path="/",
        root_path=settings.root_path or None,
        auth=admits if settings.password else None,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        max_file_size=1,
        theme=THEME,
        css_paths=STYLE,
    )
    return Gate(mounted, settings.root_path)


class Attempts:
    """Attempts to log in, by address: ten at once, and ten a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[str, list[float]] = {}

    def begin(self, address: str) -> float | None:
        """Count an attempt; None if it is one too many."""
        now = self._clock()
        recent = [at for at in self._failed.pop(address, ()) if now - at < ATTEMPT_SECONDS]
        if len(self._failed) >= MOST_ADDRESSES:
            self._failed.pop(next(iter(self._failed)))
        self._failed[address] = recent
        if len(recent) >= MOST_ATTEMPTS:
            return None
        recent.append(now)
        return now

    def succeeded(self, address: str, begun: float) -> None:
        """What was begun at a time was right: it does not count."""
        if begun in (attempts := self._failed.get(address, [])):
            attempts.remove(begun)


class Gate:
    """Lets through what the page needs, and says to the browser what it may load."""

    def __init__(self, app: Any, root_path: str = "", attempts: Attempts | None = None) -> None:
        self._app = app
        self._root_path = root_path
        self._attempts = attempts or Attempts()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refused = _refusal(scope)
        login = scope["method"] == "POST" and scope["path"].rstrip("/") == "/login"
        address = str((scope.get("client") or ("",))[0])
        begun = self._attempts.begin(address) if login and refused is None else 0.0
        if begun is None:
            refused = PlainTextResponse("too many attempts: try again in a minute\n", 429, {"retry-after": "60"})

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                if login and begun and message["status"] < 400:
                    self._attempts.succeeded(address, begun)
                message = {**message, "headers": self._headers(message["headers"])}
            await send(message)

        await (refused or self._app)(scope, receive, with_headers)

    def _headers(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The headers of an answer: no other site reads it, or has a browser send the cookies of this one."""
        kept = [(name, value) for name, value in given if not name.lower().startswith(b"access-control-")]
        cookies = [(name, self._own(value) if name.lower() == b"set-cookie" else value) for name, value in kept]
        return [*cookies, *((name.encode(), value.encode()) for name, value in HEADERS.items())]

    def _own(self, cookie: bytes) -> bytes:
        """A cookie for this page alone: gradio 6.31 has other sites send it, and to every path of the host."""
        strict = re.sub(rb"(?i)samesite=none", b"SameSite=lax", cookie)
        return re.sub(rb"(?i)path=/(?=;|$)", b"Path=" + (self._root_path or "/").encode(), strict)


def _refusal(scope: Any) -> PlainTextResponse | None:
    """Why a request is not passed on; None: it is."""
    headers: Headers = dict(scope["headers"])
    if OPEN_PATHS.fullmatch(scope["path"]) is None or ".." in scope["path"]:
        return PlainTextResponse("not found\n", 404)
    if scope["method"] not in ("GET", "HEAD") and not _of_this_page(headers):
        return PlainTextResponse("another site's page may not ask; a proxy in between keeps Host\n", 403)
    # The server enforces an announced length; a body without one has no limit.
    length = headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers:
        return PlainTextResponse("the length of the body is missing\n", 411)
    if len(length) > 15 or not length.isdigit() or int(length) > BODY_LIMIT_BYTES:  # of bytes: ASCII digits
        return PlainTextResponse("the conversation is too long: begin a new one\n", 413)
    return None


def _of_this_page(headers: Headers) -> bool:
    """Whether a browser sent a request for this page, and not for one of another site.

    Over TLS and to localhost, browsers say so. Otherwise the origin must be the host that the client or the proxy in
    front of the page names. A page of another site cannot set any of these headers.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    if origin is None:
        return True
    try:
        host = urlsplit(origin.decode("latin-1")).netloc.encode("latin-1")
    except ValueError:
        return False
    return bool(host) and host in (headers.get(b"host"), headers.get(b"x-forwarded-host"))
