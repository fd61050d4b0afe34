"""One module per engine: from the spec and the plan to command line, environment, ports and failure signatures. Pure.

Use: `check(spec)` says what the operator refuses, `render(request)` gives the EngineRun that a pod is built from,
`failures.diagnose(...)` names the reason of a crash. Flags follow a capability table per engine version.
"""

from llm_operator.engines.types import EngineRun, KVAllocation, Refusal, RefusedError, RenderRequest

__all__ = ["EngineRun", "KVAllocation", "Refusal", "RefusedError", "RenderRequest"]
