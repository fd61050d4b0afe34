"""The part of an engine that failed, by the frames of a traceback and the words of its error, when no line says why.

A frame is `/path/of/module.py:function`. A part that can be switched off counts wherever its code stands in the
traceback. Next come the words, and of the other parts the one that stands deepest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_OPTION = re.compile(r"(?<![\w-])--[a-z]")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an engine's code, or of a package under it.

    Attributes:
        frames: how its frames look.
        reason: CamelCase word for a condition's reason.
        message: which part failed.
        remedy: what avoids it.
        errors: how the errors begin that mean this; None: all do.
        anywhere: whether it need not be the deepest.
        words: what errors about it speak of; None: no words are of it alone.
        starting: only a start ends like this; once the engine serves, the same frames are of a request.
    """

    frames: re.Pattern[str]
    reason: str
    message: str
    remedy: str
    errors: re.Pattern[str] | None = None
    anywhere: bool = False
    starting: bool = False
    words: re.Pattern[str] | None = None


def part(  # noqa: PLR0913, PLR0917 - a table is read by its columns
    frames: str,
    reason: str,
    message: str,
    remedy: str,
    errors: str = "",
    anywhere: bool = False,
    starting: bool = False,
    words: str = "",
) -> Part:
    """One row of the table: its columns are the attributes of Part."""
    of = re.compile(errors) if errors else None
    about = re.compile(words) if words else None
    return Part(re.compile(frames), reason, message, remedy, of, anywhere, starting, about)


def part_of(parts: Iterable[Part], error: str, frames: Sequence[str], *, by_words: bool = True) -> Part | None:
    """The part whose code raised an error; None: it is none of these.

    Args:
        parts: the engine's, then those of packages; of one frame the first counts.
        error: the error's line.
        frames: of its traceback, the deepest last.
        by_words: whether the words of the error may say it too.
    """
    fitting = [one for one in parts if one.errors is None or one.errors.match(error)]
    for one in fitting:
        if one.anywhere and any(one.frames.search(frame) for frame in frames):
            return one
    # What names an option is about the option.
    if by_words and not _OPTION.search(error):
        for one in fitting:
            if one.words is not None and one.words.search(error):
                return one
    for frame in reversed(frames):
        for one in fitting:
            if not one.anywhere and one.frames.search(frame):
                return one
    return None
