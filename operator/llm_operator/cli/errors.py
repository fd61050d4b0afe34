"""What a command cannot work with."""

from __future__ import annotations

from collections.abc import Sequence


class BadInputError(Exception):
    """Input that makes no sense; all problems are told at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
