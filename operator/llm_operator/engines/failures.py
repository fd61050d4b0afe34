"""Why an engine died: from its exit code and its last log lines to one reason, one message and one remedy. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What ended an engine.

    Attributes:
        reason: CamelCase word for a condition's reason.
        message: what happened, with the engine's own words.
        remedy: what to do; empty when nothing better than the message is known.
    """

    reason: str
    message: str
    remedy: str
