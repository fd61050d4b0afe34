"""What vLLM reads as an adapter."""

from __future__ import annotations

import pytest

from llm_operator.engines.arguments import is_adapter


@pytest.mark.parametrize("value", ["sql=/adapters/sql", "sql=org/sql", '{"name": "sql", "path": "/adapters/sql"}', ""])
def test_adapters(value: str) -> None:
    assert is_adapter(value)


@pytest.mark.parametrize(
    "value", ["a", "a=b=c", "{}", "[]", '{"name": "sql"}', '{"name": "s", "path": "p", "x": 1}', "a,b=c"]
)
def test_no_adapters(value: str) -> None:
    assert not is_adapter(value)
