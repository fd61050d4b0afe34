"""What a running vLLM says of its KV cache, in its metrics and the beginning of its log."""

from __future__ import annotations

import re
from collections.abc import Mapping

from llm_operator.engines.capacity import LOG, Capacity, Read, number
from llm_operator.engines.common import METRICS_PATH
from llm_operator.foreign import sample_labels

# vLLM 0.20.2 to 0.33.0: vllm/v1/metrics/loggers.py, log_metrics_info; its labels are the fields of CacheConfig as text.
_CACHE_CONFIG = "vllm:cache_config_info"
# vLLM 0.26.0 and 0.33.0: vllm/v1/core/kv_cache_utils.py; one line per engine core, and with data parallelism several.
# At most 15 digits: a status holds no larger number, and longer ones take quadratic time to read.
_VLLM_TOKENS = re.compile(r"\b[A-Z]+ KV cache size: ([0-9][0-9,]{0,19}) tokens")
_PAGES_TOLERANCE = 0.02


def capacity(kv_bytes_per_token: int | None) -> Capacity:
    """Read the capacity. kv_bytes_per_token: of one GPU, from the plan."""
    metrics = (yield Read(METRICS_PATH)) or ""
    tokens = vllm_tokens(metrics)
    if tokens is None:
        tokens = vllm_tokens_in_log((yield LOG) or "")
    return vllm_tokens_of_blocks(metrics, kv_bytes_per_token) if tokens is None else tokens


def vllm_tokens(metrics: str) -> int | None:
    """Tokens that the KV cache of one replica holds, from vLLM's metrics; None if they do not say.

    Each engine core reports its own cache, whatever groups its layers form (0.26.0 and 0.33.0; 0.20.2 does not). A
    replica of the operator has one core; of several the smallest counts, as a plan is for one and none may hold less.
    """
    return min((size for labels in _cores(metrics) if (size := number(labels, "kv_cache_size_tokens"))), default=None)


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
    blocks, size = number(cores[0], "num_gpu_blocks"), number(cores[0], "block_size")
    cache = number(cores[0], "kv_cache_memory_bytes")
    if not (blocks and size and cache):
        return None
    # Blocks of all cores are added up, and every core reports the sum (vllm/v1/engine/core_client.py).
    tokens = blocks // len(cores) * size
    filled = tokens * kv_bytes_per_token
    return tokens if abs(filled - cache) <= max(cache * _PAGES_TOLERANCE, size * kv_bytes_per_token) else None


def vllm_tokens_in_log(log: str) -> int | None:
    """The same from the beginning of vLLM's log."""
    told = (int(text.replace(",", "")) for text in _VLLM_TOKENS.findall(log))
    return min((tokens for tokens in told if tokens < 2**53), default=None)


def _cores(metrics: str) -> list[Mapping[str, str]]:
    """Labels of every sample of vLLM's cache configuration; of a text that was cut, those before the cut."""
    return sample_labels(metrics, _CACHE_CONFIG)
