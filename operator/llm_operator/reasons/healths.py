"""Reasons of the condition Healthy: whether what answers its health check also works."""

from __future__ import annotations

from llm_operator.reasons.types import Reason

_CONDITIONS = ("Healthy",)
HEALTH: tuple[Reason, ...] = (
    Reason(
        "EnginesWork", "Availability", "requests get their tokens, or there are none", severity="Info",
        conditions=_CONDITIONS,
    ),
    Reason(
        "EngineSilent", "Availability",
        "requests run and no token, of a prompt or an answer, has come for 5 minutes (the chart's "
        "`operator.engineSilentSeconds`); the engine still answers its health check",
        "look at the pod's log, then delete the pod to get a new engine; if it happens again, use another "
        "`engine.version`",
        fields=("spec.engine.version",), severity="Error", conditions=_CONDITIONS,
    ),
    Reason(
        "QueueGrowing", "Availability",
        "the KV cache is full and the queue has grown for 5 minutes (`operator.engineSilentSeconds`)",
        "raise `replicas`, or give the KV cache more room: `kvCache.quantization`, `kvCache.memoryPercent`, "
        "`parallelism.tensor`",
        fields=("spec.replicas", "spec.kvCache.quantization", "spec.kvCache.memoryPercent", "spec.parallelism.tensor"),
        severity="Warning", conditions=_CONDITIONS,
    ),
    Reason(
        "MetricsClosed", "Availability",
        "the engine's metrics cannot be read: an API key guards them, an argument turns them off, or the network does "
        "not let the operator through; the message says which pod",
        "let the operator's pods reach the engine's port in `network.from`, or look at the engine "
        "yourself with `kubectl llm logs`", severity="Warning",
        conditions=_CONDITIONS,
    ),
    Reason(
        "NotSeenYet", "Availability", "the engines' metrics are read for the first time", "wait", severity="Info",
        conditions=_CONDITIONS,
    ),
)  # fmt: skip
