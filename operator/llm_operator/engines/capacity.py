"""How an engine's own word about its KV cache is read: the engine names the texts, the caller reads them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

from llm_operator.foreign import natural_number


@dataclass(frozen=True, slots=True)
class Read:
    """A text that is wanted: the answer of a path of the engine's port, or the beginning of its log if path is None."""

    path: str | None


LOG = Read(None)
Capacity = Generator[Read, str | None, int | None]
"""Yields what is wanted, is sent the text (an answer, empty if there was none; a log, None if it could not be read) and
returns the tokens that the cache of one replica holds, None if nothing says."""


def number(fields: Mapping[str, object], name: str) -> int | None:
    """Return a count of at most 15 digits; None if the field has none."""
    return natural_number(str(fields.get(name, "")))
