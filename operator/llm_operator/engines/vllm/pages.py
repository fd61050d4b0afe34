"""vLLM's KV cache: what one token takes, and the blocks that layers of several kinds share.

Sources: vLLM v1/core/kv_cache_utils.py and v1/kv_cache_interface.py (exact in every start), and for states vLLM 0.33.0,
platforms/interface.py (_align_hybrid_block_size).
"""

from __future__ import annotations

from dataclasses import replace

from llm_operator.engines.vllm import compressed
from llm_operator.engines.vllm.packed import Group, Pages
from llm_operator.memory.kv_cache import CacheRules, head_bytes, layer_bytes_per_token
from llm_operator.memory.types import KVQuantization, PlanRequest
from llm_operator.memory.versions import release
from llm_operator.models import AttentionKind, AttentionLayers

BLOCK = 16
# 1.5 since 2026, 1.25 before: up to there unequal kinds of layers share groups of the larger size.
SIMILAR_LAYERS = 1.5
STATE_STEP_LATENT = 128
TWO_STEPS_SINCE = (0, 26)
_WHOLE = frozenset({AttentionKind.FULL, AttentionKind.LATENT})


def kv_format(request: PlanRequest) -> KVQuantization:
    """Return the KV cache's format: as asked, or the checkpoint's own, which vLLM takes if nothing was asked.

    vLLM 0.33.0, utils/torch_utils.py (modelopt) and layers/attention (compressed-tensors' kv_cache_scheme).
    """
    how, own = request.kv_quantization, request.shape.quantization
    if how is KVQuantization.NONE and own is not None and own.kv_cache_bits == 8:
        return KVQuantization.FP8
    return how


def latent_bytes(group: AttentionLayers, request: PlanRequest) -> int:
    """Return the bytes of one token's latent in one layer."""
    if kv_format(request) is KVQuantization.FP8:
        return _fp8_latent(group, request)
    return int(head_bytes(group.key_dim, KVQuantization.NONE))


def _fp8_latent(group: AttentionLayers, request: PlanRequest) -> int:
    """Return the bytes of an FP8 latent.

    A sparse attention keeps it with one 32-bit scale for 128 elements and the rotated part in 16 bit: 656 bytes of 576
    elements (vLLM 0.33.0, fp8_ds_mla).
    """
    if all(other.kind is not AttentionKind.INDEX for other in request.shape.attention):
        return group.key_dim
    rank = group.key_dim - request.shape.rotary_dim
    return rank + rank // 128 * 4 + 2 * request.shape.rotary_dim


def _kept(request: PlanRequest) -> tuple[AttentionLayers, ...]:
    """Return the layers by what vLLM keeps for them: without the hybrid manager every layer keeps every token.

    A draft layer of the model's own is one more of those that keep every token.
    """
    attention = request.shape.attention
    if request.draft is not None and request.draft.own_layer:
        place = next((at for at, group in enumerate(attention) if group.kind in _WHOLE), None)
        if place is not None:
            more = replace(attention[place], layers=attention[place].layers + 1)
            attention = (*attention[:place], more, *attention[place + 1 :])
    if request.hybrid_cache or not request.shape.has_window:
        return attention
    return tuple(replace(group, kind=AttentionKind.FULL, window=None) for group in attention)


def needed(found: Pages, request: PlanRequest, context: int, batched_tokens: int) -> int:
    """Return the blocks of one request of `context` tokens. batched_tokens: prefill tokens of one step.

    Asynchronous scheduling keeps two steps in flight since 0.26.0 (config/vllm.py, max_in_flight_tokens); 0.20.2 counts
    one (v1/kv_cache_interface.py), and so do public starts of 0.22 and 0.25.
    """
    steps = 2 if release(request.version) >= TWO_STEPS_SINCE else 1
    return found.needed(context, steps * batched_tokens)


def pages_of(engine: CacheRules, request: PlanRequest, tensor: int) -> Pages:
    """Return vLLM's blocks: layers of one kind in one group, of several kinds in groups of equally many layers.

    Layers that keep every token share one group whatever their sizes (kv_cache_interface.py, UniformTypeKVCacheSpecs).
    Between kinds, pages are made equal by longer blocks of the smaller ones (unify_kv_cache_spec_page_size).
    """
    if request.shape.compressed:
        return compressed.pages(request)
    attention = _kept(request)
    sizes = [layer_bytes_per_token(engine, group, request, tensor) for group in attention]
    states = request.shape.states
    if not states and all(group.window is None for group in attention):
        total = sum(size * group.layers for size, group in zip(sizes, attention, strict=True))
        return Pages(BLOCK * max(total, 1), (Group(1, BLOCK),))
    if not attention:
        each = sum(engine.state_bytes(layers, request, tensor) * layers.layers for layers in states)
        return Pages(max(each, 1), (Group(1, None),))
    block = BLOCK
    if states:
        # The block grows until a page of attention holds a state; with latents in steps of 128 tokens.
        largest = max(engine.state_bytes(layers, request, tensor) for layers in states)
        step = STATE_STEP_LATENT if request.shape.is_latent else BLOCK
        block = step * -(-largest // (step * max(sizes)))
    page = block * max(sizes)
    counts = [group.layers for group in attention] + [layers.layers for layers in states]
    size = max(counts) if max(counts) < SIMILAR_LAYERS * min(counts) else min(counts)
    groups = [
        Group(-(-group.layers // size), block * max(sizes) // each, group.window)
        for group, each in zip(attention, sizes, strict=True)
    ]
    # Prefix caching keeps the state before the last block beside the running one, a draft one for each proposed token.
    kept = (2 if request.prefix_caching else 1) + (request.draft.tokens if request.draft is not None else 0)
    groups += [Group(-(-layers.layers // size), None, states=kept) for layers in states]
    return Pages(page * size, tuple(groups))
