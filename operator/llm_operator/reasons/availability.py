"""Reasons of whether anything answers."""

from __future__ import annotations

from llm_operator.reasons.types import Reason

AVAILABILITY: tuple[Reason, ...] = (
    Reason("Serving", "Availability", "at least one replica is available", severity="Info", conditions=("Available",)),
    Reason(
        "NoReadyReplica",
        "Availability",
        "no replica answers",
        "see the condition Ready with `kubectl llm status`",
        severity="Warning",
        conditions=("Available", "Healthy"),
    ),
    Reason("Stopped", "Availability", "`replicas` is 0", severity="Info", conditions=("Available",)),
    Reason(
        "NoAPIKey",
        "Availability",
        "everybody in the cluster who reaches the Service may use the engine",
        "set `engine.apiKey`, name fewer peers in `network.from`, or set the chart's `networkPolicy.objects.enabled`",
        fields=("spec.engine.apiKey", "spec.network.from"),
        severity="Warning",
        conditions=("Exposed",),
    ),
    Reason(
        "HashMismatch",
        "Availability",
        "a cached model was read from its disk and is not what was written; what runs is left alone",
        "check the volume, and who may write to it; then delete the Job that the message names and change a field of "
        "the spec that reaches the pods: the Job is made again, compares every file and replaces what differs",
        fields=("spec.cache",),
        severity="Warning",
        conditions=("ModelDamaged",),
    ),
    Reason(
        "InvalidSpec",
        "Availability",
        "the spec cannot be read; the last good workload is left as it is",
        "do what the condition Ready says: `kubectl llm status` shows it",
        conditions=("Available",),
    ),
    Reason(
        "UpToDate",
        "Availability",
        "nothing is left to do",
        severity="Info",
        conditions=(
            "Reconciling",
            "Stalled",
        ),
    ),
    Reason(
        "Stalled",
        "Availability",
        "nothing will change until somebody acts",
        "see the condition Stalled with `kubectl llm status`",
        conditions=("Reconciling",),
    ),
)
