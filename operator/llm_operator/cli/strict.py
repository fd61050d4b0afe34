"""What the API server refuses and YAML readers pass over: unknown fields, and keys that are given twice."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

import yaml

from llm_operator.api.schema import structural
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.cli.errors import BadInputError

TOP = ("apiVersion", "kind", "metadata", "spec", "status")
METADATA = (
    *("annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers"),
    *("generateName", "generation", "labels", "managedFields", "name", "namespace", "ownerReferences"),
    *("resourceVersion", "selfLink", "uid"),
)
"""Fields of ObjectMeta (apimachinery meta/v1)."""
MOST_SHOWN = 60
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class GivenTwiceError(yaml.constructor.ConstructorError):
    """A key is there twice in one mapping."""

    def __str__(self) -> str:
        """Where, and where first."""
        return str(self.problem)


class StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader that refuses a key which a mapping already has, as the API server does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping.

        Raises:
            GivenTwiceError: a key is there twice; a merge (`<<`) may still be overridden.
        """
        seen: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            before = seen.setdefault((key.tag, key.value), key)
            if before is not key:
                name = key.value[:MOST_SHOWN]
                lines = f"lines {before.start_mark.line + 1} and {key.start_mark.line + 1}"
                raise GivenTwiceError(None, None, f"the key {name!r} is given twice, on {lines}", key.start_mark)
        return super().construct_mapping(node, deep=deep)


def decoded(content: bytes) -> str:
    """The text of a manifest; a byte order mark of UTF-8 is left out.

    Raises:
        BadInputError: it is UTF-16, which the API server does not read.
        UnicodeDecodeError: it is not UTF-8.
    """
    if content.startswith(_UTF16) or b"\0" in content[:4]:
        raise BadInputError(["is UTF-16 or UTF-32: save it as UTF-8"])
    return content.decode("utf-8-sig")


@cache
def _schema() -> Mapping[str, Any]:
    return structural(LLMDeploymentSpec)


def unknown_fields(document: Mapping[Any, Any]) -> list[tuple[str, str]]:
    """Field and problem of everything in an LLMDeployment that has no meaning there, with the nearest right name."""
    found = list(_unknown(document, TOP, ""))
    metadata = document.get("metadata")
    if isinstance(metadata, dict):
        found += _unknown(metadata, METADATA, "metadata")
    return [*found, *_walk(document.get("spec"), _schema(), "spec")]


def _walk(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _walk(entry, schema.get("items") or {}, f"{path}[{index}]")
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    properties = schema.get("properties")
    if properties is None:
        return  # a map, such as nodeSelector: every key is right
    yield from _unknown(value, properties, path)
    for name, entry in value.items():
        if isinstance(name, str) and name in properties:
            yield from _walk(entry, properties[name], f"{path}.{name}")


def _unknown(value: Mapping[Any, Any], known: Iterable[str], path: str) -> Iterator[tuple[str, str]]:
    names = list(known)
    lower = {name.lower(): name for name in names}
    for key in value:
        if key in names:
            continue
        text = str(key)[:MOST_SHOWN]
        near = [lower[name] for name in get_close_matches(text.lower(), lower, n=1)]
        hint = f"; did you mean {near[0]}?" if near else f"; expected one of {', '.join(names)}"
        yield f"{path}.{text}".lstrip("."), f"unknown field{hint}"
