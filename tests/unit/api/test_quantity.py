"""Kubernetes quantities."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_operator.api.quantity import bytes_of, parse_quantity

MOST = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("48Gi", 48 * 2**30),
        ("1.5G", 1_500_000_000),
        ("500m", Fraction(1, 2)),
        ("0.001m", Fraction(1, 1_000_000)),
        ("1k", 1000),
        ("1Ki", 1024),
        ("2P", 2 * 10**15),
        ("9999Pi", MOST),
        ("9" * 30, MOST),
    ],
)
def test_values_are_exact_and_end_where_kubernetes_cuts_them(text: str, value: Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "48GB", "48 Gi", "-1", "+1", "1e3", ".5", "1.", "1Gi\n", "1K", "٣", "0x10"])
def test_what_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 48Gi"):
        parse_quantity(text)


def test_bytes_are_rounded_down() -> None:
    assert bytes_of("1500m") == 1


@given(st.integers(0, 2**40), st.sampled_from(["", "k", "M", "G"]))
def test_decimal_suffixes_multiply(number: int, suffix: str) -> None:
    power = {"": 0, "k": 1, "M": 2, "G": 3}[suffix]
    assert bytes_of(f"{number}{suffix}") == min(number * 1000**power, MOST)
