"""What a running engine says of its own capacity: in its metrics, its API and the beginning of its log. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from llm_operator.api.status import MeasuredStatus, PlanStatus
from llm_operator.engines.lmdeploy.blocks import turbomind_slabs
from llm_operator.foreign import UnreadableError, read_json, read_object, sample_labels
from llm_operator.reconcile.observed import Pod

LOG_BYTES = 1 << 20
"""How much of a log's beginning is read: both engines print their capacity before they serve."""
ANSWER_BYTES = 1 << 20
"""How much of an engine's answer is read; the metrics of a busy vLLM are about 100 KiB."""
DEVIATION_PERCENT = 5
"""A difference between plan and measurement beyond this is told."""
ENGINE_INFO_PATH = "/distserve/engine_info"
"""What LMDeploy tells a peer of its PyTorch backend's cache (0.9.2 to 0.18.0, lmdeploy/serve/openai).

Seen with 0.18.0 on an H100. An API key guards it (0.12.3 to 0.18.0). The metrics tell no capacity:
lmdeploy:backend_config_info has no labels.
"""

# vLLM 0.20.2 to 0.33.0: vllm/v1/metrics/loggers.py, log_metrics_info; its labels are the fields of CacheConfig as text.
_CACHE_CONFIG = "vllm:cache_config_info"
# vLLM 0.26.0 and 0.33.0: vllm/v1/core/kv_cache_utils.py; one line per engine core, and with data parallelism several.
# At most 15 digits: a status holds no larger number, and longer ones take quadratic time to read.
_VLLM_TOKENS = re.compile(r"\b[A-Z]+ KV cache size: ([0-9][0-9,]{0,19}) tokens")
# LMDeploy 0.18.0, TurboMind: src/turbomind/turbomind.cc; "MB" is MiB.
_TURBOMIND_BUDGET = re.compile(
    r"Object cache budget: ([0-9]{1,9}(?:\.[0-9]{1,6})?) MB from free ([0-9.]{1,16}) MB and ratio ([0-9.]{1,16})"
)
# LMDeploy 0.9.2 to 0.18.0, PyTorch: lmdeploy/pytorch/engine/executor/base.py, at log level INFO.
_PYTORCH_CACHE = re.compile(r"Building CacheEngine with config: *\n(CacheConfig\([^\n]*)")
# The same file, at WARNING: heads of 512 and more get smaller blocks, which the engine's API does not tell.
_PYTORCH_BLOCK = re.compile(r"Update `block_size=([0-9]+)` for large `head_dim=")
_PAGES_TOLERANCE = 0.02


def vllm_tokens(metrics: str) -> int | None:
    """Tokens that the KV cache of one replica holds, from vLLM's metrics; None where they do not tell.

    Each engine core tells its own cache, whatever groups its layers form (0.26.0 and 0.33.0; 0.20.2 does not). A
    replica of the operator has one core; of several the smallest counts, as a plan is for one and none may hold less.
    """
    return min((size for labels in _cores(metrics) if (size := _number(labels, "kv_cache_size_tokens"))), default=None)


def vllm_tokens_of_blocks(metrics: str, kv_bytes_per_token: int | None) -> int | None:
    """The same from the number of blocks, for versions whose metrics have no tokens.

    Right for one group of equal layers only, so that is proven: as many blocks of whole tokens fill the cache's bytes.
    A model with windows has several groups that share the blocks, and then this is None.

    Args:
        metrics: vLLM's metrics.
        kv_bytes_per_token: of one GPU, from the plan.
    """
    cores = _cores(metrics)
    if not cores or not kv_bytes_per_token:
        return None
    blocks, size = _number(cores[0], "num_gpu_blocks"), _number(cores[0], "block_size")
    cache = _number(cores[0], "kv_cache_memory_bytes")
    if not (blocks and size and cache):
        return None
    # Blocks of all cores are added up, and every core tells the sum (vllm/v1/engine/core_client.py).
    tokens = blocks // len(cores) * size
    filled = tokens * kv_bytes_per_token
    return tokens if abs(filled - cache) <= max(cache * _PAGES_TOLERANCE, size * kv_bytes_per_token) else None


def vllm_tokens_in_log(log: str) -> int | None:
    """The same from the beginning of vLLM's log."""
    told = (int(text.replace(",", "")) for text in _VLLM_TOKENS.findall(log))
    return min((tokens for tokens in told if tokens < 2**53), default=None)


def turbomind_tokens(log: str, kv_bytes_per_token: int | None) -> int | None:
    """Tokens that TurboMind's KV cache holds, from the log's beginning; None where it told nothing.

    Args:
        log: the log's beginning.
        kv_bytes_per_token: of one GPU, from the plan; TurboMind tells bytes, of which whole slabs become tokens.
    """
    budgets = [float(budget) * 2**20 for budget, _, _ in _TURBOMIND_BUDGET.findall(log)]
    if not budgets or not kv_bytes_per_token:
        return None
    return turbomind_slabs(kv_bytes_per_token, int(min(budgets))).tokens


def pytorch_tokens(engine_info: str, log: str | None) -> int | None:
    """Tokens that the KV cache of LMDeploy's PyTorch backend holds: blocks times their tokens.

    Args:
        engine_info: the answer of ENGINE_INFO_PATH, JSON inside a JSON string; empty where there was none.
        log: the log's beginning; None where it could not be read, and then nothing is said, as only the log tells of
            blocks that the engine made smaller.
    """
    if log is None:
        return None
    told = _PYTORCH_CACHE.findall(log)
    if told:
        fields = dict(re.findall(r"\b(block_size|num_gpu_blocks)=([0-9]+)", told[-1]))
        return _blocks_times_size(fields)
    smaller = _PYTORCH_BLOCK.findall(log)
    info = _engine_info(engine_info)
    return _blocks_times_size({**info, "block_size": smaller[-1]} if smaller else info)


def _blocks_times_size(fields: Mapping[str, object]) -> int | None:
    blocks, size = _number(fields, "num_gpu_blocks"), _number(fields, "block_size")
    return blocks * size if blocks and size else None


def _engine_info(text: str) -> Mapping[str, object]:
    try:
        answer = read_json(text)
    except UnreadableError:
        return {}
    return read_object(answer) if isinstance(answer, str) else answer if isinstance(answer, dict) else {}


def _cores(metrics: str) -> list[Mapping[str, str]]:
    """Labels of every sample of vLLM's cache configuration; of a text that was cut, those before the cut."""
    return sample_labels(metrics, _CACHE_CONFIG)


def _number(fields: Mapping[str, object], name: str) -> int | None:
    text = str(fields.get(name, ""))
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


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
