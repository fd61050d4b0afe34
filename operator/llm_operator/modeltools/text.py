"""Reading JSON that another program wrote, such as a hub, a model's repository or an earlier run of the tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MOST_BYTES = 64 << 20
"""The largest weights index that is read; a safetensors header may have 100 MB, real ones a few."""


def read_json(text: str | bytes, limit: int = MOST_BYTES) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: too long, not JSON, or nested too deeply, which json itself reports by a RecursionError.
    """
    if len(text) > limit:
        raise ValueError(f"{len(text):,} bytes of JSON; expected at most {limit:,}")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def natural_number(text: str, digits: int = 15) -> int | None:
    """A whole number from 0, written in ASCII digits; None for any other text, or one of more digits."""
    return int(text) if 0 < len(text) <= digits and text.isascii() and text.isdigit() else None


def read_file(path: Path, limit: int = MOST_BYTES) -> bytes:
    """The content of a file that another program wrote.

    Raises:
        ValueError: it has more bytes.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path.name} has more than {limit:,} bytes")
    return content
