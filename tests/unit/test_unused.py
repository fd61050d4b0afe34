"""What is drawn is used: no field, method, function or constant of the operator is read by nothing but tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import llm_operator

ROOT = Path(llm_operator.__file__).parent
EXCUSED: dict[str, str] = {
    # Called by a framework.
    "_Dumper.ignore_aliases": "PyYAML",
    "_Plain.ignore_aliases": "PyYAML",
    "Events.iter_chunked": "kopf, in the place of aiohttp's stream",
    "NoDiffBase.build": "kopf",
    "NoDiffBase.store": "kopf",
    "NoProgress.store": "kopf",
    "NoProgress.purge": "kopf",
    "NoProgress.touch": "kopf",
    # Fields of the resource: written with all others, by pydantic.
    "QuantizationStatus.perplexity_original": "status",
    "QuantizationStatus.perplexity_quantized": "status",
    "QuantizationStatus.perplexity_increase_percent": "status",
    "QuantizationStatus.agreement_percent": "status",
    "LLMDeploymentStatus.ready_replicas": "status",
    "LabelSelector.match_labels": "NetworkPolicy",
    "LabelSelector.match_expressions": "NetworkPolicy",
    "AddressBlock.except_": "NetworkPolicy",
    # What tests hold the rest of the project to.
    "PUBLISHED": "devtools builds these images",
    "KindRow.grant": "the chart's rights are compared with it",
    "known_failure": "the healthy logs of the engines are held to it",
    "WeightHeader.bytes_by_dtype": "the counts of parameters are recounted with it",
    "WeightHeader.file_bytes": "the counts of parameters are recounted with it",
    "Plan.kv_bytes_per_gpu": "the accuracy of plans is measured with it",
}


def drawn(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Everything that a module defines: how it is called here, and its bare name."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=owner, body=body):
                for entry in body:
                    match entry:
                        case ast.AnnAssign(target=ast.Name(id=name)) if name != "model_config":
                            yield f"{owner}.{name}", name
                        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if not _called(entry):
                            yield f"{owner}.{name}", name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name, name


def _called(node: ast.stmt) -> bool:
    """A method that Python or pydantic calls."""
    decorators = [ast.unparse(one) for one in getattr(node, "decorator_list", [])]
    dunder = str(getattr(node, "name", "")).startswith("__")
    return dunder or any("validator" in one or "serializer" in one for one in decorators)


def read(tree: ast.Module) -> Iterator[str]:
    """Every name that a module reads, also in a text: getattr, and names of fields in a table."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Load()) | ast.Name(id=name, ctx=ast.Load()):
                yield name
            case ast.Constant(value=str(text)):
                yield text
            case ast.MatchClass(kwd_attrs=names):
                yield from names


@cache
def trees() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py")))


def unused(modules: tuple[ast.Module, ...]) -> list[str]:
    known = {name for tree in modules for name in read(tree)}
    return sorted({title for tree in modules for title, name in drawn(tree) if name not in known and name[:2] != "__"})


def test_everything_is_used() -> None:
    assert [name for name in unused(trees()) if name not in EXCUSED] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class A:\n    b: int\n    def c(self) -> None: ...", ["A.b", "A.c"]),
        ("class A:\n    b: int\nprint(A(1).b)", []),
        ("def f() -> None: ...\nX = 1", ["X", "f"]),
        ("def f() -> None: ...\ngetattr(here, 'f')", []),
    ],
)
def test_what_is_unused_is_found(source: str, found: list[str]) -> None:
    assert unused((ast.parse(source),)) == found
