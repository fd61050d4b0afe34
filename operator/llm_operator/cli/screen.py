"""What a terminal can show: its width, whether a line can be written over, and which characters it has."""

from __future__ import annotations

import os
import shutil
import sys
from types import TracebackType
from typing import Self, TextIO


def columns() -> int:
    """Columns of the terminal now; 80 without one."""
    return max(20, shutil.get_terminal_size((80, 24)).columns)


def writes_over(stream: TextIO | None = None) -> bool:
    """Whether a line can be replaced: a terminal that is not dumb."""
    target = sys.stderr if stream is None else stream
    return target.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


def draws_blocks(stream: TextIO | None = None) -> bool:
    """Whether block characters can be written."""
    target = sys.stdout if stream is None else stream
    try:
        "█".encode(target.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return not target.isatty() or os.environ.get("TERM", "dumb") != "dumb"


class Progress:
    """One line on standard error that is written over, and gone at the end; nothing where that cannot be."""

    def __init__(self) -> None:
        self._on = writes_over()
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def show(self, text: str) -> None:
        """Replace the line; it is cut to the terminal's width, which may have changed."""
        if self._on:
            sys.stderr.write(f"\r\x1b[K{text[: columns() - 1]}")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Take the line away, so that something else can be written."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
