"""The planner's result for one LLMDeployment, in the terms of the reconciler."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llm_operator.api.status import ModelStatus, PlanStatus
from llm_operator.engines import KVAllocation

Verdict = Literal["Fits", "DoesNotFit", "Unknown", "Pending"]


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """The plan that a new pod template is rendered from.

    `Pending` means that facts are on their way and nothing should be rendered yet; `Unknown` means that there are none
    to be had, and the engine's own defaults stand.
    """

    verdict: Verdict
    reason: str
    message: str
    tensor: int
    context_length: int | None = None
    kv: KVAllocation = field(default_factory=KVAllocation)
    architecture: str | None = None
    for_now: bool = False
    """There is no plan, and there may be one without a change of the spec."""
    other_gpus: str = ""
    """What the nodes have, if none has the GPU that the spec requests; empty otherwise."""
    status: PlanStatus | None = None
    model: ModelStatus | None = None
    quantization_problems: tuple[str, ...] = ()
    """Why the quantizer would refuse this model or recipe; empty if it is not known to."""
    quantization_memory_bytes: int | None = None
    """Host memory of the quantization; None if it is not known or none is requested."""
