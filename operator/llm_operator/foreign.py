"""The one reader of text that another process wrote: annotations, termination messages, logs, answers.

Such text is input. Whatever it holds, reading it costs bounded time and memory and raises nothing but UnreadableError.
`json.loads` raises RecursionError for nested lists, which is not a ValueError and ended the process once; ruff's
TID251 therefore forbids it outside of this module and of data that the package itself ships.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic_core import from_json  # noqa: TID251 - the one reader

SMALL = 64 << 10
"""Bytes of a value that a human or a small tool wrote: an annotation, a termination message, one line of a log."""
LABELS = 64
"""Most labels of one sample of an engine's metrics."""
SAMPLES = 512
"""Most samples of one metric that are read: one for each engine core, or each label's value."""
LINE = 8 << 10
"""Longest line of an engine's metrics that is read, in characters."""
DEPTH = 150
"""Levels of nesting that are kept of an answer with more than pydantic_core reads, which are 200."""
TOO_DEEP = b'"nested too deeply"'
NOTHING: Mapping[str, Any] = MappingProxyType({})

_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


class UnreadableError(ValueError):
    """The text is not what it should be; the message says how, and quotes nothing of it."""


def read_json(text: str | bytes, limit: int = SMALL) -> Any:
    """The value of a JSON text.

    Args:
        text: JSON; UTF-8 where it is bytes.
        limit: most bytes (characters of a str) that are parsed.

    Raises:
        UnreadableError: too long, not JSON, not UTF-8, nested deeper than 200 (pydantic_core's limit), a number with
            more than 4,300 digits, or not text at all.
    """
    if not isinstance(text, str | bytes):
        raise UnreadableError(f"expected text, found {type(text).__name__}")
    if len(text) > limit:
        raise UnreadableError(f"{len(text):,} bytes; expected at most {limit:,}")
    try:
        return from_json(text.encode() if isinstance(text, str) else text, allow_inf_nan=False)
    except ValueError as error:
        # The error of a str with a lone surrogate quotes the whole text.
        raise UnreadableError("not UTF-8" if isinstance(error, UnicodeError) else str(error)[:200]) from None


def read_answer(text: bytes) -> tuple[Any, bytes]:
    """The value of an answer of the API server, and its text; what is nested too deeply in it is cut out of both.

    Fields whose schema preserves what it does not know take 10,000 levels of nesting: one such object must not make a
    whole list unreadable. The answer's length is bounded where it is read.

    Raises:
        UnreadableError: not JSON.
    """
    try:
        return from_json(text), text
    except ValueError as error:
        if "recursion limit" not in str(error):
            raise UnreadableError(str(error)[:200]) from None
    text = shallow(text)
    try:
        return from_json(text), text
    except ValueError as error:
        raise UnreadableError(str(error)[:200]) from None


def read_again(text: str | bytes) -> Any:
    """The value of a JSON text that this process itself wrote, of what it had read."""
    return from_json(text)


def read_file(path: Path, limit: int) -> bytes:
    """The content of a file.

    Raises:
        UnreadableError: it has more bytes.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UnreadableError(f"{path}: more than {limit:,} bytes")
    return content


def shallow(text: bytes, depth: int = DEPTH) -> bytes:
    """A JSON text in which a word replaces each list or object that is nested deeper than this many levels."""
    kept, end, level = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in (b"{", b"["):
            level += 1
            if level == depth + 1:
                kept.append(text[end : token.start()])
        elif token[0] in (b"}", b"]"):
            level -= 1
            if level == depth:
                kept.append(TOO_DEEP)
                end = token.end()
    return b"".join([*kept, text[end:]]) if level <= depth else b""


def natural_number(text: str, digits: int = 15) -> int | None:
    """A whole number from 0, written in ASCII digits; None for any other text, or one of more digits.

    str.isdigit() is true for characters that int() refuses, such as a raised 2, and int() refuses 4,301 digits.
    """
    return int(text) if 0 < len(text) <= digits and text.isascii() and text.isdigit() else None


def values_in(value: object, most: int) -> int:
    """How many values there are, with those within lists and objects, counted up to `most`; a long text is several.

    Text that was read takes up to twenty times its size: what is kept for long is bounded by this.
    """
    if isinstance(value, str):
        return 1 + len(value) // 256
    if isinstance(value, Mapping):
        inner: Iterable[object] = itertools.chain(value.keys(), value.values())
    else:
        inner = value if isinstance(value, list) else ()
    count = 1
    for one in inner:
        if count >= most:
            break
        count += values_in(one, most - count)
    return count


def read_object(text: str | bytes | None, limit: int = SMALL) -> Mapping[str, Any]:
    """The JSON object of a text; empty if the text is absent, unreadable or another kind of value."""
    if text is None:
        return NOTHING
    try:
        value = read_json(text, limit)
    except UnreadableError:
        return NOTHING
    return value if isinstance(value, dict) else NOTHING


def sample_labels(text: str, name: str) -> list[Mapping[str, str]]:
    """The labels of each sample of one metric in the Prometheus text format.

    prometheus_client's parser takes seconds for a sample with tens of thousands of labels (it is quadratic); this
    reads lines of at most LINE characters with at most LABELS labels and leaves out the others. The last line counts
    only if it is whole.

    Args:
        text: an answer, perhaps cut.
        name: of the samples, without labels.
    """
    found = []
    for line in _samples(text, name):
        if line[len(name)] != "{":
            continue
        end = line.rfind("}")
        labels = _labels(line[len(name) + 1 : end]) if end > 0 else None
        if labels is not None:
            found.append(labels)
    return found


def sample_sum(text: str, name: str) -> float | None:
    """The sum over all samples of one metric in the Prometheus text format; None if there is none.

    Args:
        text: an answer, perhaps cut; the last line counts only if it is whole.
        name: of the samples, without labels.
    """
    found: list[float] = []
    for line in _samples(text, name):
        words = line[line.rfind("}") + 1 :].split() if "}" in line else line[len(name) :].split()
        value = _float(words[0]) if words else None
        if value is not None:
            found.append(value)
    return sum(found) if found else None


def _samples(text: str, name: str) -> Iterator[str]:
    """The whole lines of a metric: at most SAMPLES of them, of at most LINE characters.

    Found by str.find, because a mebibyte of line ends is a million lines. Not by splitlines(): it ends lines at
    characters that a label may hold.
    """
    start, left = 0 if text.startswith(name) else text.find(f"\n{name}") + 1, SAMPLES
    while left and (start or text.startswith(name)):
        end = text.find("\n", start)
        if end < 0:
            return
        if end - start <= LINE and text[start + len(name) : start + len(name) + 1] in ("{", " "):
            left -= 1
            yield text[start:end]
        start = text.find(f"\n{name}", end) + 1
        if not start:
            return


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _labels(text: str) -> Mapping[str, str] | None:
    labels: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _LABEL.match(text, position)
        if match is None or len(labels) >= LABELS:
            return None if text[position:].strip() or len(labels) >= LABELS else labels
        labels[match[1]] = re.sub(r"\\.", lambda escape: _ESCAPES.get(escape[0], escape[0]), match[2])
        position = match.end()
    return labels
