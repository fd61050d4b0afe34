"""The KV cache: bytes per token, what the engines' allocators make of a budget, and what one request needs.

Sources: LMDeploy 0.18.0 src/turbomind/memory/{slab.h,object.cc} (blocks and slabs, exact in 17 measured starts) and
pytorch/engine/executor/base.py; vLLM v1/core/kv_cache_utils.py and v1/kv_cache_interface.py (exact in every start).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_operator.models import AttentionKind, AttentionLayers
from llm_operator.planning.types import GIB, MIB, Backend, Engine, KVQuantization, PlanRequest
from llm_operator.planning.weights import kv_heads_per_rank, padded

LMDEPLOY_BLOCK = 64
VLLM_BLOCK = 16
PLANE_ALIGNMENT = 256
SLAB_UNIT = 32 * MIB
LARGEST_SLAB = GIB
GOOD_YIELD = 0.95
# 1.5 since 2026, 1.25 before: up to there unequal kinds of layers share groups of the larger size.
SIMILAR_LAYERS = 1.5


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a budget becomes: blocks of `block_tokens` tokens, and the tokens they hold for requests of the context."""

    blocks: int
    block_bytes: int
    tokens: int


def head_bytes(elements: int, quantization: KVQuantization, *, scale_bytes: int = 4) -> float:
    """Return bytes of one token's K (or V) of one KV head.

    Int8 and Int4 add 4 bytes per head and token: scale and zero of 16 bit each in LMDeploy, one 32-bit scale in vLLM.
    """
    match quantization:
        case KVQuantization.NONE:
            return 2.0 * elements
        case KVQuantization.FP8:
            return float(elements)
        case KVQuantization.INT8:
            return float(elements + scale_bytes)
        case KVQuantization.INT4:
            return elements / 2 + scale_bytes


def layer_bytes_per_token(group: AttentionLayers, request: PlanRequest, tensor: int) -> int:
    """Return KV bytes of one token in one layer of `group` on one of `tensor` ranks; each holds a latent whole."""
    how = request.kv_quantization
    if group.kind is AttentionKind.LATENT:
        if request.engine is Engine.VLLM and how is KVQuantization.FP8:
            return group.key_dim
        return int(head_bytes(group.key_dim, KVQuantization.NONE))
    heads = kv_heads_per_rank(group.kv_heads, tensor)
    return int(heads * (head_bytes(group.key_dim, how) + head_bytes(group.value_dim, how)))


def bytes_per_token(request: PlanRequest, tensor: int) -> int:
    """Return KV bytes of one token on one rank, all layers counted, before blocks, slabs and windows."""
    return sum(layer_bytes_per_token(group, request, tensor) * group.layers for group in request.shape.attention)


def allocate(request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
    """Return what the engine makes of `budget` bytes of KV cache on one rank.

    context: longest request in tokens. batched_tokens: prefill tokens of one step; only vLLM's windows need it.
    """
    if request.engine is Engine.VLLM:
        return _vllm_pages(request, tensor, budget, context, batched_tokens)
    if request.backend is Backend.TURBOMIND:
        return turbomind_slabs(bytes_per_token(request, tensor), budget)
    block = pytorch_block_bytes(request, tensor)
    blocks = max(budget, 0) // block
    return Allocation(blocks, block, blocks * LMDEPLOY_BLOCK)


def blocks_per_request(request: PlanRequest, context: int, batched_tokens: int) -> int:
    """Return the blocks that a request of `context` tokens holds at its longest."""
    if request.engine is Engine.LMDEPLOY:
        return -(-context // LMDEPLOY_BLOCK)
    _, groups = _vllm_groups(_kept(request))
    need = 0
    for layers, number in groups:
        if layers.window is None:
            need += number * -(-context // VLLM_BLOCK)
        else:
            # Asynchronous scheduling keeps two steps of prefill in flight, and a window may start inside a block.
            kept = min(layers.window - 1 + 2 * batched_tokens, context)
            need += number * (-(-kept // VLLM_BLOCK) + 1)
    return need


def pytorch_block_bytes(request: PlanRequest, tensor: int) -> int:
    """Return bytes of one block of LMDeploy's pytorch backend: K, V and their scales each rounded up to 256 bytes."""
    total = 0
    quantized = request.kv_quantization in (KVQuantization.INT8, KVQuantization.INT4)
    for group in request.shape.attention:
        if group.kind is AttentionKind.LATENT:
            total += group.layers * padded(
                layer_bytes_per_token(group, request, tensor) * LMDEPLOY_BLOCK, PLANE_ALIGNMENT
            )
            continue
        heads = kv_heads_per_rank(group.kv_heads, tensor) * LMDEPLOY_BLOCK
        for elements in (group.key_dim, group.value_dim):
            data = int(heads * head_bytes(elements, request.kv_quantization, scale_bytes=0))
            scales = padded(heads * 4, PLANE_ALIGNMENT) if quantized else 0
            total += group.layers * (padded(data, PLANE_ALIGNMENT) + scales)
    return total


def slab_bytes(block: int) -> int:
    """Return TurboMind's slab: doubled from the smallest power of two that holds a block until 95 % of it is used."""
    slab = max(SLAB_UNIT, 1 << (block - 1).bit_length())
    while slab // block * block / slab < GOOD_YIELD and slab < LARGEST_SLAB:
        slab *= 2
    return slab


def turbomind_slabs(token_bytes: int, budget: int) -> Allocation:
    """Return what TurboMind makes of `budget` bytes on one rank, where a token takes `token_bytes` there."""
    block = token_bytes * LMDEPLOY_BLOCK
    slab = slab_bytes(block)
    blocks = max(budget, 0) // SLAB_UNIT // (slab // SLAB_UNIT) * (slab // block)
    return Allocation(blocks, block, blocks * LMDEPLOY_BLOCK)


def _kept(request: PlanRequest) -> tuple[AttentionLayers, ...]:
    """Return the layers by what vLLM keeps for them: without the hybrid manager every layer keeps every token."""
    attention = request.shape.attention
    if request.hybrid_cache or not request.shape.has_window:
        return attention
    layers = sum(group.layers for group in attention)
    return (replace(attention[0], kind=AttentionKind.FULL, layers=layers, window=None),)


def _vllm_groups(attention: tuple[AttentionLayers, ...]) -> tuple[int, list[tuple[AttentionLayers, int]]]:
    """Return layers per group, and for each kind of layer how many such groups it fills (the last one padded)."""
    counts = [group.layers for group in attention]
    size = max(counts) if max(counts) < SIMILAR_LAYERS * min(counts) else min(counts)
    return size, [(group, -(-group.layers // size)) for group in attention]


def _vllm_pages(request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
    attention = _kept(request)
    size, _ = _vllm_groups(attention)
    page = VLLM_BLOCK * max(layer_bytes_per_token(group, request, tensor) for group in attention)
    blocks = max(budget, 0) // (page * size)
    need = blocks_per_request(request, context, batched_tokens)
    return Allocation(blocks, page * size, blocks * context // need)
