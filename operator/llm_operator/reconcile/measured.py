"""What a running engine was measured to hold, beside its plan. engines/ reads the texts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from llm_operator.api.status import MeasuredStatus, PlanStatus
from llm_operator.engines.registry import ENGINES
from llm_operator.live.pods import Pod
from llm_operator.memory.calibration import StartKind
from llm_operator.planning import PlanInputError, learned_from
from llm_operator.reconcile.wants import Identity, Rendered, identity

LOG_BYTES = 1 << 20
"""How much of a log's beginning is read: engines print their capacity before they serve."""
ANSWER_BYTES = 1 << 20
"""How much of an engine's answer is read; the metrics of a busy engine are about 100 KiB."""
MOST_SECONDS = 2**31 - 1
"""A node's clock may be wrong by any amount."""
DEVIATION_PERCENT = 5
"""A difference between plan and measurement beyond this is reported."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an engine said of itself.

    Attributes:
        of: its container.
        status: as the object shows it.
    """

    of: Identity
    status: MeasuredStatus


def measured(pod: Pod | None, reading: Reading | None, before: MeasuredStatus | None) -> MeasuredStatus | None:
    """What is shown of the engine that serves.

    Args:
        pod: the one whose word is taken; None: none serves.
        reading: what was read last.
        before: what was shown before. It stays until the next engine has spoken, and if a restarted operator finds
            the beginning of the same engine's log gone.
    """
    if pod is None or reading is None or reading.of != identity(pod):
        return before
    now = reading.status
    same = before is not None and (before.pod_uid, before.seconds_to_ready) == (now.pod_uid, now.seconds_to_ready)
    return before if same and now.kv_tokens is None else now


def seconds_to_ready(pod: Pod) -> int | None:
    """Seconds from the container's start until the pod was Ready."""
    if pod.started_at is None or pod.ready_at is None:
        return None
    seconds = (datetime.fromisoformat(pod.ready_at) - datetime.fromisoformat(pod.started_at)).total_seconds()
    return min(max(0, int(seconds)), MOST_SECONDS)


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


def rendered_share(args: Sequence[str]) -> float | None:
    """The share of the memory in a command line that sizes the cache; None without one."""
    # What runs must be what is planned.
    options = {engine.share_option for engine in ENGINES.values()}
    for place, word in enumerate(args):
        option, equals, value = word.partition("=")
        if option in options:
            text = value if equals else next(iter(args[place + 1 : place + 2]), "")
            try:
                return float(text)
            except ValueError:
                return None
    return None


def start_of(rendered: Rendered, tokens: int) -> tuple[StartKind, int] | None:
    """The kind of a start, and the bytes that it took beyond the constants; None: it teaches nothing.

    Args:
        rendered: what the engine was started with.
        tokens: what it says that its cache holds.
    """
    request, share = rendered.request, rendered_share(rendered.args)
    given = request.gpu_memory_utilization
    if share is None or rendered.version != request.version or (given is not None and share != given):
        return None
    if given is None:
        request = replace(request, memory_percent=round(100 * share))
    try:
        return learned_from(replace(request, context_length=rendered.context_length), rendered.tensor, tokens)
    except PlanInputError:  # of sizes that are beyond all reason nothing is learned either
        return None
