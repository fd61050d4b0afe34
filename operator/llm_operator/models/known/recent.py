"""Decoders of 2025 and 2026 that no row describes: Step 3.5, Laguna, LongCat, MiniCPM 3, A.X K1, DeepSeek V4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from llm_operator.foreign import natural_number
from llm_operator.models.decoder import Decoder
from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.fields import Fields, Json
from llm_operator.models.known.general import COUNT, PER_TOKEN, Traits, core_of
from llm_operator.models.latent import deepseek, deepseek_core, latent_attention, latent_cache
from llm_operator.models.layers import (
    FULL,
    SLIDING,
    Heads,
    Places,
    attention_at,
    checked_experts,
    embeddings,
    everywhere,
    first_integer,
    kinds_of_layers,
    mixture_at,
    network_at,
    places_of,
    sparse_places,
    vector,
    without,
)
from llm_operator.models.shape import (
    AttentionKind,
    AttentionLayers,
    CheckpointQuantization,
    CompressedLayers,
    Role,
    Tensor,
    Tower,
)

UNREAD_TOWER = Tower(1152, 4608, 27, 16_384, 4096)
"""An encoder that was not read: it works on as much as Qwen's."""
MXFP4 = CheckpointQuantization("mxfp4", 4, 32, scale_bits=8)


def _gated(hidden: int, of: Heads, rows: int) -> Iterator[Tensor]:
    """Yield the projection of an output gate with `rows` numbers a token."""
    if of.places:
        yield Tensor(Role.QUERY, rows, hidden, len(of.places), module="self_attn.g_proj", places=of.places)


def _by_heads(counts: Sequence[int], places: Places, of: Heads) -> list[Heads]:
    """Return attention of `places`, one entry for each number of heads that they have."""
    return [
        replace(of, places=tuple(layer for layer in places if counts[layer] == heads), heads=heads)
        for heads in sorted({counts[layer] for layer in places})
    ]


def _checked(heads: int, groups: int) -> int:
    if heads % groups:
        raise InvalidModelConfigError(f"config.json: {heads} attention heads cannot share {groups} KV heads")
    return heads


def step3p5(fields: Fields) -> Decoder:
    """Step 3.5: windows with more heads than the full layers, one gate a head, experts after the first layers.

    vLLM 0.33.0, models/step3p5.py. layer_types also lists the layers for speculative decoding, which are cut off.
    """
    layers = fields.integer("num_hidden_layers")
    groups = fields.integer("num_attention_groups")
    values: dict[str, Json] = {
        **fields.values,
        "num_key_value_heads": groups,
        "layer_types": list(fields.strings("layer_types")[:layers]),
        "max_position_embeddings": first_integer(fields, "max_position_embeddings", "max_seq_len"),
    }
    named = Fields(values, fields.architecture)
    core = core_of(named, Traits())
    types = kinds_of_layers(named, layers, FULL | SLIDING) or ("full_attention",) * layers
    other = Fields(fields.optional_object("attention_other_setting"), fields.architecture)
    wide = fields.integer("num_sliding_attention_heads", other.integer("num_attention_heads", core.heads))
    norms, bias = "head", fields.boolean("attention_bias", False)
    full = Heads(places_of(types, FULL), core.heads, groups, core.head_dim, core.head_dim, qkv_bias=bias, norms=norms)
    window = fields.integer("sliding_window", 512)
    local = replace(full, places=places_of(types, SLIDING), heads=_checked(wide, groups), window=window)
    sparse = _step_sparse(fields, layers)
    experts = checked_experts(
        first_integer(fields, *COUNT),
        first_integer(fields, *PER_TOKEN),
        fields.integer("moe_intermediate_size"),
        len(sparse),
    )
    gate = fields.boolean("use_head_wise_attn_gate", False)
    tensors = (
        *embeddings(core),
        *(
            piece
            for of in (full, local)
            for piece in (*attention_at(core.hidden, of), *(_gated(core.hidden, of, of.heads) if gate else ()))
        ),
        *mixture_at(core.hidden, sparse, experts, router_bias=fields.boolean("use_moe_router_bias", True)),
        *network_at(core.hidden, sparse, fields.integer("share_expert_dim", 0, least=0), shared=True),
        *network_at(core.hidden, without(layers, sparse), core.intermediate),
        vector(core.hidden, 2 * layers + 1),
    )
    cache = tuple(of.cache() for of in (full, local) if of.places)
    return Decoder(core, tensors, cache, experts if sparse else None, rotary_tables=2)


