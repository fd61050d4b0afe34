"""Decoders that no row describes: layers of unequal heads or widths, and networks that alternate."""

from __future__ import annotations

from dataclasses import replace

from llm_operator.models.decoder import Decoder
from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.fields import Fields
from llm_operator.models.known.general import COUNT, PER_TOKEN, Traits, core_of
from llm_operator.models.layers import (
    CHUNKED,
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
    heads_of,
    kinds_of_layers,
    mixture_at,
    network_at,
    places_of,
    sparse_places,
    vector,
    without,
)
from llm_operator.models.shape import Experts, Role, Tensor


def llama4(fields: Fields) -> Decoder:
    """Llama 4 (text): experts and a shared one in some layers, wider networks in the others, chunked attention."""
    core = core_of(fields, Traits())
    listed = fields.integers("moe_layers")
    step = fields.integer("interleave_moe_layer_step", 1)
    sparse: Places = listed or tuple(range(step - 1, core.layers, step))
    bias = fields.boolean("attention_bias", False)
    chunk = fields.optional_integer("attention_chunk_size")
    types = kinds_of_layers(fields, core.layers, FULL | CHUNKED)
    interval = fields.integer("no_rope_layer_interval", 4)
    local = (
        places_of(types, CHUNKED) if types is not None else tuple(i for i in range(core.layers) if (i + 1) % interval)
    )
    parts = (
        replace(heads_of(core, without(core.layers, local if chunk else ())), qkv_bias=bias, output_bias=bias),
        replace(heads_of(core, local if chunk else (), window=chunk), qkv_bias=bias, output_bias=bias),
    )
    experts = checked_experts(
        first_integer(fields, *COUNT), first_integer(fields, *PER_TOKEN), core.intermediate, len(sparse)
    )
    tensors = (
        *embeddings(core),
        *(piece for part in parts for piece in attention_at(core.hidden, part)),
        *mixture_at(core.hidden, sparse, experts),
        *network_at(core.hidden, sparse, core.intermediate, shared=True),
        *network_at(
            core.hidden, without(core.layers, sparse), fields.integer("intermediate_size_mlp", core.intermediate)
        ),
        vector(core.hidden, 2 * core.layers + 1),
    )
    cache = tuple(part.cache() for part in parts if part.places)
    return Decoder(core, tensors, cache, experts if sparse else None)


def mimo_v2(fields: Fields) -> Decoder:
    """MiMo-V2-Flash: windows with more KV heads than the full layers, values narrower than keys, sinks, experts."""
    core = core_of(fields, Traits())
    types = kinds_of_layers(fields, core.layers, FULL | SLIDING)
    pattern = fields.integers("hybrid_layer_pattern")
    if types is not None:
        sliding = places_of(types, SLIDING)
    else:
        sliding = tuple(layer for layer, kind in enumerate(pattern[: core.layers]) if kind)
    value = fields.integer("v_head_dim", core.head_dim)
    bias = fields.boolean("attention_bias", False)
    full = Heads(
        without(core.layers, sliding),
        core.heads,
        core.kv_heads,
        core.head_dim,
        value,
        qkv_bias=bias,
        sinks=fields.boolean("add_full_attention_sink_bias", False),
    )
    local = Heads(
        sliding,
        fields.integer("swa_num_attention_heads", core.heads),
        fields.integer("swa_num_key_value_heads", 2 * core.kv_heads),
        fields.integer("swa_head_dim", core.head_dim),
        fields.integer("swa_v_head_dim", value),
        qkv_bias=bias,
        sinks=fields.boolean("add_swa_attention_sink_bias", True),
        window=fields.integer("sliding_window", fields.integer("sliding_window_size", 128)),
    )
    sparse = sparse_places(fields, core.layers)
    experts, mixture = _experts(fields, core, sparse)
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, full),
        *attention_at(core.hidden, local),
        *mixture,
        *network_at(core.hidden, without(core.layers, sparse), core.intermediate),
        vector(core.hidden, 2 * core.layers + 1),
    )
    cache = tuple(part.cache() for part in (full, local) if part.places)
    rotary = int(core.head_dim * fields.number("partial_rotary_factor", 0.334))
    return Decoder(core, tensors, cache, experts, rotary_dim=rotary, rotary_tables=2)


