"""Kubernetes quantities as exact integers."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_SUFFIXES = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    **{letter: Fraction(1000**power) for power, letter in enumerate("kMGTP", start=1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTP", start=1)},
}
_MOST = Fraction(2**63 - 1)
"""Kubernetes cuts larger quantities to this (apimachinery resource.ParseQuantity)."""
_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)")


@lru_cache(maxsize=1024)
def parse_quantity(text: str) -> Fraction:
    """The exact value of a quantity such as `48Gi`, `1.5G` or `500m`, in its base unit (bytes, cores).

    Raises:
        ValueError: the text is not a quantity; the message says what one looks like.
    """
    match = _FORM.fullmatch(text)
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity; expected a number with an optional suffix such as 48Gi or 500m")
    return min(Fraction(match[1]) * _SUFFIXES[match[2]], _MOST)


def bytes_of(text: str) -> int:
    """The whole number of bytes of a quantity, rounded down."""
    return int(parse_quantity(text))