def _step_sparse(fields: Fields, layers: int) -> Places:
    """Return Step's layers with experts: `moe_layers_enum` lists them in a string."""
    if fields.values.get("mlp_layer_types") is not None:
        return tuple(layer for layer, kind in enumerate(fields.strings("mlp_layer_types")[:layers]) if kind == "sparse")
    listed = fields.string("moe_layers_enum", "")
    if not listed:
        return tuple(range(1, layers))
    numbers = [natural_number(part.strip()) for part in listed.split(",")]
    if None in numbers:
        raise InvalidModelConfigError(f"config.json: moe_layers_enum is {listed[:60]!r}; expected numbers and commas")
    return tuple(sorted({number for number in numbers if number is not None and number < layers}))


def laguna(fields: Fields) -> Decoder:
    """Laguna: a number of heads for each layer, windows, a gate of the output, experts and a shared one."""
    core = core_of(fields, Traits(head_dim=128))
    counts = fields.integers("num_attention_heads_per_layer") or (core.heads,) * core.layers
    if len(counts) != core.layers:
        raise InvalidModelConfigError(f"config.json: num_attention_heads_per_layer has not {core.layers} entries")
    for heads in counts:
        _checked(heads, core.kv_heads)
    types = kinds_of_layers(fields, core.layers, FULL | SLIDING) or ("full_attention",) * core.layers
    bias = fields.boolean("attention_bias", False)
    of = Heads(
        (), core.heads, core.kv_heads, core.head_dim, core.head_dim, qkv_bias=bias, output_bias=bias, norms="head"
    )
    local = replace(of, window=fields.integer("sliding_window", 512))
    full_parts = _by_heads(counts, places_of(types, FULL), of)
    parts = [*full_parts, *_by_heads(counts, places_of(types, SLIDING), local)]
    each = fields.values.get("gating", True) in (True, "per-head")
    dense = fields.integers("mlp_only_layers")
    sparse = (
        sparse_places(fields, core.layers)
        if fields.values.get("mlp_layer_types")
        else without(core.layers, dense or (0,))
    )
    experts = checked_experts(
        first_integer(fields, *COUNT),
        first_integer(fields, *PER_TOKEN),
        fields.integer("moe_intermediate_size"),
        len(sparse),
    )
    tensors = (
        *embeddings(core),
        *(
            piece
            for part in parts
            for piece in (
                *attention_at(core.hidden, part),
                *_gated(core.hidden, part, part.heads * (1 if each else part.key_dim)),
            )
        ),
        *mixture_at(core.hidden, sparse, experts, router_bias=True),
        *network_at(core.hidden, sparse, fields.integer("shared_expert_intermediate_size", 0, least=0), shared=True),
        *network_at(core.hidden, without(core.layers, sparse), core.intermediate),
        vector(core.hidden, 2 * core.layers + 1),
    )
    return Decoder(core, tensors, _merged(parts), experts if sparse else None, rotary_tables=2)


def _merged(parts: Sequence[Heads]) -> tuple[AttentionLayers, ...]:
    """Return what the layers keep, one entry for each kind of cache."""
    found: dict[AttentionLayers, int] = {}
    for part in parts:
        if part.places:
            kind = replace(part.cache(), layers=0)
            found[kind] = found.get(kind, 0) + len(part.places)
    return tuple(replace(kind, layers=layers) for kind, layers in found.items())


