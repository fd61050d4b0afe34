"""Decoders that mix attention with layers that keep a state: one reader each, built of the same blocks."""

from __future__ import annotations

from dataclasses import replace

from llm_operator.models.decoder import Decoder
from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.fields import Fields
from llm_operator.models.known import mixers
from llm_operator.models.known.general import COUNT, PER_TOKEN, Mixture, Traits, core_of, networks_of, norms_of
from llm_operator.models.latent import deepseek_core, latent_attention, latent_cache
from llm_operator.models.layers import (
    FULL,
    RECURRENT,
    Core,
    Heads,
    Places,
    attention_at,
    checked_experts,
    embeddings,
    everywhere,
    first_integer,
    heads_of,
    kinds_of_layers,
    linear,
    mixture_at,
    network_at,
    places_of,
    sparse_places,
    stepped,
    vector,
    without,
)
from llm_operator.models.shape import Experts, Role, StateLayers, Tensor

BIAS = ("attention_bias", False)
ZAMBA_MAMBA = mixers.Mamba2(
    ("n_mamba_heads", "mamba_headdim", "mamba_ngroups", "mamba_d_state", "mamba_d_conv"),
    bias="add_bias_linear",
    out_bias="add_bias_linear",
    conv_bias="",  # there always is one, whatever use_conv_bias says
)


def _recurrent(fields: Fields, core: Core, interval: str = "") -> Places:
    """Return the layers with a state: by layer_types, or all but every `interval`-th."""
    types = kinds_of_layers(fields, core.layers, FULL | RECURRENT)
    if types is not None:
        return places_of(types, RECURRENT)
    step = fields.integer(interval, 4)
    return tuple(layer for layer in range(core.layers) if (layer + 1) % step)


def qwen3_next(fields: Fields) -> Decoder:
    """Qwen3-Next: three of four layers a gated delta rule, attention with a gate, experts in every layer."""
    mixture = Mixture(shared="shared_expert_intermediate_size", shared_gate=True, sparse=stepped)
    return _qwen(fields, Traits(head_dim=256, mixture=mixture), split=False)


def qwen3_5(fields: Fields) -> Decoder:
    """Qwen3.5 to 3.8, dense: as Qwen3-Next with an ordinary network."""
    return _qwen(fields, Traits(head_dim=256), split=True)


def qwen3_5_moe(fields: Fields) -> Decoder:
    """Qwen3.5 to 3.8 with experts in every layer."""
    mixture = Mixture(
        shared="shared_expert_intermediate_size", shared_gate=True, sparse=lambda _, layers: everywhere(layers)
    )
    return _qwen(fields, Traits(head_dim=256, mixture=mixture), split=True)


def _qwen(fields: Fields, traits: Traits, *, split: bool) -> Decoder:
    core = core_of(fields, traits)
    recurrent = _recurrent(fields, core, "full_attention_interval")
    bias = fields.boolean("attention_bias", False)
    of = replace(
        heads_of(core, without(core.layers, recurrent)),
        qkv_bias=bias,
        output_bias=bias,
        norms="head",
        double_query=fields.boolean("attn_output_gate", True),
    )
    mixed, states = mixers.gated_delta(fields, core.hidden, recurrent, split=split)
    experts, networks = networks_of(core, fields, traits)
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, of),
        *mixed,
        *networks,
        *norms_of(core, fields, traits),
    )
    return joined(core, tensors, of, states, experts, _rotary(fields, core, 0.25))


def olmo_hybrid(fields: Fields) -> Decoder:
    """OLMo Hybrid: a gated delta rule in three of four layers, norms over all heads in the others."""
    core = core_of(fields, Traits())
    recurrent = _recurrent(fields, core, "full_attention_interval")
    bias = fields.boolean("attention_bias", False)
    of = replace(heads_of(core, without(core.layers, recurrent)), qkv_bias=bias, output_bias=bias, norms="whole")
    mixed, states = mixers.gated_delta(fields, core.hidden, recurrent, split=True)
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, of),
        *mixed,
        *network_at(core.hidden, everywhere(core.layers), core.intermediate),
        vector(core.hidden, 2 * core.layers + 1),
    )
    return joined(core, tensors, of, states, None, core.head_dim)


