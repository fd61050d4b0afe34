"""What a running engine says of its own capacity, read from the beginning of its log. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from llm_operator.api import EngineType
from llm_operator.api.status import MeasuredStatus, PlanStatus
from llm_operator.planning.cache import turbomind_slabs
from llm_operator.reconcile.observed import Pod

LOG_BYTES = 1 << 20
"""How much of a log's beginning is read: both engines print their capacity before they serve."""
DEVIATION_PERCENT = 5
"""A difference between plan and measurement beyond this is told."""

# vLLM 0.26.0 and 0.33.0: vllm/v1/core/kv_cache_utils.py; one line per engine core, and with data parallelism several.
_VLLM_TOKENS = re.compile(r"GPU KV cache size: ([0-9,]+) tokens")
# LMDeploy 0.18.0, TurboMind: src/turbomind/turbomind.cc; "MB" is MiB.
_TURBOMIND_BUDGET = re.compile(r"Object cache budget: ([0-9.]+) MB from free ([0-9.]+) MB and ratio ([0-9.]+)")


def kv_tokens(engine: EngineType, log: str, kv_bytes_per_token: int | None) -> int | None:
    """Tokens that the KV cache of one replica holds, as the engine told; None where it told nothing.

    Args:
        engine: whose log it is.
        log: the log's beginning.
        kv_bytes_per_token: of one GPU, from the plan; TurboMind tells bytes, of which whole slabs become tokens.
    """
    if engine == "VLLM":
        told = [int(text.replace(",", "")) for text in _VLLM_TOKENS.findall(log)]
        return min(told, default=None)
    budgets = [float(budget) * 2**20 for budget, _, _ in _TURBOMIND_BUDGET.findall(log)]
    if not budgets or not kv_bytes_per_token:
        return None
    return turbomind_slabs(kv_bytes_per_token, int(min(budgets))).tokens


def seconds_to_ready(pod: Pod) -> int | None:
    """Seconds from the container's start until the pod was Ready."""
    if pod.started_at is None or pod.ready_at is None:
        return None
    seconds = (datetime.fromisoformat(pod.ready_at) - datetime.fromisoformat(pod.started_at)).total_seconds()
    return max(0, int(seconds))


def pod_to_measure(pods: Iterable[Pod], inputs: str) -> Pod | None:
    """The pod whose word is taken: the first of the current spec that serves and has not been restarted since."""
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
