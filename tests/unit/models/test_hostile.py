"""Configs with a field or several replaced by what no model has: an error that says what is wrong, or a shape."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_operator.models import InvalidModelConfigError, ModelConfigError, completed, parse_config
from tests.support.planning import config

HERE = Path(__file__).parent
CONFIGS: list[dict[str, Any]] = [
    *(model["config"] for model in json.loads((HERE / "data" / "vllm_models.json").read_text()).values()),
    *(json.loads(path.read_text()) for path in sorted((HERE / "configs").glob("*.json"))),
]
NUMBERS = st.sampled_from([0, -1, 1, 7, 2**31, 2**63, 10**400, 1.5, float("nan"), float("inf"), -5])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.sampled_from(["", "x", "1", "null", "9" * 5000, "\u202e", "full_attention"]),
    st.lists(NUMBERS | st.none(), max_size=70),
    st.sampled_from([{}, {"a": 1}, [[1]], [0] * 4, ["x"] * 61, [1] * 100_000]),
)


def places(values: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, value in values.items():
        found.append((*path, name))
        if isinstance(value, dict):
            found += places(value, (*path, name))
    return found


@st.composite
def hostile(draw: st.DrawFn) -> dict[str, Any]:
    values: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(CONFIGS)))
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(places(values)))
        inner = values
        for name in path:
            inner = inner[name]
        inner[last] = copy.deepcopy(draw(VALUES))
    return values


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(hostile(), st.sampled_from([None, 0, 10**9, 1 << 80]))
def test_no_value_of_a_field_ends_in_a_traceback(values: dict[str, Any], stored: int | None) -> None:
    said = ""
    try:
        completed(parse_config(values), stored)
    except ModelConfigError as error:
        said = str(error)
    assert not said or 20 < len(said) < 700


@pytest.mark.parametrize("size", [[0, 14], [-14, -14], 0, [True], []])
def test_patches_without_a_size_are_refused(size: object) -> None:
    values = config("gemma-3-4b-it")
    values["vision_config"] = {**values["vision_config"], "patch_size": size}
    with pytest.raises(InvalidModelConfigError, match="patch_size"):
        parse_config(values)
