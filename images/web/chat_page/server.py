"""The page's server: its pages, its probes, and what it refuses."""

from __future__ import annotations

import hmac
import re
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from chat_page.engine import Engine
from chat_page.page import STYLE, THEME, Page
from chat_page.settings import Settings

BODY_LIMIT_BYTES = 32 * 2**20
"""A conversation travels with every question."""
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
    return Gate(mounted)


class Gate:
    """Lets through what the page needs, and says to the browser what it may load."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if OPEN_PATHS.fullmatch(scope["path"]) is None or ".." in scope["path"]:
            await PlainTextResponse("not found\n", 404)(scope, receive, send)
            return
        if not length.isdigit() or int(length) > BODY_LIMIT_BYTES:
            await PlainTextResponse("the conversation is too long: begin a new one\n", 413)(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, with_headers)
