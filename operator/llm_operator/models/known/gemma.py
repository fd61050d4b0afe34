"""Gemma 3n and 4: embeddings per layer, layers that read another's cache, full layers with heads of another size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llm_operator.foreign import natural_number
from llm_operator.models.decoder import Decoder
from llm_operator.models.fields import Fields
from llm_operator.models.known.general import PER_TOKEN, Traits, core_of
from llm_operator.models.known.nested import nested
from llm_operator.models.known.towers import Blocks, blocks, whole
from llm_operator.models.layers import (
    FULL,
    SLIDING,
    Core,
    Heads,
    Places,
    attention_at,
    checked_experts,
    embeddings,
    everywhere,
    first_integer,
    kinds_of_layers,
    linear,
    mixture_at,
    network_at,
    places_of,
    vector,
    without,
)
from llm_operator.models.shape import AttentionLayers, Experts, Role, Tensor, Tower

# Gemma 3n's towers are not transformers that a config describes: MobileNet-v5 (timm) and a conformer. Their parameters
# are what the published files hold beside the decoder.
GEMMA3N_TOWERS = 1_014_742_624


def _sliding(fields: Fields, layers: int, pattern: int) -> Places:
    types = kinds_of_layers(fields, layers, FULL | SLIDING)
    if types is not None:
        return places_of(types, SLIDING)
    return tuple(layer for layer in range(layers) if (layer + 1) % pattern)


def _attention(hidden: int, of: Heads, first_shared: int) -> Iterator[Tensor]:
    """Yield attention; layers from `first_shared` on have queries alone and read the cache of an earlier layer."""
    own = tuple(layer for layer in of.places if layer < first_shared)
    yield from attention_at(hidden, replace(of, places=own))
    shared = tuple(layer for layer in of.places if layer >= first_shared)
    if shared:
        count, width = len(shared), of.heads * of.key_dim
        yield from linear(Role.QUERY, width, hidden, count, bias=of.qkv_bias)
        yield from linear(Role.ATTENTION_OUTPUT, hidden, width, count, bias=of.output_bias)
        yield vector(of.key_dim, count)


def _cached(of: Heads, first_shared: int) -> AttentionLayers:
    return replace(of, places=tuple(layer for layer in of.places if layer < first_shared)).cache()


def _per_layer(core: Core, fields: Fields) -> Iterator[Tensor]:
    """Yield the embeddings and gates per layer."""
    width = fields.integer("hidden_size_per_layer_input", 0, least=0)
    if not width:
        return
    vocabulary = fields.integer("vocab_size_per_layer_input", core.vocabulary)
    yield Tensor(Role.EMBEDDING, vocabulary, core.layers * width, 1, linear=False)
    yield Tensor(Role.REPLICATED, core.layers * width, core.hidden, 1)
    yield vector(width, 1)
    yield Tensor(Role.REPLICATED, width, core.hidden, core.layers)
    yield Tensor(Role.REPLICATED, core.hidden, width, core.layers)
    yield vector(core.hidden, core.layers)


def gemma3n(fields: Fields) -> Decoder:
    """Gemma 3n (text): four streams (AltUp), low-rank residuals (Laurel) and embeddings per layer."""
    core = core_of(fields, Traits(tied=True, head_dim=256))
    sliding = _sliding(fields, core.layers, 5)
    shared = core.layers - fields.integer("num_kv_shared_layers", 15, least=0)
    bias = fields.boolean("attention_bias", False)
    full = Heads(
        without(core.layers, sliding),
        core.heads,
        core.kv_heads,
        core.head_dim,
        core.head_dim,
        qkv_bias=bias,
        output_bias=bias,
        norms="head",
    )
    local = replace(full, places=sliding, window=fields.integer("sliding_window", 512))
    streams, rank = fields.integer("altup_num_inputs", 4), fields.integer("laurel_rank", 64)
    widths = fields.integers("intermediate_size") if isinstance(fields.values.get("intermediate_size"), list) else ()
    sizes = widths or (core.intermediate,) * core.layers
    tensors = (
        *embeddings(core),
        *_attention(core.hidden, full, shared),
        *_attention(core.hidden, local, shared),
        *(
            piece
            for size in sorted(set(sizes))
            for piece in network_at(core.hidden, tuple(i for i, each in enumerate(sizes) if each == size), size)
        ),
        *_per_layer(core, fields),
        vector(core.hidden, 4 * core.layers + 1),
        # AltUp: a scale, coefficients, a router with its norm; Laurel: two low-rank matrices and a norm.
        vector(core.hidden, 3 * core.layers),
        vector(streams * (streams + streams**2 + core.hidden), core.layers),
        Tensor(Role.REPLICATED, rank, core.hidden, core.layers),
        Tensor(Role.REPLICATED, core.hidden, rank, core.layers),
        Tensor(Role.REPLICATED, core.hidden, core.hidden, 2 * (streams - 1)),
    )
    cache = tuple(part for part in (_cached(full, shared), _cached(local, shared)) if part.layers)
    return Decoder(core, tensors, cache, rotary_tables=2)


def gemma3n_multimodal(fields: Fields) -> Decoder:
    """Gemma 3n with its towers, as one lump that every rank keeps."""
    text = gemma3n(nested(fields, "text_config", kind="gemma3n_text"))
    return replace(text, tensors=(*text.tensors, vector(GEMMA3N_TOWERS, 1)), tower=Tower(2048, 2048, 1, 256, 256))


def gemma4(fields: Fields) -> Decoder:
    """Gemma 4 (text): full layers with wider heads (values may be the keys), experts beside a network."""
    core = core_of(fields, Traits(tied=True, head_dim=256))
    sliding = _sliding(fields, core.layers, 6)
    shared_count = fields.integer("num_kv_shared_layers", 0, least=0)
    shared = core.layers - shared_count
    bias = fields.boolean("attention_bias", False)
    same = fields.boolean("attention_k_eq_v", False)
    wide, heads = _global(fields, core, without(core.layers, sliding), same=same)
    local = Heads(
        sliding,
        core.heads,
        core.kv_heads,
        core.head_dim,
        core.head_dim,
        qkv_bias=bias,
        output_bias=bias,
        norms="head",
        window=fields.integer("sliding_window", 512),
    )
    full = replace(
        local,
        places=without(core.layers, sliding),
        kv_heads=heads,
        key_dim=wide,
        value_dim=wide,
        shared_key=same,
        window=None,
    )
    double = fields.boolean("use_double_wide_mlp", False) and shared_count > 0
    narrow = everywhere(shared) if double else everywhere(core.layers)
    experts, mixture = _gemma4_experts(fields, core)
    tensors = (
        *embeddings(core),
        *_attention(core.hidden, full, shared),
        *_attention(core.hidden, local, shared),
        *network_at(core.hidden, narrow, core.intermediate),
        *network_at(core.hidden, without(core.layers, narrow), 2 * core.intermediate),
        *mixture,
        *_per_layer(core, Fields({"hidden_size_per_layer_input": 256, **fields.values}, fields.architecture)),
        vector(core.hidden, (4 + (3 if experts else 0)) * core.layers + 1),
    )
    cache = tuple(part for part in (_cached(full, shared), _cached(local, shared)) if part.layers)
    return Decoder(core, tensors, cache, experts, rotary_tables=2)


def _global(fields: Fields, core: Core, full: Places, *, same: bool) -> tuple[int, int]:
    """Return head size and KV heads of the full layers, by their own fields or by per_layer_config."""
    overrides = fields.optional_object("per_layer_config")
    first = next(
        (value for key, value in overrides.items() if natural_number(key) in full and isinstance(value, dict)),
        {},
    )
    own = Fields(first, fields.architecture)
    wide = own.integer("head_dim", fields.integer("global_head_dim", core.head_dim if overrides else 512))
    heads = fields.optional_integer("num_global_key_value_heads") if same else None
    return wide, own.integer("num_key_value_heads", heads or core.kv_heads)


def _gemma4_experts(fields: Fields, core: Core) -> tuple[Experts | None, tuple[Tensor, ...]]:
    if not fields.boolean("enable_moe_block", False):
        return None, ()
    size = first_integer(fields, "moe_intermediate_size", "expert_intermediate_size")
    experts = checked_experts(fields.integer("num_experts"), first_integer(fields, *PER_TOKEN), size, core.layers)
    everything = everywhere(core.layers)
    return experts, (
        *mixture_at(core.hidden, everything, experts),
        vector(core.hidden + experts.count, core.layers),
    )


def gemma4_multimodal(fields: Fields) -> Decoder:
    """Gemma 4 with its vision tower, if it has one. The audio tower of the small ones is left out."""
    inner = nested(fields, "text_config", kind="gemma4_text")
    tied = fields.boolean("tie_word_embeddings", inner.boolean("tie_word_embeddings", True))
    text = gemma4(Fields({**inner.values, "tie_word_embeddings": tied}, fields.architecture))
    if fields.values.get("vision_config") is None:
        return text
    vision = nested(fields, "vision_config", kind="gemma4_vision")
    width = vision.integer("hidden_size", 768)
    size, layers = vision.integer("intermediate_size", 3072), vision.integer("num_hidden_layers", 16)
    heads = vision.integer("num_attention_heads", 12)
    head = vision.integer("head_dim", width // heads)
    plain = Blocks(width, size, layers, gated=True, attention_bias=False, output_bias=False, network_bias=False)
    positions = vision.integer("position_embedding_size", 10_240)
    tensors = [
        *whole(2 * positions, width),
        *whole(width, 3 * vision.integer("patch_size", 16) ** 2),
        *blocks(plain),
        vector(head, 2 * layers),
        *whole(text.core.hidden, width),
    ]
    if vision.boolean("standardize", False):
        tensors.append(vector(width, 2))
    tower = Tower(width, size, layers, 2520, 280)
    return replace(text, tensors=(*text.tensors, *tensors), tower=tower)