def _experts(fields: Fields, core: Core, sparse: Places) -> tuple[Experts | None, tuple[Tensor, ...]]:
    if not sparse:
        return None, ()
    size = first_integer(fields, "moe_intermediate_size")
    experts = checked_experts(first_integer(fields, *COUNT), first_integer(fields, *PER_TOKEN), size, len(sparse))
    shared = size * fields.integer("n_shared_experts", 0, least=0)
    return experts, (
        *mixture_at(core.hidden, sparse, experts),
        *network_at(core.hidden, sparse, shared, shared=True),
    )


def hunyuan_moe(fields: Fields) -> Decoder:
    """HunYuan-A13B: experts and shared networks in every layer; numbers may stand once per layer."""
    core = core_of(fields, Traits())
    bias = fields.boolean("attention_bias", False)
    norms = "head" if fields.boolean("use_qk_norm", True) else ""
    of = replace(heads_of(core, everywhere(core.layers)), qkv_bias=bias, output_bias=bias, norms=norms)
    size = _uniform(fields, "moe_intermediate_size", core.intermediate)
    count, taken = first_integer(fields, *COUNT), _uniform(fields, "moe_topk", 0) or first_integer(fields, *PER_TOKEN)
    experts = checked_experts(count, taken, size, core.layers)
    shared = _uniform(fields, "num_shared_expert", 1) * core.intermediate
    everything = everywhere(core.layers)
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, of),
        *mixture_at(core.hidden, everything, experts),
        *network_at(core.hidden, everything, shared, shared=True),
        vector(core.hidden, 2 * core.layers + 1),
    )
    return Decoder(core, tensors, (of.cache(),), experts)


def _uniform(fields: Fields, name: str, default: int) -> int:
    """Return a number that may be a list of equal ones. Raises InvalidModelConfigError where they differ."""
    value = fields.values.get(name)
    if not isinstance(value, list):
        return fields.integer(name, default)
    found = set(fields.integers(name))
    if len(found) != 1:
        raise InvalidModelConfigError(f"config.json: {name} differs between layers; expected one number")
    return found.pop()


def falcon(fields: Fields) -> Decoder:
    """Falcon 1 to 40B: one or two norms before attention and network side by side, one packed projection."""
    heads = first_integer(fields, "num_attention_heads", "n_head")
    new = fields.boolean("new_decoder_architecture", False)
    old = 1 if fields.boolean("multi_query", True) else heads
    groups = fields.integer("num_kv_heads", heads) if new else old
    hidden = fields.integer("hidden_size")
    values = {
        **fields.values,
        "num_attention_heads": heads,
        "num_hidden_layers": first_integer(fields, "num_hidden_layers", "n_layer"),
        "num_key_value_heads": groups,
        "intermediate_size": fields.integer("ffn_hidden_size", 4 * hidden),
        "max_position_embeddings": fields.integer("max_position_embeddings", 2048),
    }
    core = core_of(Fields(values, fields.architecture), Traits(tied=True))
    bias = fields.boolean("bias", False)
    parallel = fields.boolean("parallel_attn", True)
    two = (new and fields.integer("num_ln_in_parallel_attn", 2) == 2) or not (new or parallel)
    of = replace(heads_of(core, everywhere(core.layers)), qkv_bias=bias, output_bias=bias)
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, of),
        *network_at(core.hidden, everywhere(core.layers), core.intermediate, gated=False, bias=bias),
        vector(core.hidden, 2 * ((2 if two else 1) * core.layers + 1)),
    )
    return Decoder(core, tensors, (of.cache(),))


