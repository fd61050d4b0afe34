"""What a running LMDeploy says of its KV cache, in its API and the beginning of its log."""

from __future__ import annotations

import re
from collections.abc import Mapping

from llm_operator.engines.capacity import LOG, Capacity, Read, number
from llm_operator.engines.lmdeploy.blocks import turbomind_slabs
from llm_operator.foreign import UnreadableError, read_json, read_object

ENGINE_INFO_PATH = "/distserve/engine_info"
"""What LMDeploy reports to a peer of its PyTorch backend's cache (0.9.2 to 0.18.0, lmdeploy/serve/openai).

Seen with 0.18.0 on an H100. An API key guards it (0.12.3 to 0.18.0). The metrics tell no capacity:
lmdeploy:backend_config_info has no labels.
"""
# LMDeploy 0.18.0, TurboMind: src/turbomind/turbomind.cc; "MB" is MiB.
_TURBOMIND_BUDGET = re.compile(
    r"Object cache budget: ([0-9]{1,9}(?:\.[0-9]{1,6})?) MB from free ([0-9.]{1,16}) MB and ratio ([0-9.]{1,16})"
)
# The same, models/llama/GatedDeltaNetLayer.cc: what layers with a state say after the budget.
_TURBOMIND_STATES = "[GDN] "
# LMDeploy 0.9.2 to 0.18.0, PyTorch: lmdeploy/pytorch/engine/executor/base.py, at log level INFO.
_PYTORCH_CACHE = re.compile(r"Building CacheEngine with config: *\n(CacheConfig\([^\n]*)")
# The same file, at WARNING: heads of 512 and more get smaller blocks, which the engine's API does not say.
_PYTORCH_BLOCK = re.compile(r"Update `block_size=([0-9]+)` for large `head_dim=")


def capacity(backend: str | None, kv_bytes_per_token: int | None) -> Capacity:
    """Read the capacity of a backend. kv_bytes_per_token: of one GPU, from the plan."""
    text = yield LOG
    if backend != "PyTorch":
        return turbomind_tokens(text or "", kv_bytes_per_token)
    return pytorch_tokens((yield Read(ENGINE_INFO_PATH)) or "", text)


def turbomind_tokens(log: str, kv_bytes_per_token: int | None) -> int | None:
    """Tokens that TurboMind's KV cache holds, from the log's beginning; None if it has none.

    None also for models that keep states: how many tokens there are depends on the requests that share the cache.

    Args:
        log: the log's beginning.
        kv_bytes_per_token: of one GPU, from the plan; TurboMind reports bytes, of which whole slabs become tokens.
    """
    budgets = [float(budget) * 2**20 for budget, _, _ in _TURBOMIND_BUDGET.findall(log)]
    if not budgets or not kv_bytes_per_token or _TURBOMIND_STATES in log:
        return None
    return turbomind_slabs(kv_bytes_per_token, int(min(budgets))).tokens


def pytorch_tokens(engine_info: str, log: str | None) -> int | None:
    """Tokens that the KV cache of LMDeploy's PyTorch backend holds: blocks times their tokens.

    Args:
        engine_info: the answer of ENGINE_INFO_PATH, JSON inside a JSON string; empty if there was none.
        log: the log's beginning; None if it could not be read, and then nothing is said, as only the log reports
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
    blocks, size = number(fields, "num_gpu_blocks"), number(fields, "block_size")
    return blocks * size if blocks and size else None


def _engine_info(text: str) -> Mapping[str, object]:
    try:
        answer = read_json(text)
    except UnreadableError:
        return {}
    return read_object(answer) if isinstance(answer, str) else answer if isinstance(answer, dict) else {}