def longcat(fields: Fields) -> Decoder:
    """LongCat-Flash: two latent attentions and two dense networks in each layer, experts beside them.

    Experts that hand on their input have no weights, only rows of the router (vLLM 0.33.0, models/longcat_flash.py).
    """
    layers = first_integer(fields, "num_layers", "num_hidden_layers")
    values = {
        **fields.values,
        "num_hidden_layers": 2 * layers,
        "intermediate_size": first_integer(fields, "ffn_hidden_size", "intermediate_size"),
    }
    core, latent = deepseek_core(Fields(values, fields.architecture))
    size = first_integer(fields, "expert_ffn_hidden_size", "moe_intermediate_size")
    experts = checked_experts(first_integer(fields, *COUNT), first_integer(fields, *PER_TOKEN), size, layers)
    sparse = tuple(range(0, 2 * layers, 2))
    empty = fields.integer("zero_expert_num", 0, least=0)
    tensors = [
        *embeddings(core),
        *latent_attention(core, latent, everywhere(core.layers), bias=fields.boolean("attention_bias", False)),
        *mixture_at(core.hidden, sparse, experts),
        *network_at(core.hidden, everywhere(core.layers), core.intermediate),
        vector(core.hidden, 2 * core.layers + 1),
    ]
    if empty:
        tensors.append(Tensor(Role.ROUTER, empty, core.hidden, layers, linear=False))
    return Decoder(core, tuple(tensors), (latent_cache(latent, core.layers),), experts, rotary_dim=latent.rope)


def minicpm3(fields: Fields) -> Decoder:
    """MiniCPM 3: projections by way of latents, but keys and values of every head in the cache.

    Values are padded to the size of keys (vLLM 0.33.0, models/minicpm3.py; LMDeploy 0.18.0, configurations/minicpm3).
    """
    core, latent = deepseek_core(fields)
    tied = fields.boolean("tie_word_embeddings", True)
    core = replace(core, tied=tied)
    attention = [
        replace(piece, role=Role.MIXER_IN, module="self_attn.kv_b_proj")
        if piece.role is Role.LATENT_KEY_VALUE
        else piece
        for piece in latent_attention(
            core, latent, everywhere(core.layers), bias=fields.boolean("attention_bias", False)
        )
    ]
    tensors = (
        *embeddings(core),
        *attention,
        *network_at(core.hidden, everywhere(core.layers), core.intermediate, bias=fields.boolean("mlp_bias", False)),
        vector(core.hidden, 2 * core.layers + 1),
    )
    cache = AttentionLayers(AttentionKind.FULL, core.layers, core.heads, core.head_dim, core.head_dim)
    return Decoder(core, tensors, (cache,), rotary_dim=latent.rope)


def axk1(fields: Fields) -> Decoder:
    """A.X K1: DeepSeek V3's layers with a norm after the experts."""
    found = deepseek(fields)
    layers = found.experts.layers if found.experts else 0
    return replace(found, tensors=(*found.tensors, vector(found.core.hidden, layers))) if layers else found


def deepseek_v4(fields: Fields) -> Decoder:
    """DeepSeek V4: one shared key and value, a window and compressed caches, four residual streams.

    transformers 5.20.2, models/deepseek_v4; published files keep experts in four bits (`expert_dtype`).
    """
    fields.require("head_dim", "q_lora_rank", "num_hidden_layers", "hidden_size", "moe_intermediate_size")
    size = fields.integer("moe_intermediate_size")
    core = core_of(Fields({**fields.values, "intermediate_size": size}, fields.architecture), Traits())
    layers, hidden, rank, width = core.layers, core.hidden, fields.integer("q_lora_rank"), core.head_dim
    groups, out = fields.integer("o_groups", 8), fields.integer("o_lora_rank", 1024)
    sparse, heavy = _compressed(fields, layers)
    everything = everywhere(layers)
    experts = checked_experts(first_integer(fields, *COUNT), first_integer(fields, *PER_TOKEN), size, layers)
    four = MXFP4 if fields.string("expert_dtype", "") == "fp4" else None
    shared = size * fields.integer("n_shared_experts", 1, least=0)
    streams = fields.integer("hc_mult", 4)
    mixed = (2 + streams) * streams
    index_heads, index_width = fields.integer("index_n_heads", 64), fields.integer("index_head_dim", 128)
    attention = (
        Tensor(Role.LATENT_DOWN, rank, hidden, layers),
        Tensor(Role.LATENT_QUERY, core.heads * width, rank, layers),
        Tensor(Role.REPLICATED, width, hidden, layers),
        Tensor(
            Role.MIXER_IN,
            groups * out,
            core.heads * width // groups,
            layers,
            module="self_attn.o_a_proj",
            places=everything,
        ),
        Tensor(Role.ATTENTION_OUTPUT, hidden, groups * out, layers),
        vector(core.heads + rank + width, layers),
        *_compressor(hidden, 2 * width, width, sparse),
        *_compressor(hidden, width, width, heavy),
        *_compressor(hidden, 2 * index_width, index_width, sparse),
    )
    index = (
        Tensor(Role.REPLICATED, index_heads * index_width, rank, len(sparse)),
        Tensor(Role.REPLICATED, index_heads, hidden, len(sparse)),
    )
    tensors = (
        *embeddings(core),
        *attention,
        *(index if sparse else ()),
        *(replace(piece, how=four) if piece.linear else piece for piece in mixture_at(hidden, everything, experts)),
        *network_at(hidden, everything, shared, bias=fields.boolean("mlp_bias", False), shared=True),
        vector(hidden, 2 * layers + 1),
        vector(mixed * streams * hidden + mixed + 3, 2 * layers),
        vector(streams * streams * hidden + streams + 1, 1),
    )
    window = fields.integer("sliding_window", 128)
    kept = (
        CompressedLayers(layers - len(sparse) - len(heavy), width, window),
        *(
            CompressedLayers(len(each), width, window, rate, index_width, overlap=True)
            for rate, each in _by_rate(sparse).items()
        ),
        *(CompressedLayers(len(each), width, window, rate) for rate, each in _by_rate(heavy).items()),
    )
    compressed = tuple(group for group in kept if group.layers)
    rotary = fields.integer("qk_rope_head_dim", 64)
    # vLLM 0.33.0 takes the class with an encoder for such a file (transformers_utils/model_arch_config_convertor.py).
    sees = fields.integer("vision_n_layers", 0, least=0) > 0
    found = Decoder(core, tensors, (), experts, rotary_dim=rotary, compressed=compressed, streams=streams)
    return replace(found, tower=UNREAD_TOWER, tower_by_files=True) if sees else found


