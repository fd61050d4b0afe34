"""What is known of something outside: known, not yet, or not to be known. Pure.

The difference decides: what is pending is waited for, but not for ever; what cannot be known is done without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Known(Generic[T_co]):
    """A fact.

    Attributes:
        value: what is known.
        at: when it was learned, in seconds of the keeper's clock; 0: what it was read from does not change.
    """

    value: T_co
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Pending:
    """Not known yet: the answer is on its way, or will be requested again.

    Attributes:
        reason: CamelCase word.
        message: what is waited for.
        failed: an attempt has failed: it is unknown when one will succeed.
    """

    reason: str
    message: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Unknowable:
    """Not known, and not until a user changes something.

    Attributes:
        reason: CamelCase word.
        message: why, and what to change.
    """

    reason: str
    message: str


Fact = Known[T] | Pending | Unknowable
