"""What a running engine was measured to hold, beside its plan. engines/ reads the texts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from llm_operator.api.status import MeasuredStatus, PlanStatus
from llm_operator.live.pods import Pod

LOG_BYTES = 1 << 20
"""How much of a log's beginning is read: engines print their capacity before they serve."""
ANSWER_BYTES = 1 << 20
"""How much of an engine's answer is read; the metrics of a busy engine are about 100 KiB."""
DEVIATION_PERCENT = 5
"""A difference between plan and measurement beyond this is told."""


def seconds_to_ready(pod: Pod) -> int | None:
    """Seconds from the container's start until the pod was Ready."""
    if pod.started_at is None or pod.ready_at is None:
        return None
    seconds = (datetime.fromisoformat(pod.ready_at) - datetime.fromisoformat(pod.started_at)).total_seconds()
    return max(0, int(seconds))


def pod_to_measure(pods: Iterable[Pod], inputs: str) -> Pod | None:
    """The pod whose word is taken: the first by name of the current spec that serves."""
    serving = [pod for pod in pods if pod.ready and not pod.deleting and pod.inputs == inputs]
    return min(serving, key=lambda pod: pod.name, default=None)


def deviation(plan: PlanStatus | None, measured: MeasuredStatus | None) -> str | None:
    """What to say where the engine holds clearly more or fewer tokens than planned."""
    if plan is None or measured is None or not plan.kv_tokens or measured.kv_tokens is None:
        return None
    percent = (measured.kv_tokens - plan.kv_tokens) * 100 / plan.kv_tokens
    if abs(percent) <= DEVIATION_PERCENT:
        return None
    return f"the engine holds {measured.kv_tokens} KV tokens, {percent:+.0f} % of the {plan.kv_tokens} planned"
