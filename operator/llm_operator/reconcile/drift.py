"""What of a child is not as it should be although it was written, for the condition Drifted. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from llm_operator.api.finding import Finding
from llm_operator.problems import Problem

MOST_SHOWN = 5
"""Drifts that one message names."""


def drift_findings(drifts: Sequence[Problem]) -> tuple[Finding, ...]:
    """The condition Drifted; none while every child is as it should be."""
    if not drifts:
        return ()
    messages = [drift.text for drift in drifts[:MOST_SHOWN]]
    if len(drifts) > MOST_SHOWN:
        messages.append(f"and {len(drifts) - MOST_SHOWN} more")
    return (Finding("Drifted", "True", drifts[0].reason, "; ".join(messages)),)
