"""One reason of a condition: what it means, what to do, and which field does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Area = Literal["Object", "Spec", "Engine", "Plan", "Stage", "Job", "Availability", "Page"]
"""What a reason speaks of: the object as a whole, a refused spec, the end of an engine, the plan,
a stage before serving, the failed Job of such a stage, whether anything answers, and the chat page."""
Severity = Literal["Info", "Warning", "Error"]
"""Info: nothing to do. Warning: it may pass by itself. Error: it stays until somebody acts."""
READY_AND_STALLED = ("Ready", "Stalled")
"""Types of the conditions that carry a reason which may stall the object."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One meaning of a reason. The same word may have another meaning in another area.

    Attributes:
        name: CamelCase word, as in a condition.
        area: what it speaks of.
        meaning: what happened; Markdown.
        remedy: what to do; Markdown, empty if nothing has to be done.
        fields: fields of the object that the remedy changes, as JSON paths.
        severity: how urgent it is.
        conditions: types of the conditions that carry it.
        stalls: when it stalls the object: "at once", "after 3 restarts"; empty: never.
        stages: the stages of a Job that end with it; empty outside the area Job.
        again: when the Job is made anew; empty outside the area Job.
    """

    name: str
    area: Area
    meaning: str
    remedy: str = ""
    fields: tuple[str, ...] = ()
    severity: Severity = "Error"
    conditions: tuple[str, ...] = ("Ready",)
    stalls: str = ""
    stages: str = ""
    again: str = ""


def death(name: str, meaning: str, remedy: str, fields: tuple[str, ...] = (), severity: Severity = "Error") -> Reason:
    """The end of an engine, which stalls the object if it comes again and again; the arguments are those of Reason."""
    return Reason(name, "Engine", meaning, remedy, fields, severity, READY_AND_STALLED, "after 3 restarts")
