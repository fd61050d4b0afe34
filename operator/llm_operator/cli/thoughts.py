"""A model's thoughts between tags in its answer, as it streams. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

OPEN = "<think>"
CLOSE = "</think>"


class _State(Enum):
    BEGIN = auto()
    THOUGHT = auto()
    PERHAPS = auto()
    """No opening tag came; a closing one may."""
    ANSWER = auto()


class Thoughts:
    """Separates thoughts from the answer if the engine does not, because it runs without a reasoning parser.

    Thoughts stand at the beginning, between `<think>` and `</think>`. The chat templates of some models (QwQ,
    DeepSeek-R1) write the opening tag themselves, so that only the closing one arrives. A quoted tag is text.

    Attributes:
        late: a closing tag came without an opening one: everything before it was thought.
    """

    def __init__(self) -> None:
        self.late = False
        self._state = _State.BEGIN
        self._held = ""
        self._given = False
        self._last = ""
        """The last characters that were given: they say whether a tag is quoted."""

    def add(self, text: str) -> Iterator[tuple[str, bool]]:
        """Pieces of text, and whether each is thought; a part of a tag is held back until it is whole."""
        self._held += text
        if self._state is _State.BEGIN:
            start = self._held.lstrip()
            if start != OPEN and OPEN.startswith(start):
                return
            thinks = start.startswith(OPEN)
            self._state = _State.THOUGHT if thinks else _State.PERHAPS
            self._held = start.removeprefix(OPEN) if thinks else self._held
            self._given = not thinks
        if self._state is not _State.ANSWER:
            thought, closed, rest = self._held.partition(CLOSE)
            if not closed:
                yield from self._give(len(self._held) - _part(self._held))
                return
            if self._state is _State.THOUGHT or "`" not in (self._last + thought)[-3:]:
                yield from self._give(len(thought))
                self.late = self._state is _State.PERHAPS
                self._held, self._given = rest, False
            self._state = _State.ANSWER
        yield from self._give(len(self._held))

    def end(self) -> Iterator[tuple[str, bool]]:
        """What is still held back."""
        yield from self._give(len(self._held))

    def _give(self, count: int) -> Iterator[tuple[str, bool]]:
        text, self._held = self._held[:count], self._held[count:]
        if not self._given:
            text = text.lstrip()
        if text:
            self._given, self._last = True, (self._last + text)[-3:]
            yield text, self._state is _State.THOUGHT


def _part(text: str) -> int:
    """Characters at the end of a text that may begin a closing tag."""
    return next((length for length in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:length])), 0)