def zamba2(fields: Fields) -> Decoder:
    """Zamba 2: Mamba 2 in every layer, and in some a block of attention and network before it that several share.

    The block reads its input beside the embedding, twice as wide; each use has a small adapter. Every use keeps a KV
    cache (vLLM 0.33.0, models/zamba2.py).
    """
    kinds = fields.strings("layers_block_type")
    layers = fields.integer("num_hidden_layers")
    listed = fields.integers("hybrid_layer_ids")
    hybrid = tuple(i for i, kind in enumerate(kinds) if kind == "hybrid") if kinds else listed
    if not hybrid or max(hybrid) >= layers:
        fields.require("layers_block_type")
        raise InvalidModelConfigError("config.json: layers_block_type names no hybrid layer, or one beyond the last")
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    wide = fields.integer("attention_hidden_size", 2 * hidden)
    head = fields.integer("attention_head_dim", wide // heads)
    core = core_of(Fields({**fields.values, "head_dim": head}, fields.architecture), Traits(tied=True))
    blocks, uses = min(fields.integer("num_mem_blocks", 1), len(hybrid)), len(hybrid)
    mamba = Fields(
        {
            "mamba_headdim": 2 * hidden // max(fields.integer("n_mamba_heads", 8), 1),
            "n_mamba_heads": 8,
            **fields.values,
        },
        fields.architecture,
    )
    mixed, states = mixers.mamba2(mamba, hidden, everywhere(layers), ZAMBA_MAMBA)
    bias, rank = fields.boolean("add_bias_linear", False), fields.integer("adapter_rank", 128)
    queries, keys = heads * head, core.kv_heads * head
    tensors = [
        *embeddings(core),
        *mixed,
        Tensor(Role.QUERY, queries, wide, blocks, module="shared_transformer.self_attn.q_proj"),
        Tensor(Role.KEY_VALUE, keys, wide, 2 * blocks, module="shared_transformer.self_attn.k_proj"),
        Tensor(Role.ATTENTION_OUTPUT, hidden, queries, blocks, module="shared_transformer.self_attn.o_proj"),
        *linear(Role.GATE_UP, core.intermediate, hidden, 2 * blocks, bias=bias),
        *linear(Role.DOWN, hidden, core.intermediate, blocks, bias=bias),
        vector(wide + hidden, blocks),
        Tensor(Role.REPLICATED, rank, hidden, uses),
        Tensor(Role.MIXER_IN, 2 * core.intermediate, rank, uses),
        Tensor(Role.REPLICATED, hidden, hidden, uses),
        vector(hidden, layers + 1),
    ]
    if fields.boolean("use_shared_attention_adapter", False):
        tensors += [Tensor(Role.REPLICATED, rank, wide, 3 * uses), Tensor(Role.MIXER_IN, wide, rank, 3 * uses)]
    return joined(core, tuple(tensors), heads_of(core, hybrid), states, None, head)


def _rotary(fields: Fields, core: Core, share: float) -> int:
    nested = Fields(fields.optional_object("rope_parameters"), fields.architecture)
    return int(core.head_dim * fields.number("partial_rotary_factor", nested.number("partial_rotary_factor", share)))


def joined(
    core: Core, tensors: tuple[Tensor, ...], of: Heads, states: StateLayers, experts: Experts | None, rotary: int
) -> Decoder:
    """Return a decoder of attention and of layers that keep a state. rotary: rotated part of a head."""
    cache = (of.cache(),) if of.places else ()
    return Decoder(core, tensors, cache, experts, rotary_dim=rotary, states=(states,) if states.layers else ())


def granite_hybrid(fields: Fields) -> Decoder:
    """Granite 4: Mamba 2 and some attention; experts and a shared network in every layer, or the latter alone."""
    core = core_of(fields, Traits())
    recurrent = _recurrent(fields, core, "attn_layer_period")
    bias = fields.boolean("attention_bias", False)
    of = replace(heads_of(core, without(core.layers, recurrent)), qkv_bias=bias, output_bias=bias)
    mixed, states = mixers.mamba2(fields, core.hidden, recurrent, mixers.Mamba2())
    count = fields.integer("num_local_experts", 0, least=0)
    experts = None
    if count:
        experts = checked_experts(count, first_integer(fields, *PER_TOKEN), core.intermediate, core.layers)
    everything = everywhere(core.layers)
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, of),
        *mixed,
        *(mixture_at(core.hidden, everything, experts) if experts else ()),
        *network_at(core.hidden, everything, fields.integer("shared_intermediate_size", 0, least=0), shared=True),
        vector(core.hidden, 2 * core.layers + 1),
    )
    rotary = core.head_dim if fields.string("position_embedding_type", "") == "rope" else 0
    return joined(core, tensors, of, states, experts, rotary)