def decilm(fields: Fields) -> Decoder:
    """Nemotron-Super and DeciLM: each layer with its own heads and width, or without attention or network."""
    blocks = fields.values.get("block_configs")
    core = core_of(
        Fields({"intermediate_size": 1, **fields.values, "num_key_value_heads": None}, fields.architecture), Traits()
    )
    if not isinstance(blocks, list) or len(blocks) != core.layers:
        fields.require("block_configs")
        raise InvalidModelConfigError(f"config.json: block_configs has not {core.layers} entries, one per layer")
    attention: dict[int, list[int]] = {}
    replaced: list[int] = []
    widths: dict[int, list[int]] = {}
    linear: list[int] = []
    for layer, block in enumerate(blocks):
        of = Fields(block if isinstance(block, dict) else {}, fields.architecture)
        own, network = of.nested("attention"), of.nested("ffn")
        if own.boolean("replace_with_linear", False):
            replaced.append(layer)
        elif not own.boolean("no_op", False):
            attention.setdefault(own.integer("n_heads_in_group"), []).append(layer)
        if network.boolean("replace_with_linear", False):
            linear.append(layer)
        elif not network.boolean("no_op", False):
            widths.setdefault(_deci_width(network, core.hidden), []).append(layer)
    parts = [
        Heads(tuple(layers), core.heads, core.heads // group, core.head_dim, core.head_dim)
        for group, layers in sorted(attention.items())
    ]
    if not parts:
        raise InvalidModelConfigError("config.json: block_configs leaves no layer with attention")
    most = max(part.kv_heads for part in parts)
    core = replace(core, kv_heads=most, intermediate=max(widths, default=1))
    tensors = [
        *embeddings(core),
        *(piece for part in parts for piece in attention_at(core.hidden, part)),
        *(piece for width, layers in sorted(widths.items()) for piece in network_at(core.hidden, tuple(layers), width)),
        vector(core.hidden, 1 + sum(len(part.places) for part in parts) + len(replaced)),
        vector(core.hidden, sum(map(len, widths.values())) + len(linear)),
    ]
    if replaced or linear:
        tensors.append(Tensor(Role.REPLICATED, core.hidden, core.hidden, len(replaced) + len(linear)))
    return Decoder(core, tuple(tensors), tuple(part.cache() for part in parts))


def _deci_width(network: Fields, hidden: int) -> int:
    """Return a network's width: two thirds of four times the hidden size, as often as given, in multiples of 256."""
    given = network.optional_integer("intermediate_size")
    if given is not None:
        return given
    width = int(2 * network.number("ffn_mult", 1.0) * hidden / 3)
    return 256 * -(-width // 256)


def ernie_vl(fields: Fields) -> Decoder:
    """ERNIE 4.5 VL (text): experts for text and, narrower, for images, and shared ones for both.

    vLLM 0.33.0, models/ernie45_vl_moe.py. Numbers stand as pairs, text first.
    """
    core = core_of(fields, Traits(tied=True))
    counts, sizes = fields.integers("moe_num_experts"), fields.integers("moe_intermediate_size")
    if len(counts) != 2 or len(sizes) != 2:
        fields.require("moe_num_experts", "moe_intermediate_size")
        raise InvalidModelConfigError("config.json: moe_num_experts and moe_intermediate_size differ in length")
    starts = fields.integers("moe_layer_start_index") or (1, 1)
    ends = fields.integers("moe_layer_end_index") or (core.layers - 1, core.layers - 1)
    bias = fields.boolean("use_bias", False)
    of = replace(heads_of(core, everywhere(core.layers)), qkv_bias=bias, output_bias=bias)
    tensors = [*embeddings(core), *attention_at(core.hidden, of), vector(core.hidden, 2 * core.layers + 1)]
    everyone: set[int] = set()
    first: Experts | None = None
    for count, size, start, end in zip(counts, sizes, starts, ends, strict=False):
        places = tuple(layer for layer in range(core.layers) if start <= layer <= end)
        experts = checked_experts(count, fields.integer("moe_k", 6), size, len(places))
        tensors += [*mixture_at(core.hidden, places, experts), vector(count, len(places))]
        everyone |= set(places)
        first = first or experts
    sparse = tuple(sorted(everyone))
    shared = sizes[0] * fields.integer("moe_num_shared_experts", 0, least=0)
    tensors += network_at(core.hidden, sparse, shared, shared=True)
    tensors += network_at(core.hidden, without(core.layers, sparse), core.intermediate)
    return Decoder(core, tuple(tensors), (of.cache(),), first)
