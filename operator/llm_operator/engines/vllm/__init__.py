"""vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llm_operator.engines.table import newest_version
from llm_operator.engines.vllm.command import PORT
from llm_operator.engines.vllm.memory import VLLMMemory
from llm_operator.memory.engine import Change, EngineMemory
from llm_operator.memory.types import PlanRequest

__all__ = ["PORT", "VLLM"]

MEMORY = VLLMMemory()


class VLLM:
    """The row of vLLM."""

    name = "VLLM"
    title = "vLLM"

    def memory(self, backend: str | None) -> EngineMemory:
        """Return its memory; it has one backend, so the request's says nothing."""
        return MEMORY

    def taking_over(self, request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
        """Yield the request with the newest vLLM."""
        version = newest_version(self.name)
        change = {"engine.type": self.name, "engine.version": version}
        yield change, replace(request, engine=self.name, version=version)
