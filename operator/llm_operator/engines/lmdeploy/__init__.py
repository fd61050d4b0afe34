"""LMDeploy, with its backends TurboMind and PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llm_operator.engines.lmdeploy.command import PORT
from llm_operator.engines.lmdeploy.memory import PyTorchMemory, TurboMindMemory
from llm_operator.engines.table import newest_version
from llm_operator.memory.engine import Change, EngineMemory
from llm_operator.memory.types import PlanInputError, PlanRequest

__all__ = ["PORT", "LMDeploy"]

BACKENDS = {"TurboMind": TurboMindMemory(), "PyTorch": PyTorchMemory()}


class LMDeploy:
    """The row of LMDeploy."""

    name = "LMDeploy"
    title = "LMDeploy"

    def memory(self, backend: str | None) -> EngineMemory:
        """Return the memory of a backend; TurboMind is the default."""
        found = BACKENDS.get(backend or "TurboMind")
        if found is None:
            raise PlanInputError(f"backend {backend!r} is not known; expected {' or '.join(BACKENDS)}")
        return found

    def taking_over(self, request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
        """Yield LMDeploy's backends, unless the request sizes the cache in a way that LMDeploy has no option for."""
        if request.kv_memory_bytes or request.gpu_memory_utilization is not None:
            return
        version = newest_version(self.name)
        for backend in BACKENDS:
            change = {"engine.type": self.name, "engine.backend": backend, "engine.version": version}
            yield change, replace(request, engine=self.name, backend=backend, version=version)