def bamba(fields: Fields) -> Decoder:
    """Bamba: Mamba 2 with attention in the layers listed."""
    core = core_of(fields, Traits())
    attention = fields.integers("attn_layer_indices")
    recurrent = without(core.layers, attention)
    bias = fields.boolean("attention_bias", False)
    of = replace(heads_of(core, without(core.layers, recurrent)), qkv_bias=bias, output_bias=bias)
    mixed, states = mixers.mamba2(fields, core.hidden, recurrent, mixers.Mamba2())
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, of),
        *mixed,
        *network_at(core.hidden, everywhere(core.layers), core.intermediate, bias=fields.boolean("mlp_bias", False)),
        vector(core.hidden, 2 * core.layers + 1),
    )
    return joined(core, tensors, of, states, None, _rotary(fields, core, 0.5))


def falcon_h1(fields: Fields) -> Decoder:
    """Falcon-H1: attention and Mamba 2 side by side in every layer."""
    core = core_of(fields, Traits())
    everything = everywhere(core.layers)
    bias = fields.boolean("attention_bias", False)
    of = replace(heads_of(core, everything), qkv_bias=bias, output_bias=bias)
    mamba = mixers.Mamba2(norm=fields.boolean("mamba_rms_norm", False), out_bias="projectors_bias")
    mixed, states = mixers.mamba2(fields, core.hidden, everything, mamba)
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, of),
        *mixed,
        *network_at(core.hidden, everything, core.intermediate, bias=fields.boolean("mlp_bias", False)),
        vector(core.hidden, 2 * core.layers + 1),
    )
    return joined(core, tensors, of, states, None, core.head_dim)


def jamba(fields: Fields) -> Decoder:
    """Jamba: Mamba 1, attention every eighth layer, experts in every second."""
    core = core_of(fields, Traits())
    period, offset = fields.integer("attn_layer_period", 8), fields.integer("attn_layer_offset", 4, least=0)
    attention = tuple(layer for layer in range(core.layers) if layer % period == offset)
    of = heads_of(core, attention)
    mixed, states = mixers.mamba1(fields, core.hidden, without(core.layers, attention), norms=True)
    period, offset = fields.integer("expert_layer_period", 2), fields.integer("expert_layer_offset", 1, least=0)
    count = first_integer(fields, *COUNT)
    sparse = tuple(layer for layer in range(core.layers) if layer % period == offset and count > 1)
    experts = checked_experts(count, first_integer(fields, *PER_TOKEN), core.intermediate, len(sparse))
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, of),
        *mixed,
        *mixture_at(core.hidden, sparse, experts),
        *network_at(core.hidden, without(core.layers, sparse), core.intermediate),
        vector(core.hidden, 2 * core.layers + 1),
    )
    return joined(core, tensors, of, states, experts if sparse else None, 0)