def _by_rate(rates: Mapping[int, int]) -> dict[int, list[int]]:
    """Return the layers of each rate. rates: layer -> tokens that become one."""
    return {rate: [layer for layer, each in rates.items() if each == rate] for rate in sorted(set(rates.values()))}


def _compressor(hidden: int, rows: int, width: int, rates: Mapping[int, int]) -> Iterator[Tensor]:
    """Yield the compressors of some layers, which every rank keeps. rates: layer -> tokens that become one."""
    if rates:
        yield Tensor(Role.REPLICATED, rows, hidden, 2 * len(rates))
        yield vector(width, len(rates))
        for rate in sorted(set(rates.values())):
            yield vector(rate * rows, sum(1 for each in rates.values() if each == rate))


def _compressed(fields: Fields, layers: int) -> tuple[dict[int, int], dict[int, int]]:
    """Return the layers of compressed sparse attention and of the heavily compressed one, with their rates."""
    named = fields.strings("layer_types")
    numbers = fields.integers("compress_ratios")
    rates = Fields(fields.optional_object("compress_rates"), fields.architecture)
    kinds = {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128, "sliding_attention": 0}
    if named:
        if not set(named) <= set(kinds):
            raise InvalidModelConfigError("config.json: layer_types of a DeepSeek V4 has unknown kinds")
        found = [rates.integer(kind, kinds[kind], least=0) for kind in named[:layers]]
        sparse = [kind == "compressed_sparse_attention" for kind in named[:layers]]
    else:
        found = list(numbers[:layers]) or [128 if layer < 2 or layer % 2 == 0 else 4 for layer in range(layers)]
        sparse = [rate == 4 for rate in found]
    if len(found) != layers:
        raise InvalidModelConfigError(f"config.json: {len(found)} kinds of layers for {layers} layers")
    both = list(zip(found, sparse, strict=True))
    return (
        {layer: rate for layer, (rate, is_sparse) in enumerate(both) if rate and is_sparse},
        {layer: rate for layer, (rate, is_sparse) in enumerate(both) if rate and not is_sparse},
    )


RECENT = MappingProxyType(
    {
        "AXK1ForCausalLM": ("AXK1", axk1),
        "DeepseekV4ForCausalLM": ("DeepSeek", deepseek_v4),
        "LagunaForCausalLM": ("Laguna", laguna),
        "LongcatFlashForCausalLM": ("LongCat", longcat),
        "MiniCPM3ForCausalLM": ("MiniCPM", minicpm3),
        "Step3p5ForCausalLM": ("Step", step3p5),
        "YoutuForCausalLM": ("DeepSeek", deepseek),
    }
)
