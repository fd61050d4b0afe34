"""What a command cannot work with."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


class BadInputError(Exception):
    """Input that makes no sense; all problems are reported at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def one_line(text: str) -> str:
    """The text with what would end a line, or steer a terminal, escaped: files hold names that are anything."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


_JOINS = frozenset("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff")
"""Characters that shape words, such as the joiners of Persian and of emoji. They are formats, but steer nothing."""


def legible(text: str) -> str:
    """A text of a model or an engine for a terminal: every script is kept, what steers the terminal is escaped.

    Lines and tabs stay; carriage returns go.
    """
    return "".join(
        letter.encode("unicode_escape").decode() if _steers(letter) else letter for letter in text.replace("\r", "")
    )


def _steers(letter: str) -> bool:
    if letter in "\n\t":
        return False
    kind = unicodedata.category(letter)
    return kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and letter not in _JOINS)
