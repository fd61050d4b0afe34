"""Every HTTP route that an engine's own sources declare, whichever options switch it on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.engines.environments import interpreter, sources

METHODS = {"get", "post", "put", "delete", "patch", "head", "options", "websocket", "api_route", "route"}
REGISTER = {"mount", "add_api_route", "add_route", "add_websocket_route", "add_api_websocket_route", "Mount", "Route"}
PLACES = {"lmdeploy": ("serve/openai",), "vllm": ("entrypoints",)}
"""lmdeploy/serve/proxy is another program, which no pod of the operator runs."""


def package(engine: str, version: str) -> Path:
    """Folder of the engine's package."""
    folder = sources(engine, version)
    if folder is not None:
        return folder / engine
    return next((interpreter(engine).parents[1] / "lib").glob("python3.*")) / "site-packages" / engine


def routes(engine: str, version: str) -> set[str]:
    """Paths of the routes, parameters in braces."""
    found: set[str] = set()
    for place in PLACES[engine]:
        for file in sorted((package(engine, version) / place).rglob("*.py")):
            found.update(_declared(ast.parse(file.read_text())))
    return found


def _declared(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in METHODS | REGISTER:
            continue
        words = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "path")]
        for word in words:
            if isinstance(word, ast.Constant) and isinstance(word.value, str) and word.value.startswith("/"):
                yield word.value
