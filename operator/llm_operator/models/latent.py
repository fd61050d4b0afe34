"""Decoders with multi-head latent attention: DeepSeek V2 to V3.2, GLM-4.7-Flash and 5, Kimi K2, Mistral 4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from llm_operator.models.decoder import Decoder
from llm_operator.models.fields import Fields
from llm_operator.models.layers import (
    Core,
    Places,
    checked,
    checked_experts,
    embeddings,
    everywhere,
    first_integer,
    linear,
    mixture_at,
    network_at,
    places_of,
    sparse_places,
    vector,
    without,
)
from llm_operator.models.shape import AttentionKind, AttentionLayers, Experts, Role, Tensor


@dataclass(frozen=True, slots=True)
class Latent:
    """Sizes of latent attention. query_rank None: queries come straight from the hidden state."""

    query_rank: int | None
    rank: int
    rope: int
    nope: int
    value: int


def deepseek(fields: Fields) -> Decoder:
    """DeepSeek V2 to V3.2: latent attention, routed and shared experts after some dense layers; sometimes an indexer.

    The multi-token-prediction layer of V3's files is not part of the decoder: neither transformers nor the engines'
    ordinary serving load it.
    """
    core, latent = deepseek_core(fields)
    sparse = sparse_places(fields, core.layers) if fields.optional_integer("n_routed_experts") is not None else ()
    experts = None
    if sparse:
        fields.require("num_experts_per_tok", "moe_intermediate_size")
        size, taken = fields.integer("moe_intermediate_size"), fields.integer("num_experts_per_tok")
        experts = checked_experts(fields.integer("n_routed_experts"), taken, size, len(sparse))
    indexed = _indexed(core, fields)
    tensors = (
        *embeddings(core),
        *latent_attention(core, latent, everywhere(core.layers), bias=fields.boolean("attention_bias", False)),
        *_indexer(core, fields, latent, len(indexed)),
        *_feed_forward(core, experts, sparse, fields),
        vector(core.hidden, 2 * core.layers + 1),
    )
    cache = [latent_cache(latent, core.layers)]
    if indexed:
        width = fields.integer("index_head_dim")
        # One byte an element and a scale of 32 bits for every 128 (vLLM 0.33.0, models/deepseek_v2.py, Indexer).
        cache.append(AttentionLayers(AttentionKind.INDEX, len(indexed), 1, width + width // 128 * 4, 0))
    return Decoder(core, tensors, tuple(cache), experts, rotary_dim=latent.rope)


def deepseek_core(fields: Fields) -> tuple[Core, Latent]:
    """Return the sizes of a decoder with latent attention."""
    fields.require("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads")
    fields.require("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
    latent = Latent(
        query_rank=fields.optional_integer("q_lora_rank"),
        rank=fields.integer("kv_lora_rank"),
        rope=fields.integer("qk_rope_head_dim"),
        nope=fields.integer("qk_nope_head_dim"),
        value=fields.integer("v_head_dim"),
    )
    heads = fields.integer("num_attention_heads")
    core = checked(
        Core(
            layers=fields.integer("num_hidden_layers"),
            hidden=fields.integer("hidden_size"),
            intermediate=fields.integer("intermediate_size"),
            vocabulary=fields.integer("vocab_size"),
            heads=heads,
            kv_heads=heads,
            head_dim=latent.nope + latent.rope,
            tied=fields.boolean("tie_word_embeddings", False),
            context=first_integer(fields, "max_position_embeddings", "model_max_length"),
        )
    )
    return core, latent


def _indexed(core: Core, fields: Fields) -> Places:
    """Return the layers with their own indexer: DeepSeek V3.2's sparse attention; GLM-5 shares some."""
    if fields.optional_integer("index_n_heads") is None:
        return ()
    types = fields.strings("indexer_types")
    return places_of(types, frozenset({"full"})) if types else everywhere(core.layers)


def _indexer(core: Core, fields: Fields, latent: Latent, layers: int) -> Iterator[Tensor]:
    """Yield the indexers' tensors, which every rank keeps whole."""
    if not layers:
        return
    fields.require("index_head_dim", "q_lora_rank")
    heads, width = fields.integer("index_n_heads"), fields.integer("index_head_dim")
    yield Tensor(Role.REPLICATED, heads * width, latent.query_rank or core.hidden, layers)
    yield Tensor(Role.REPLICATED, width, core.hidden, layers)
    yield Tensor(Role.REPLICATED, heads, core.hidden, layers)
    yield vector(width, 2 * layers)


def latent_cache(latent: Latent, layers: int) -> AttentionLayers:
    """Return what `layers` layers keep of a token: one latent for all heads."""
    return AttentionLayers(AttentionKind.LATENT, layers, 1, latent.rank + latent.rope, 0)


def latent_attention(core: Core, latent: Latent, places: Places, *, bias: bool) -> Iterator[Tensor]:
    """Yield the tensors of latent attention of the layers in `places`."""
    for piece in _latent_tensors(core, latent, len(places), bias=bias):
        yield replace(piece, places=places)


def _latent_tensors(core: Core, latent: Latent, layers: int, *, bias: bool) -> Iterator[Tensor]:
    if not layers:
        return
    queries = core.heads * (latent.nope + latent.rope)
    if latent.query_rank is None:
        yield Tensor(Role.LATENT_QUERY, queries, core.hidden, layers)
    else:
        yield from linear(Role.LATENT_DOWN, latent.query_rank, core.hidden, layers, bias=bias)
        yield vector(latent.query_rank, layers)
        yield Tensor(Role.LATENT_QUERY, queries, latent.query_rank, layers)
    yield from linear(Role.LATENT_DOWN, latent.rank + latent.rope, core.hidden, layers, bias=bias)
    yield vector(latent.rank, layers)
    yield Tensor(Role.LATENT_KEY_VALUE, core.heads * (latent.nope + latent.value), latent.rank, layers)
    yield from linear(Role.ATTENTION_OUTPUT, core.hidden, core.heads * latent.value, layers, bias=bias)


def _feed_forward(core: Core, experts: Experts | None, sparse: Places, fields: Fields) -> Iterator[Tensor]:
    # Only the oldest of these classes reads mlp_bias; later files carry the field all the same.
    bias = fields.architecture == "DeepseekV2ForCausalLM" and fields.boolean("mlp_bias", False)
    if experts is not None:
        shared = fields.integer("n_shared_experts", 0, least=0) * experts.intermediate_size
        yield from mixture_at(core.hidden, sparse, experts)
        yield from network_at(core.hidden, sparse, shared, bias=bias, shared=True)
    yield from network_at(core.hidden, without(core.layers, sparse), core.intermediate, bias=bias)
