"""Which private modules of huggingface_hub are used, by whom, and that its pinned version has what is used of them.

A private module may move in any release: this says so before a download does.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import llm_operator

ROOT = Path(llm_operator.__file__).parent
USED = {
    ("huggingface_hub.utils._headers", "build_hf_headers"): ("kube/hub_files.py", "modeltools/huggingface.py"),
    ("huggingface_hub.utils._http", "default_client_factory"): ("modeltools/huggingface.py",),
    ("huggingface_hub.utils._http", "parse_ratelimit_headers"): ("modeltools/huggingface.py",),
    ("huggingface_hub.utils._validators", "validate_repo_id"): ("kube/hub_files.py",),
}


def private_imports() -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if module.startswith("huggingface_hub.") and "._" in module:
                for alias in node.names if isinstance(node, ast.ImportFrom) else ():
                    found.setdefault((module, alias.name), []).append(str(path.relative_to(ROOT)))
    return {name: tuple(places) for name, places in found.items()}


def test_no_more_is_used_than_is_named_here() -> None:
    assert private_imports() == USED


@pytest.mark.parametrize(("module", "name"), USED)
def test_the_pinned_version_has_it(module: str, name: str) -> None:
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("name", ["build_hf_headers", "validate_repo_id"])
def test_it_is_what_the_public_name_is(name: str) -> None:
    (module,) = (module for module, used in USED if used == name)
    assert getattr(importlib.import_module("huggingface_hub.utils"), name) is getattr(
        importlib.import_module(module), name
    )


def test_it_takes_what_it_is_given() -> None:
    http = importlib.import_module("huggingface_hub.utils._http")
    headers = importlib.import_module("huggingface_hub.utils._headers")
    inspect.signature(headers.build_hf_headers).bind(library_name="llm-operator")
    inspect.signature(http.default_client_factory).bind()
    limits = http.parse_ratelimit_headers(
        {"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}
    )
    assert (limits.reset_in_seconds, limits.remaining) == (55, 0)
