"""The KV cache: bytes per token, what the engines' allocators make of a budget, and what one request needs.

Sources: LMDeploy 0.18.0 src/turbomind/memory/{slab.h,object.cc} (blocks and slabs, exact in 17 measured starts) and
pytorch/engine/executor/base.py; vLLM v1/core/kv_cache_utils.py and v1/kv_cache_interface.py (exact in every start),
and for states vLLM 0.33.0, platforms/interface.py (_align_hybrid_block_size).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_operator.models import AttentionKind, AttentionLayers, StateLayers
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
STATE_STEP_LATENT = 128


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
    how = kv_format(request)
    if group.kind is AttentionKind.INDEX:
        return group.key_dim
    if group.kind is AttentionKind.LATENT:
        if request.engine is Engine.VLLM and how is KVQuantization.FP8:
            return _fp8_latent(group, request)
        return int(head_bytes(group.key_dim, KVQuantization.NONE))
    heads = kv_heads_per_rank(group.kv_heads, tensor)
    return int(heads * (head_bytes(group.key_dim, how) + head_bytes(group.value_dim, how)))


def kv_format(request: PlanRequest) -> KVQuantization:
    """Return the KV cache's format: as asked, or the checkpoint's own, which vLLM takes where nothing was asked.

    vLLM 0.33.0, utils/torch_utils.py (modelopt) and layers/attention (compressed-tensors' kv_cache_scheme).
    """
    how, own = request.kv_quantization, request.shape.quantization
    if request.engine is Engine.VLLM and how is KVQuantization.NONE and own is not None and own.kv_cache_bits == 8:
        return KVQuantization.FP8
    return how


def _fp8_latent(group: AttentionLayers, request: PlanRequest) -> int:
    """Return the bytes of an FP8 latent.

    A sparse attention keeps it with one 32-bit scale for 128 elements and the rotated part in 16 bit: 656 bytes of 576
    elements (vLLM 0.33.0, fp8_ds_mla).
    """
    if all(other.kind is not AttentionKind.INDEX for other in request.shape.attention):
        return group.key_dim
    rank = group.key_dim - request.shape.rotary_dim
    return rank + rank // 128 * 4 + 2 * request.shape.rotary_dim


def state_bytes(layers: StateLayers, request: PlanRequest, tensor: int) -> int:
    """Return the bytes of one sequence's state in one layer on one of `tensor` ranks.

    Groups are repeated where they are fewer than the ranks (vLLM 0.33.0, layers/mamba/mamba_utils.py). LMDeploy keeps
    as many tokens of the convolution as it is long, vLLM one less (LMDeploy 0.18.0, pytorch/configurations/qwen3_5.py),
    and LMDeploy keeps recurrent states in 16 bit whatever the file says.
    """
    lmdeploy = request.engine is Engine.LMDEPLOY
    groups = layers.groups if layers.groups % tensor == 0 else tensor
    channels = -(-(layers.channels + 2 * groups * layers.group_size) // tensor)
    kept = layers.kernel if lmdeploy else max(layers.kernel - 1, 0)
    wide = 2 if lmdeploy or layers.recurrent_bytes is None else layers.recurrent_bytes
    return channels * kept * 2 + -(-layers.heads // tensor) * layers.recurrent * wide


def states_of_sequence(request: PlanRequest, tensor: int) -> int:
    """Return the bytes of one sequence's states of all layers on one rank."""
    return sum(state_bytes(layers, request, tensor) * layers.layers for layers in request.shape.states)


def bytes_per_token(request: PlanRequest, tensor: int) -> int:
    """Return KV bytes of one token on one rank, all layers counted, before blocks, slabs and windows."""
    return sum(layer_bytes_per_token(group, request, tensor) * group.layers for group in request.shape.attention)


def allocate(request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
    """Return what the engine makes of `budget` bytes of KV cache on one rank.

    context: longest request in tokens. batched_tokens: prefill tokens of one step; only vLLM's windows need it.
    """
    if request.engine is Engine.VLLM:
        pages = _vllm_pages(request, tensor)
        blocks = max(budget, 0) // pages.block_bytes
        need = pages.needed(context, batched_tokens)
        return Allocation(blocks, pages.block_bytes, blocks * context // need)
    if request.backend is Backend.TURBOMIND:
        return turbomind_slabs(bytes_per_token(request, tensor), budget)
    block = pytorch_block_bytes(request, tensor)
    blocks = max(budget, 0) // block
    return Allocation(blocks, block, blocks * LMDEPLOY_BLOCK)


def blocks_per_request(request: PlanRequest, tensor: int, context: int, batched_tokens: int) -> int:
    """Return the blocks that a request of `context` tokens holds at its longest on one of `tensor` ranks."""
    if request.engine is Engine.LMDEPLOY:
        return -(-context // LMDEPLOY_BLOCK)
    return _vllm_pages(request, tensor).needed(context, batched_tokens)


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
    return tuple(replace(group, kind=AttentionKind.FULL, window=None) for group in attention)


@dataclass(frozen=True, slots=True)
class _Group:
    """Layers that share block tables in vLLM. number: groups that they fill; tokens: of one block; None: a state."""

    number: int
    tokens: int | None
    window: int | None = None
    states: int = 1


@dataclass(frozen=True, slots=True)
class _Pages:
    """vLLM's blocks. block_bytes: one block of one group, all its layers."""

    block_bytes: int
    groups: tuple[_Group, ...]

    def needed(self, context: int, batched_tokens: int) -> int:
        """Return the blocks of one request of `context` tokens."""
        need = 0
        for group in self.groups:
            if group.tokens is None:
                need += group.number * group.states
            elif group.window is None:
                need += group.number * -(-context // group.tokens)
            else:
                # Asynchronous scheduling keeps two steps of prefill in flight, and a window may start inside a block.
                kept = min(group.window - 1 + 2 * batched_tokens, context)
                need += group.number * (-(-kept // group.tokens) + 1)
        return max(need, 1)


def _vllm_pages(request: PlanRequest, tensor: int) -> _Pages:
    """Return vLLM's blocks: layers of one kind in one group, of several kinds in groups of equally many layers.

    Layers that keep every token share one group whatever their sizes (kv_cache_interface.py, UniformTypeKVCacheSpecs).
    Between kinds, pages are made equal by longer blocks of the smaller ones (unify_kv_cache_spec_page_size).
    """
    attention = _kept(request)
    sizes = [layer_bytes_per_token(group, request, tensor) for group in attention]
    states = request.shape.states
    if not states and all(group.window is None for group in attention):
        total = sum(size * group.layers for size, group in zip(sizes, attention, strict=True))
        return _Pages(VLLM_BLOCK * max(total, 1), (_Group(1, VLLM_BLOCK),))
    if not attention:
        each = sum(state_bytes(layers, request, tensor) * layers.layers for layers in states)
        return _Pages(max(each, 1), (_Group(1, None),))
    block = VLLM_BLOCK
    if states:
        # The block grows until a page of attention holds a state; with latents in steps of 128 tokens.
        largest = max(state_bytes(layers, request, tensor) for layers in states)
        step = STATE_STEP_LATENT if request.shape.is_latent else VLLM_BLOCK
        block = step * -(-largest // (step * max(sizes)))
    page = block * max(sizes)
    counts = [group.layers for group in attention] + [layers.layers for layers in states]
    size = max(counts) if max(counts) < SIMILAR_LAYERS * min(counts) else min(counts)
    groups = [
        _Group(-(-group.layers // size), block * max(sizes) // each, group.window)
        for group, each in zip(attention, sizes, strict=True)
    ]
    # Prefix caching, which is on by default, keeps the state before the last block beside the running one.
    groups += [_Group(-(-layers.layers // size), None, states=2) for layers in states]
    return _Pages(page * size, tuple(groups))
