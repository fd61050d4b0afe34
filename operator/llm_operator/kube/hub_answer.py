"""What the process that reads from the hub (hub_child.py) answers, as both sides know it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from llm_operator.facts import Fact, Known, Pending, Unknowable
from llm_operator.reconcile.model_facts import ModelFacts

ANSWER_BYTES = 256 << 10
"""Most of one answer; those of real models have some kilobytes."""
READY = b"ready\n"
"""The first line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One fact as it goes from process to process.

    Attributes:
        known, pending, unknowable: one of them is there.
        last: the process has grown and should not be asked again.
    """

    known: ModelFacts | None = None
    pending: Pending | None = None
    unknowable: Unknowable | None = None
    last: bool = False

    @classmethod
    def of(cls, fact: Fact[ModelFacts]) -> Answer:
        """The answer that contains a fact."""
        if isinstance(fact, Known):
            return cls(known=fact.value)
        return cls(pending=fact) if isinstance(fact, Pending) else cls(unknowable=fact)

    @property
    def fact(self) -> Fact[ModelFacts] | None:
        """What it says; None if it says nothing."""
        return Known(self.known) if self.known is not None else self.pending or self.unknowable


ANSWERS: TypeAdapter[Answer] = TypeAdapter(Answer)
