"""How vLLM itself groups layers into blocks.

    python groups.py < REQUESTS

Reads one {"kept": [[hold, layers, page, tokens, window]], "context", "batched"} a line and prints {"bytes", "blocks"}
of one request of the context for each: what vLLM compares with the memory that it has, and the blocks of all groups.
"""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
REPLIES = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch  # noqa: E402
from vllm import platforms  # noqa: E402
from vllm.platforms.cpu import CpuPlatform  # noqa: E402

platforms._current_platform = CpuPlatform()

from vllm.v1 import kv_cache_interface as kinds  # noqa: E402

try:
    from vllm.v1.core import kv_cache_planning as planning
    from vllm.v1.core.kv_cache_planning import DefaultKVCacheConfigBuilder
except ImportError:  # up to 0.26
    from vllm.v1.core import kv_cache_utils as planning

    DefaultKVCacheConfigBuilder = None


def spec(hold: str, page: int, tokens: int, window: int | None) -> Any:
    """Return what vLLM calls one layer's part of the cache."""
    given = {"block_size": tokens, "num_kv_heads": 1, "head_size": 1, "dtype": torch.uint8, "page_size_padded": page}
    match hold:
        case "Everything":
            return kinds.MLAAttentionSpec(**given)
        case "Window":
            return kinds.SlidingWindowMLASpec(**given, sliding_window=window)
        case "Ring":
            return kinds.CircularBufferSpec(**given, head_size_v=0)
        case _:
            return kinds.MambaSpec(block_size=tokens, shapes=((page,),), dtypes=(torch.uint8,))


def answered(request: dict[str, Any]) -> dict[str, int]:
    """Return what one request holds at most."""
    layout = getattr(getattr(kinds, "KVCacheLayout", None), "BLHNC", None)
    config = SimpleNamespace(
        scheduler_config=SimpleNamespace(
            disable_hybrid_kv_cache_manager=False, max_num_batched_tokens=request["batched"]
        ),
        cache_config=SimpleNamespace(
            get_resolved_kv_cache_layout=lambda: layout,
            num_gpu_blocks_override=None,
            mamba_cache_mode="none",
            prefix_cache_retention_interval=None,
        ),
        attention_config=SimpleNamespace(hisparse_config=None),
        model_config=SimpleNamespace(max_model_len=request["context"], supports_kv_cache_grouping=False),
        parallel_config=SimpleNamespace(decode_context_parallel_size=1, prefill_context_parallel_size=1),
        speculative_config=None,
        kv_transfer_config=None,
        max_in_flight_tokens=2 * request["batched"],
    )
    specs: dict[str, Any] = {}
    for row, (hold, layers, page, tokens, window) in enumerate(request["kept"]):
        specs |= {f"{row}.{layer}": spec(hold, page, tokens, window) for layer in range(layers)}
    groups = planning.get_kv_cache_groups(config, specs)
    first = [DefaultKVCacheConfigBuilder()] if DefaultKVCacheConfigBuilder else []
    held = planning._max_memory_usage_bytes_from_groups(*first, config, groups)
    blocks = sum(
        -(-group.kv_cache_spec.max_memory_usage_bytes(config) // group.kv_cache_spec.page_size_bytes)
        for group in groups
    )
    return {"bytes": held, "blocks": blocks}


def main() -> None:
    """Answer every line."""
    for line in sys.stdin:
        print(json.dumps(answered(json.loads(line))), file=REPLIES, flush=True)


if __name__ == "__main__":
    main()
