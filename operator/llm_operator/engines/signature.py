"""What one way to die looks like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_operator.engines.log_form import Stage

CAUSE, SYMPTOM, REFUSAL, CONSEQUENCE, CODE, WRAPPER = 0, 1, 2, 3, 4, 5
"""A cause explains the death; a symptom is often where something else shows; a refusal says in the engine's own words
which setting it does not take; a consequence is what the other processes say when one of them has died or hangs; an
error of the engine's own code says if it failed and not why; a wrapper says that something died."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to die.

    Attributes:
        pattern: searched in the lines that may decide, of which `^` and `$` are the ends; groups may be used in message
            and remedy.
        reason: CamelCase word for a condition's reason.
        message: what happened.
        remedy: what to do.
        rank: CAUSE, SYMPTOM, REFUSAL, CONSEQUENCE, CODE or WRAPPER.
        since: first version of the engine that prints it; empty: all that are older than `until` do.
        until: first version of the engine that does not print it any longer; empty: all do.
        at: remedies that fit what had been reached better.
        starting: only a start ends like this; once the engine serves, the same words are about a request.
    """

    pattern: re.Pattern[str]
    reason: str
    message: str
    remedy: str
    rank: int = CAUSE
    since: str = ""
    until: str = ""
    at: Mapping[Stage, str] = field(default_factory=dict)
    starting: bool = False


def sign(  # noqa: PLR0913, PLR0917 - a table is read by its columns
    pattern: str,
    reason: str,
    message: str,
    remedy: str,
    rank: int = CAUSE,
    since: str = "",
    until: str = "",
    at: Mapping[Stage, str] | None = None,
) -> Signature:
    """One row of the table: its columns are the attributes of Signature."""
    return Signature(re.compile(pattern, re.MULTILINE), reason, message, remedy, rank, since, until, at or {})
