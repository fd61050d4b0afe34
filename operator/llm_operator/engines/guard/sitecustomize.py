"""Lets requests reach an engine's serving API only. Python runs it at its start, as PYTHONPATH names its folder.

uvicorn serves both engines (LMDeploy 0.9.2 to 0.18.0, vLLM 0.20.0 to 0.33.0). Routes besides the serving API run code
of the request, put the engine to sleep or end it; only these paths get as far as the engine's router.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
PATHS = ("/health", "/metrics", "/metrics/")
SERVING = "/v1/"
READ_ONLY = "/distserve/engine_info"  # the size of LMDeploy's KV cache; the operator reads it
LOADS_FILES = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")  # vLLM, with runtime LoRA updating
NOT_FOUND = json.dumps({"error": {"message": "only the serving API is reachable", "type": "NotFound", "code": 404}})
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(NOT_FOUND)).encode())]


def allowed(path: str, method: str | None) -> bool:
    """Whether a decoded path, as the router will match it, may be asked for."""
    if path in PATHS:
        return True
    if path == READ_ONLY:
        return method == "GET"
    if not path.startswith(SERVING) or path.rstrip("/") in LOADS_FILES:
        return False
    if "\\" in path or "%" in path or not path.isprintable():
        return False
    return all(part not in ("", ".", "..") for part in path[len(SERVING) :].removesuffix("/").split("/"))


class Guard:
    """An ASGI application before another."""

    def __init__(self, app: Any, root_path: str = "") -> None:
        self.app = app
        self.root_path = root_path or ""

    # Gives the application's own coroutine on, instead of one more around each request.
    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """Serve or refuse."""
        if scope["type"] == "lifespan":
            return self.app(scope, receive, send)
        path = scope["path"]
        root = (self.root_path or scope.get("root_path", "")).rstrip("/")
        # As starlette does (_utils.get_route_path).
        if root and path.startswith(root + "/"):
            path = path[len(root) :]
        if scope["type"] in ("http", "websocket") and allowed(path, scope.get("method")):
            return self.app(scope, receive, send)
        return refuse(scope["type"], send)


async def refuse(kind: str, send: Any) -> None:
    """Answer 404; a websocket is closed before it opened."""
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "http.response.start", "status": 404, "headers": HEADERS})
    await send({"type": "http.response.body", "body": NOT_FOUND.encode()})


def protect(config_module: Any) -> None:
    """Put the guard around what uvicorn serves, and open the port that was asked for on loopback only."""
    load = config_module.Config.load

    def guarded_load(self: Any) -> None:
        load(self)
        self.loaded_app = Guard(self.loaded_app, getattr(self.app, "root_path", ""))
        if self.host == "127.0.0.1":
            self.host = "0.0.0.0"  # noqa: S104

    config_module.Config.load = guarded_load


class Finder(importlib.abc.MetaPathFinder):
    """Calls protect() when a process imports uvicorn.config; others pay nothing."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The usual loader, with protect() after it."""
        if name != "uvicorn.config":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                run(module)
                protect(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def image_customization() -> None:
    """Run the image's own sitecustomize, which this one hides."""
    places = [place for place in sys.path if os.path.abspath(place or ".") != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", places)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, Finder())
    image_customization()
