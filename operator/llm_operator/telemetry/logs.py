"""JSON log lines with the object, its generation and the id of the reconciliation."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

context: ContextVar[dict[str, Any] | None] = ContextVar("log_context", default=None)
"""Fields of the reconciliation that is going on in the current task."""

# What a terminal obeys, or what begins a line somewhere: names, messages and logs of others are quoted in ours.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, msg, and the fields of the reconciliation."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
            **(context.get() or {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return printable(_ENCODER.encode(line))


class TextFormatter(logging.Formatter):
    """For people: one line per record, and a traceback on separate lines, which begin with a bar."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of one record."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S")
        lines = [f"{time} {record.levelname:<7} {record.name}: {printable(record.getMessage())}"]
        if record.exc_info:
            lines += [f"  | {printable(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


def printable(text: str) -> str:
    """A text with its control characters as JSON's escapes: no quoted text begins a line or moves a cursor."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def configure(level: str, form: str) -> None:
    """Set up the root logger.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        form: `json`, or `text` for people.
    """
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # kopf logs a line per handled event; what matters is said by the reconciler.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    _catch_what_python_prints()


def _catch_what_python_prints() -> None:
    """Warnings, and errors without a handler, become records like all others."""
    log = logging.getLogger("llm_operator")

    def told(text: str, error: BaseException | None) -> None:
        log.error("%s: %s: %s", text, type(error).__name__, error, exc_info=error)

    logging.captureWarnings(capture=True)
    sys.excepthook = lambda _kind, error, _trace: told("the process ends", error)
    sys.unraisablehook = lambda what: told("an error without a handler", what.exc_value)
    threading.excepthook = lambda what: told("a thread ended", what.exc_value)
