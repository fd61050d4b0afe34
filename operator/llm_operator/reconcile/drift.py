"""What of a child is not as it should be although it was written, for the condition Drifted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_operator.api.finding import Finding

MOST_SHOWN = 5
"""Drifts that one message names."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What is left of somebody else's change to one child.

    Attributes:
        reason: of the condition.
        message: child, path, manager, and what to do.
    """

    reason: str
    message: str


def drift_findings(drifts: Sequence[Drift]) -> tuple[Finding, ...]:
    """The condition Drifted; none while every child is as it should be."""
    if not drifts:
        return ()
    messages = [drift.message for drift in drifts[:MOST_SHOWN]]
    if len(drifts) > MOST_SHOWN:
        messages.append(f"and {len(drifts) - MOST_SHOWN} more")
    return (Finding("Drifted", "True", drifts[0].reason, "; ".join(messages)),)
