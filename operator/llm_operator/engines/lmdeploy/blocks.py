"""LMDeploy's KV cache: TurboMind's slabs and the PyTorch backend's blocks, both of 64 tokens.

Sources: LMDeploy 0.18.0 src/turbomind/memory/{slab.h,object.cc} (blocks and slabs, exact in 17 measured starts) and
pytorch/engine/executor/base.py.
"""

from __future__ import annotations

from llm_operator.memory.cache import Allocation, CacheRules, head_bytes, layer_bytes_per_token
from llm_operator.memory.types import GIB, MIB, KVQuantization, PlanRequest
from llm_operator.memory.weights import kv_heads_per_rank, padded
from llm_operator.models import AttentionKind

BLOCK = 64
PLANE_ALIGNMENT = 256
SLAB_UNIT = 32 * MIB
LARGEST_SLAB = GIB
GOOD_YIELD = 0.95


def slab_bytes(block: int) -> int:
    """Return TurboMind's slab: doubled from the smallest power of two that holds a block until 95 % of it is used."""
    slab = max(SLAB_UNIT, 1 << (block - 1).bit_length())
    while slab // block * block / slab < GOOD_YIELD and slab < LARGEST_SLAB:
        slab *= 2
    return slab


def turbomind_slabs(token_bytes: int, budget: int) -> Allocation:
    """Return what TurboMind makes of `budget` bytes on one rank, where a token takes `token_bytes` there."""
    block = token_bytes * BLOCK
    slab = slab_bytes(block)
    blocks = max(budget, 0) // SLAB_UNIT // (slab // SLAB_UNIT) * (slab // block)
    return Allocation(blocks, block, blocks * BLOCK)


def pytorch_block_bytes(engine: CacheRules, request: PlanRequest, tensor: int) -> int:
    """Return bytes of one block of LMDeploy's pytorch backend: K, V and their scales each rounded up to 256 bytes."""
    total = 0
    quantized = request.kv_quantization in (KVQuantization.INT8, KVQuantization.INT4)
    for group in request.shape.attention:
        if group.kind is AttentionKind.LATENT:
            total += group.layers * padded(
                layer_bytes_per_token(engine, group, request, tensor) * BLOCK, PLANE_ALIGNMENT
            )
            continue
        heads = kv_heads_per_rank(group.kv_heads, tensor) * BLOCK
        for elements in (group.key_dim, group.value_dim):
            data = int(heads * head_bytes(elements, request.kv_quantization, scale_bytes=0))
            scales = padded(heads * 4, PLANE_ALIGNMENT) if quantized else 0
            total += group.layers * (padded(data, PLANE_ALIGNMENT) + scales)
    return total
