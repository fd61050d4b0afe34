"""What a command cannot work with."""

from __future__ import annotations

from collections.abc import Sequence


class BadInputError(Exception):
    """Input that makes no sense; all problems are reported at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def one_line(text: str) -> str:
    """The text with what would end a line, or steer a terminal, escaped: files hold names that are anything."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
