"""The one type for what is wrong, and chains of checks that look for it. Pure.

A check is a function from what it looks at (a snapshot, a pod, a spec) to a problem or None. A chain is a tuple of
checks, in the order in which they count; `first` and `every` walk it. What a reason means is in the table of reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

Severity = Literal["Warning", "Error"]
"""Warning: it may pass by itself. Error: it stays until somebody changes the spec, a Secret or the cluster."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong.

    Attributes:
        reason: CamelCase word of the table of reasons.
        message: what is wrong and what was expected; what to do, if it can only be said in the same breath.
        severity: whether it may pass by itself.
        remedy: what to do; empty if the message says it.
        field: JSON path in the object, such as `spec.engine.version`; empty if no field is to blame.
    """

    reason: str
    message: str
    severity: Severity
    remedy: str = ""
    field: str = ""

    @property
    def stalls(self) -> bool:
        """Whether nothing changes until somebody acts."""
        return self.severity == "Error"

    @property
    def text(self) -> str:
        """Field, message and remedy in one sentence, for a condition."""
        said = f"{self.field}: {self.message}" if self.field else self.message
        return f"{said}; {self.remedy}" if self.remedy else said


Check = Callable[[T], Problem | None]
"""Looks for one problem."""
Checks = Callable[[T], Iterable[Problem]]
"""Looks for problems of one kind, such as everything that is wrong with one field."""


def wrong_field(reason: str, field: str, message: str) -> Problem:
    """A field with which the spec cannot be served."""
    return Problem(reason, message, "Error", field=field)


def first(chain: Iterable[Check[T]], of: T) -> Problem | None:
    """The problem that the first check of a chain finds; None if there is none."""
    return next((found for check in chain if (found := check(of)) is not None), None)


def every(chain: Iterable[Checks[T]], of: T) -> tuple[Problem, ...]:
    """All problems that the checks of a chain find, in their order."""
    return tuple(found for check in chain for found in check(of))


def together(problems: Iterable[Problem]) -> Problem | None:
    """Several problems as one, under the reason of the first; None if there are none."""
    found = tuple(problems)
    if not found:
        return None
    severity: Severity = "Error" if any(one.stalls for one in found) else "Warning"
    return Problem(found[0].reason, "; ".join(one.text for one in found), severity)
