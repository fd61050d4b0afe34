"""What a terminal can show: its width, whether a line can be written over, and which characters it has."""

from __future__ import annotations

import os
import re
import shutil
import sys
from types import TracebackType
from typing import Self, TextIO

from llm_operator.cli.errors import legible


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


def bar(share: float, width: int) -> str:
    """A bar of that width, in brackets."""
    room = max(4, width)
    full = round(room * min(1.0, max(0.0, share)))
    return f"[{'#' * full}{'.' * (room - full)}]"


class Progress:
    """One line on standard error that is written over, and gone at the end; nothing if that cannot be.

    Attributes:
        on: it is shown.
    """

    def __init__(self) -> None:
        self.on = writes_over()
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def show(self, text: str) -> None:
        """Replace the line; it is cut to the terminal's width, which may have changed."""
        if self.on:
            sys.stderr.write(f"\r\x1b[K{text[: columns() - 1]}")
            sys.stderr.flush()
            self._shown = bool(text)

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


class Redrawn:
    """A text that is drawn over itself; as much of it as the terminal has lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = self._columns = 0

    def draw(self, text: str) -> None:
        """Replace what was drawn."""
        size = shutil.get_terminal_size((80, 24))
        lines = [line[: max(20, size.columns) - 1] for line in text.splitlines()][: max(1, size.lines - 1)]
        up = f"\x1b[{self._lines}A" if self._lines else ""
        if self._lines and size.columns != self._columns:
            up = "\x1b[2J\x1b[H"  # the terminal has wrapped what was drawn
        # Each line is cleared to its end, and what a longer text left below.
        self._stream.write(f"{up}\r" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._lines, self._columns = len(lines), size.columns


_COLOR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def harmless(line: str) -> str:
    """A foreign line for a terminal: without colors, and with what would steer the terminal escaped."""
    return legible(_COLOR.sub("", line).rstrip("\r").replace("\r", "\\r").replace("\n", "\\n"))
