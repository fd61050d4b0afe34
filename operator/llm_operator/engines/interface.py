"""What an engine is to the rest of the operator; a folder of engines/ has the answers, registry.py a row for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from llm_operator.memory.engine import Change, EngineMemory
from llm_operator.memory.types import PlanRequest


class Engine(Protocol):
    """One engine.

    Attributes:
        name: as in spec.engine.type.
        title: for people.
    """

    name: str
    title: str

    def memory(self, backend: str | None) -> EngineMemory:
        """Return how it spends the memory of a GPU. backend: one of its own; None: its default, or the only one.

        Raises:
            PlanInputError: it has no such backend.
        """
        ...

    def taking_over(self, request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
        """Yield the change that serves another engine's request with this one, and the request with it."""
        ...