def lfm2(fields: Fields) -> Decoder:
    """LFM2: short convolutions and some attention; a network whose width follows from three fields."""
    width = first_integer(fields, "intermediate_size", "block_ff_dim")
    core = core_of(Fields({**fields.values, "intermediate_size": width}, fields.architecture), Traits(tied=True))
    core = replace(core, tied=fields.boolean("tie_word_embeddings", fields.boolean("tie_embedding", True)))
    attention = fields.integers("full_attn_idxs")
    types = kinds_of_layers(fields, core.layers, FULL | RECURRENT)
    recurrent = places_of(types, RECURRENT) if types is not None else without(core.layers, attention)
    of = replace(heads_of(core, without(core.layers, recurrent)), norms="head")
    mixed, states = mixers.short_convolution(fields, core.hidden, recurrent)
    experts, networks = _lfm2_networks(fields, core)
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, of),
        *mixed,
        *networks,
        vector(core.hidden, 2 * core.layers + 1),
    )
    return joined(core, tensors, of, states, experts, core.head_dim)


def _lfm2_networks(fields: Fields, core: Core) -> tuple[Experts | None, tuple[Tensor, ...]]:
    if fields.values.get("num_experts") is not None and fields.values.get("moe_intermediate_size") is not None:
        return networks_of(core, fields, Traits(mixture=Mixture(router_bias=False)))
    size = core.intermediate
    if fields.boolean("block_auto_adjust_ff_dim", True):
        size = int(2 * size / 3)
        multiplier = fields.number("block_ffn_dim_multiplier", 1.0)
        size = int(multiplier * size)
        multiple = fields.integer("block_multiple_of", 256)
        size = multiple * -(-size // multiple)
    return None, tuple(network_at(core.hidden, everywhere(core.layers), size))


def minimax(fields: Fields) -> Decoder:
    """MiniMax-Text-01 and M1: linear attention with decay, some full attention, experts in every layer."""
    core = core_of(fields, Traits())
    types = fields.integers("attn_type_list")
    named = kinds_of_layers(fields, core.layers, FULL | RECURRENT)
    if named is not None:
        recurrent = places_of(named, RECURRENT)
    else:
        recurrent = tuple(layer for layer, kind in enumerate(types[: core.layers]) if kind == 0)
    of = heads_of(core, without(core.layers, recurrent))
    mixed, states = mixers.lightning(fields, core.hidden, recurrent, core.heads, core.head_dim)
    experts = checked_experts(
        first_integer(fields, *COUNT), first_integer(fields, *PER_TOKEN), core.intermediate, core.layers
    )
    everything = everywhere(core.layers)
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, of),
        *mixed,
        *mixture_at(core.hidden, everything, experts),
        vector(core.hidden, 2 * core.layers + 1),
    )
    return joined(core, tensors, of, states, experts, _rotary(fields, core, 1.0))


def kimi_linear(fields: Fields) -> Decoder:
    """Kimi Linear: delta attention, latent attention without rope in every fourth layer, experts."""
    core, latent = deepseek_core(fields)
    core = replace(core, tied=False)
    nested = Fields(fields.optional_object("linear_attn_config"), fields.architecture)
    types = kinds_of_layers(fields, core.layers, FULL | RECURRENT)
    # The first layer is 1 in kda_layers.
    listed = tuple(layer - 1 for layer in nested.integers("kda_layers"))
    recurrent = places_of(types, RECURRENT) if types is not None else listed
    full = without(core.layers, recurrent)
    mixed, states = mixers.delta_attention(fields, core.hidden, recurrent)
    sparse = sparse_places(fields, core.layers)
    size = fields.integer("moe_intermediate_size")
    experts = checked_experts(first_integer(fields, *COUNT), first_integer(fields, *PER_TOKEN), size, len(sparse))
    shared = size * fields.integer("num_shared_experts", 1, least=0)
    tensors = (
        *embeddings(core),
        *latent_attention(core, latent, full, bias=fields.boolean("attention_bias", False)),
        *mixed,
        *mixture_at(core.hidden, sparse, experts),
        *network_at(core.hidden, sparse, shared, shared=True),
        *network_at(core.hidden, without(core.layers, sparse), core.intermediate),
        vector(core.hidden, 2 * core.layers + 1),
    )
    cache = (latent_cache(latent, len(full)),) if full else ()
    return Decoder(core, tensors, cache, experts, rotary_dim=latent.rope, states=(states,) if states.layers else ())
