"""What a tool wrote into its termination message, and what an unfinished one left on the claim. Pure."""

from __future__ import annotations

import base64
import functools
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from llm_operator.foreign import SMALL, read_object, values_in
from llm_operator.manifests.common import compact_json

MOST = 2**53 - 1
"""Largest number that a status may hold."""

LAST_LINES = 100
"""Lines in which a result is looked for, from the end."""

TEXT_LIMIT = 4096
"""Characters of one text of a tool's report."""

MOST_VALUES = 1024
"""Of a tool's report: values cost far more memory than their text has bytes, and hundreds of reports are kept."""

_REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")

_DIRECTORY = re.compile(r"[^\x00-\x1f\x7f\\]{1,512}")

CONFIG_LIMIT = 256 << 10
"""Bytes of a config.json that a result may hold once it is unpacked."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result that a tool wrote to its termination message.

    Attributes:
        ok: it did what it was to do.
        reason: CamelCase word for a condition, if it failed.
        message: what was wrong, what was expected, what to do.
        retry: the same may go better later.
        directory: directory on the volume that was made or looked at; of a failure: the one with partial output.
        bytes: size of its files, or of those that are there so far.
        revision: commit of the hub.
        weight_bytes: bytes of all tensors; None: not known.
        packed_config: config.json as gzip in base64; None if it was not reported.
        more: everything else, such as the recipe and its quality.
    """

    ok: bool
    reason: str = ""
    message: str = ""
    retry: bool = False
    directory: str = ""
    bytes: int | None = None
    revision: str | None = None
    weight_bytes: int | None = None
    packed_config: str | None = None
    more: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def config(self) -> str | None:
        """Text of config.json; unpacked anew at each call, because results are kept and must stay small."""
        return unpacked_config(self.packed_config) if self.packed_config is not None else None


@dataclass(frozen=True, slots=True)
class Leftover:
    """Partial output on a claim: the next Job goes on with it.

    Attributes:
        directory: the directory that was to be made.
        bytes: what is there; None: not known.
    """

    directory: str
    bytes: int | None = None

    @property
    def path(self) -> str:
        """Where on the claim it is (modeltools/layout.py)."""
        return f"{self.directory}.partial"

    def to_text(self) -> str:
        """Its text in an annotation."""
        return compact_json({"directory": self.directory, "bytes": self.bytes})


def leftover_from(body: Mapping[str, Any]) -> Leftover | None:
    """What an annotation says of partial output; None: nothing, or it cannot be read."""
    directory = safe_directory(body)
    return Leftover(directory, _count(body, "bytes")) if directory else None


@functools.lru_cache(maxsize=512)
def parse_result(text: str) -> Result:
    """The result in a termination message; a message of another kind is a failure that quotes it.

    Remembered: every object that shares a Job asks several times at each look, and config.json is packed in it.
    """
    # The kubelet keeps 4,096 bytes of a message; a record on a Job may have been written by anyone.
    for line in reversed(text[-SMALL:].strip().splitlines()[-LAST_LINES:] or [""]):
        body = read_object(line)
        if isinstance(body.get("ok"), bool):
            return _result(body)
    words = text[-SMALL:].strip()[-500:] or "it left no message"
    return Result(ok=False, reason="ToolFailed", message=f"the tool ended without a result: {words}", retry=True)


def _result(body: Mapping[str, Any]) -> Result:
    known = {"ok", "reason", "message", "retry", "directory", "bytes", "revision", "weightsBytes", "config"}
    more = {key: value for key, value in body.items() if key not in known}
    return Result(
        ok=body["ok"],
        reason=_reason(body) or ("" if body["ok"] else "ToolFailed"),
        message=_text(body, "message") or "",
        retry=body.get("retry") is True,
        directory=safe_directory(body),
        bytes=_count(body, "bytes"),
        revision=_text(body, "revision"),
        weight_bytes=_count(body, "weightsBytes"),
        packed_config=_text(body, "config"),
        more={key: _short(value) for key, value in more.items()} if values_in(more, MOST_VALUES) < MOST_VALUES else {},
    )


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) and value else None


def _count(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None


def _short(value: object) -> object:
    """A value of the tool's report with texts and numbers that a status may hold; its size bounds the rest."""
    if isinstance(value, str):
        return value[:TEXT_LIMIT]
    if isinstance(value, dict):
        return {key[:TEXT_LIMIT]: _short(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_short(entry) for entry in value]
    return value if not isinstance(value, int) or abs(value) <= MOST else None


def _reason(body: Mapping[str, Any]) -> str | None:
    """The reason, if it is one that a condition can have."""
    reason = _text(body, "reason")
    return reason if reason is not None and _REASON.fullmatch(reason) else None


def safe_directory(body: Mapping[str, Any]) -> str:
    """The directory, if it is one below the volume's root; else empty."""
    directory = _text(body, "directory") or ""
    inside = directory == "." or not {"", ".", ".."} & set(directory.split("/"))
    return directory if inside and _DIRECTORY.fullmatch(directory) else ""


def unpacked_config(packed: str) -> str | None:
    """config.json from its gzip in base64; None if it is damaged or larger than any real one."""
    try:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        text = unpacker.decompress(base64.b64decode(packed, validate=True), CONFIG_LIMIT)
        return text.decode() if not unpacker.unconsumed_tail else None
    except (ValueError, zlib.error):
        return None
