"""Environments that make a pod template long."""

import random
import string
from typing import Any

JSON = dict[str, Any]


def variables(text: str) -> list[JSON]:
    """64 variables of one value: it compresses well."""
    return [{"name": f"VARIABLE_{number}", "value": text} for number in range(64)]


def noise() -> list[JSON]:
    """64 variables of 4 KiB that no compression makes shorter."""
    chance = random.Random(7)
    letters = string.ascii_letters + string.digits + string.punctuation.replace("$", "")
    values = ("".join(chance.choices(letters, k=4096)) for _ in range(64))
    return [{"name": f"VARIABLE_{number}", "value": value} for number, value in enumerate(values)]


def wide(count: int) -> list[JSON]:
    """So many of the longest variables that the CRD takes, of characters of four bytes, and the others of three."""
    return [*variables("\U0001f600" * 4096)[:count], *variables("\u20ac" * 4096)[count:]]
