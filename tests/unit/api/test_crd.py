"""The CRD as it is generated: its size, its file, and what every part of it must have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.api.crd import FILE_NAME, crd_yaml, custom_resource_definition, main

CRDS = Path(__file__).parents[3] / "crds"
LIMIT_BYTES = 200_000
LONGEST_DESCRIPTION = 200

CRD = custom_resource_definition()
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a schema with its path."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts(part, f"{path}.{name}")
    for keyword, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(keyword), dict):
            yield from parts(schema[keyword], path + mark)


def test_it_stays_far_below_what_kubectl_apply_can_annotate() -> None:
    assert len(json.dumps(CRD)) < LIMIT_BYTES
    assert len(crd_yaml()) < LIMIT_BYTES


def test_the_file_is_what_the_types_give() -> None:
    assert (CRDS / FILE_NAME).read_text(encoding="utf-8") == crd_yaml()
    assert yaml.safe_load(crd_yaml()) == CRD


def test_a_stale_or_missing_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(tmp_path)]) == 1
    assert "make generate" in capsys.readouterr().err
    assert main(["--write", str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    (tmp_path / FILE_NAME).write_text("stale")
    assert main(["--check", str(tmp_path)]) == 1


@pytest.mark.parametrize(
    ("path", "part"), list(parts(SCHEMA)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_part_is_structural_and_bounded(path: str, part: dict[str, Any]) -> None:
    assert part["type"] in {"object", "array", "string", "integer", "boolean"}, "no floats, and a type everywhere"
    assert not {"$ref", "anyOf", "oneOf", "title", "nullable", "patternProperties"} & set(part)
    assert len(part.get("description", "")) <= LONGEST_DESCRIPTION
    if path.startswith((".spec", ".status")):
        bounded(part)


def bounded(part: dict[str, Any]) -> None:
    if part["type"] == "array":
        assert part["maxItems"] > 0
        assert part.get("x-kubernetes-list-type") in {"atomic", "map", "set"}
    if part["type"] == "string" and "enum" not in part:
        assert part["maxLength"] > 0
    if part["type"] == "integer":
        assert part["minimum"] <= part["maximum"] < 2**63
    if part["type"] == "object" and "properties" not in part:
        assert part["maxProperties"] > 0


@pytest.mark.parametrize("path", ["spec", "status"])
def test_every_field_is_described(path: str) -> None:
    silent = [
        where
        for where, part in parts(SCHEMA["properties"][path], path)
        if not part.get("description") and not where.endswith(("[]", "{}"))
    ]
    assert silent == []
