"""The chart's README: an introduction, and a table of its values made of values.yaml and the comments in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from devcluster.cache import ROOT

CHART = ROOT / "helm" / "llm-operator"


@dataclass(frozen=True)
class Value:
    """One value of the chart."""

    path: str
    default: str
    """As JSON."""
    comment: str


def values(text: str) -> list[Value]:
    """Every value of a values.yaml, in its order, with the comment above it.

    A comment above a mapping belongs to the mapping; a mapping without entries is a value itself.
    """
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise TypeError("values.yaml is not a mapping")
    return list(_walk(root, "", text.splitlines()))


def _walk(node: yaml.MappingNode, prefix: str, lines: Sequence[str]) -> Iterator[Value]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        comment = _comment_above(lines, key.start_mark.line)
        if isinstance(value, yaml.MappingNode) and value.value:
            if comment:
                yield Value(path, "", comment)
            yield from _walk(value, f"{path}.", lines)
        else:
            yield Value(path, json.dumps(_plain(value)), comment)


def _plain(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node))


def _comment_above(lines: Sequence[str], line: int) -> str:
    found: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].lstrip().removeprefix("#").strip())
    return " ".join(found)


def table(entries: Sequence[Value]) -> str:
    """A Markdown table of values."""
    rows = ["| value | default | |", "|---|---|---|"]
    for entry in entries:
        default = f"`{entry.default}`" if entry.default else ""
        rows.append(f"| `{entry.path}` | {default} | {_escaped(entry.comment)} |")
    return "\n".join(rows) + "\n"


def _escaped(text: str) -> str:
    for character, entity in (("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        text = text.replace(character, entity)
    return text


def readme() -> str:
    """The whole README."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    head = (Path(__file__).parent / "chart_readme.md").read_text()
    head = head.replace("{version}", chart["version"]).replace("{description}", chart["description"])
    head = head.replace("{kubeVersion}", chart["kubeVersion"].removesuffix("-0").replace(">=", ">= "))
    return head + table(values((CHART / "values.yaml").read_text()))
