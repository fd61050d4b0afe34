"""Which private modules of huggingface_hub are used, by whom, and that its pinned version has what is used of them.

A private module may move in any release: this says so before a download does.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
from pathlib import Path

import pytest

import llm_operator
from llm_operator.modeltools import hub_private

ROOT = Path(llm_operator.__file__).parent
ADAPTER = "modeltools/hub_private.py"
USED = {
    ("huggingface_hub.file_download", "http_get"),
    ("huggingface_hub.utils._headers", "build_hf_headers"),
    ("huggingface_hub.utils._http", "default_client_factory"),
    ("huggingface_hub.utils._http", "parse_ratelimit_headers"),
    ("huggingface_hub.utils._validators", "validate_repo_id"),
}


def is_private(module: str, name: str) -> bool:
    """Whether it is not of the package itself, nor of its documented errors."""
    return module not in ("huggingface_hub", "huggingface_hub.errors") or name.startswith("_")


def private_imports() -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = {(alias.name, "") for alias in node.names if alias.name.startswith("huggingface_hub.")}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "huggingface_hub":
                module = node.module or ""
                names = {(module, alias.name) for alias in node.names if is_private(module, alias.name)}
            else:
                continue
            if names:
                found.setdefault(str(path.relative_to(ROOT)), set()).update(names)
    return found


def test_one_module_uses_what_is_private() -> None:
    assert private_imports() == {ADAPTER: USED}


@pytest.mark.parametrize(("module", "name"), sorted(USED))
def test_the_pinned_version_has_it(module: str, name: str) -> None:
    assert callable(getattr(importlib.import_module(module), name))


def test_it_takes_what_it_is_given() -> None:
    inspect.signature(hub_private.http_get).bind(
        "http://hub/file", io.BytesIO(), resume_size=5, headers={}, expected_size=10, displayed_filename="file"
    )
    inspect.signature(hub_private.default_client_factory).bind()
    limits = hub_private.parse_ratelimit_headers(
        {"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}
    )
    assert limits is not None
    assert (limits.reset_in_seconds, limits.remaining) == (55, 0)


def test_the_headers_name_this_program() -> None:
    assert "llm-operator" in hub_private.build_hf_headers(library_name="llm-operator")["user-agent"]
