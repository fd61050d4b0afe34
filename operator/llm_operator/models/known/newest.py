"""Decoders that only vLLM has code for: read in its model files, held against its own models on the meta device.

Sources: vLLM 0.33.0, model_executor/models and models; tests/engines/test_vllm_models.py builds each of them there and
compares parameters, what a token and a sequence keep, and windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from llm_operator.foreign import natural_number
from llm_operator.models.decoder import Decoder
from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.fields import Fields
from llm_operator.models.known import mixers
from llm_operator.models.known.general import COUNT, PER_TOKEN, Mixture, Traits, core_of, decoder
from llm_operator.models.known.multimodal import Reader
from llm_operator.models.latent import deepseek_core, latent_attention, latent_cache
from llm_operator.models.layers import (
    CHUNKED,
    FULL,
    RECURRENT,
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
from llm_operator.models.shape import AttentionKind, AttentionLayers, Experts, Role, StateLayers, Tensor


def _listed(fields: Fields, name: str, layers: int, default: Places) -> Places:
    """Return the layers whose number in a list is not 0. Raises InvalidModelConfigError for a wrong length."""
    if fields.values.get(name) is None:
        return default
    numbers = fields.integers(name)
    if len(numbers) != layers:
        raise InvalidModelConfigError(f"config.json: {name} has {len(numbers)} entries for {layers} layers")
    return tuple(layer for layer, number in enumerate(numbers) if number)


def _routed(fields: Fields, layers: int, size: str = "moe_intermediate_size") -> Experts:
    return checked_experts(
        first_integer(fields, *COUNT), first_integer(fields, *PER_TOKEN), fields.integer(size), layers
    )


def _shared(fields: Fields, default: int) -> int:
    """Return the width of the shared experts, whose own field replaces that of the routed ones."""
    one = fields.optional_integer("moe_shared_expert_intermediate_size") or fields.integer("moe_intermediate_size")
    return one * fields.integer("num_shared_experts", default, least=0)


def _after_dense(fields: Fields, layers: int, default: int = 0) -> Places:
    """Return the layers after the first dense ones, whatever their step; `default`: dense ones if no field says."""
    return tuple(range(fields.integer("first_k_dense_replace", default, least=0), layers))


def minimax_m3(fields: Fields) -> Decoder:
    """MiniMax M3: attention that picks blocks by an indexer, whose keys are kept in 16 bit beside the others.

    models/minimax_m3: one index head a KV head, gemma's norms, experts and a shared one after some dense layers.
    """
    core = core_of(fields, Traits())
    layers = core.layers
    sparse = _listed(fields, "moe_layer_freq", layers, everywhere(layers))
    how = Fields(fields.optional_object("sparse_attention_config"), fields.architecture)
    indexed = _listed(how, "sparse_attention_freq", layers, ())
    of = replace(heads_of(core, everywhere(layers)), norms="head")
    experts = _routed(fields, len(sparse), "intermediate_size")
    shared = experts.intermediate_size * fields.integer("n_shared_experts", 0, least=0)
    tensors = [
        *embeddings(core),
        *attention_at(core.hidden, of),
        *mixture_at(core.hidden, sparse, experts, router_bias=fields.boolean("use_routing_bias", False)),
        *network_at(core.hidden, sparse, shared, shared=True),
        vector(core.hidden, 2 * layers + 1),
    ]
    rest = without(layers, sparse)
    if rest:
        tensors += network_at(core.hidden, rest, fields.integer("dense_intermediate_size"))
    cache = [of.cache()]
    if indexed:
        width, heads, count = how.integer("sparse_index_dim"), how.integer("sparse_num_index_heads"), len(indexed)
        tensors += [
            Tensor(Role.KEY_VALUE, heads * width, core.hidden, count, module="self_attn.index_q_proj", heads=heads),
            Tensor(Role.REPLICATED, width, core.hidden, count, module="self_attn.index_k_proj"),
            vector(width, 2 * count),
        ]
        cache.append(AttentionLayers(AttentionKind.INDEX, count, 1, 2 * width, 0))
    rotary = int(core.head_dim * fields.number("partial_rotary_factor", 1.0))
    return Decoder(core, tuple(tensors), tuple(cache), experts if sparse else None, rotary_dim=rotary)


def kimi_k3(fields: Fields) -> Decoder:
    """Kimi K3: Kimi Linear's layers with gates as wide as the values, experts behind a latent, weighed residuals.

    models/kimi_k3/nvidia (model.py, kda.py, mla.py).
    """
    core, latent = deepseek_core(fields)
    core = replace(core, tied=False)
    nested = Fields(fields.optional_object("linear_attn_config"), fields.architecture)
    types = kinds_of_layers(fields, core.layers, FULL | RECURRENT)
    listed = {layer - 1 for layer in nested.integers("kda_layers")}
    recurrent = places_of(types, RECURRENT) if types is not None else tuple(sorted(listed & set(range(core.layers))))
    full = without(core.layers, recurrent)
    mixed, states = mixers.delta_attention(
        fields, core.hidden, recurrent, full_rank=nested.boolean("use_full_rank_gate", False)
    )
    sparse = sparse_places(fields, core.layers)
    experts = _routed(fields, len(sparse))
    shared = experts.intermediate_size * fields.integer("num_shared_experts", 0, least=0)
    width = fields.integer("routed_expert_hidden_size", 0, least=0)
    tensors = [
        *embeddings(core),
        *latent_attention(core, latent, full, bias=False),
        *mixed,
        *mixture_at(core.hidden, sparse, experts, router_bias=True, width=width),
        *network_at(core.hidden, sparse, shared, shared=True),
        *network_at(core.hidden, without(core.layers, sparse), core.intermediate),
        vector(core.hidden, 2 * core.layers + 1),
    ]
    if width and sparse:
        tensors.append(Tensor(Role.REPLICATED, width, core.hidden, 2 * len(sparse)))
        if fields.boolean("latent_moe_use_norm", False):
            tensors.append(vector(width, len(sparse)))
    if fields.boolean("mla_use_output_gate", False) and full:
        rows = core.heads * latent.value
        tensors.append(Tensor(Role.LATENT_QUERY, rows, core.hidden, len(full), module="self_attn.g_proj", places=full))
    if fields.optional_integer("attn_res_block_size") is not None:
        tensors.append(vector(core.hidden, 4 * core.layers + 2))
    cache = (latent_cache(latent, len(full)),) if full else ()
    kept = (states,) if states.layers else ()
    return Decoder(core, tuple(tensors), cache, experts, rotary_dim=latent.rope, states=kept)


def ling_linear(fields: Fields) -> Decoder:
    """Ling and Ring 2.5: linear attention with a decay for each head, latents in the last layer of each group.

    bailing_moe_linear.py, layers/mamba/linear/bailing_linear_attn.py.
    """
    sizes = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "kv_lora_rank": 512}
    core, latent = deepseek_core(Fields({**sizes, **fields.values}, fields.architecture))
    group = fields.integer("layer_group_size", 1)
    recurrent = tuple(layer for layer in range(core.layers) if (layer + 1) % group)
    full = without(core.layers, recurrent)
    width = fields.optional_integer("head_dim") or core.hidden // core.heads
    bias = fields.boolean("use_bias", False)
    mixed, states = mixers.lightning(fields, core.hidden, recurrent, core.heads, width)
    states = replace(states, recurrent_bytes=None)
    inner, count = core.heads * width, len(recurrent)
    sparse = _after_dense(fields, core.layers)
    experts = _routed(fields, len(sparse))
    tensors = [
        *embeddings(core),
        *latent_attention(core, latent, full, bias=False),
        *mixed,
        *mixture_at(core.hidden, sparse, experts, router_bias=fields.boolean("moe_router_enable_expert_bias", False)),
        *network_at(core.hidden, sparse, _shared(fields, 0), shared=True),
        *network_at(core.hidden, without(core.layers, sparse), core.intermediate),
        vector(core.hidden, 2 * core.layers + 1),
    ]
    if fields.boolean("use_qk_norm", False):
        tensors.append(vector(width, 2 * count))
    if bias or fields.boolean("use_qkv_bias", False):
        tensors.append(Tensor(Role.MIXER_IN, 3 * inner, 1, count, linear=False))
    if bias:
        tensors.append(vector(core.hidden, count))
    cache = (latent_cache(latent, len(full)),) if full else ()
    kept = (states,) if states.layers else ()
    return Decoder(core, tuple(tensors), cache, experts, rotary_dim=latent.rope, states=kept)


def ling3(fields: Fields) -> Decoder:
    """Ling 3: delta attention with gates as wide as the values, gated latents in the last layer of each group.

    bailing_moe_v3.py; layers after the last whole group are latents, too.
    """
    core, latent = deepseek_core(fields)
    layers, group = core.layers, fields.integer("layer_group_size")
    whole = layers // group * group
    recurrent = tuple(layer for layer in range(whole) if (layer + 1) % group)
    full, count = without(layers, recurrent), len(recurrent)
    width, kernel = fields.integer("head_dim", 128), fields.integer("short_conv_kernel_size")
    inner = core.heads * width
    mixed = (
        *(Tensor(Role.MIXER_IN, inner, core.hidden, count, module=f"self_attn.{name}_proj") for name in "qkvfg"),
        Tensor(Role.MIXER_IN, core.heads, core.hidden, count, module="self_attn.b_proj"),
        Tensor(Role.MIXER_OUT, core.hidden, inner, count, module="self_attn.o_proj"),
    )
    small = (
        Tensor(Role.MIXER_IN, 3 * inner, kernel, count, linear=False),
        Tensor(Role.MIXER_IN, inner + core.heads, 1, count, linear=False),
    )
    sparse = _after_dense(fields, layers)
    experts = _routed(fields, len(sparse))
    gates = {"head_wise": core.heads, "element_wise": core.heads * latent.value}
    gate = gates.get(fields.string("gated_attention_proj_granularity_type", ""), 0)
    tensors = [
        *embeddings(core),
        *latent_attention(core, latent, full, bias=False),
        *(replace(piece, places=recurrent) for piece in (*mixed, *small)),
        vector(width, count),
        *mixture_at(core.hidden, sparse, experts, router_bias=True),
        *network_at(core.hidden, sparse, _shared(fields, 1), shared=True),
        *network_at(core.hidden, without(layers, sparse), core.intermediate),
        vector(core.hidden, 2 * layers + 1),
    ]
    if gate:
        tensors.append(Tensor(Role.LATENT_QUERY, gate, core.hidden, len(full), module="self_attn.g_proj", places=full))
    states = StateLayers(count, inner, core.heads, width, kernel, core.heads, width * width, mixers.FLOAT)
    kept = (states,) if count else ()
    return Decoder(
        core, tuple(tensors), (latent_cache(latent, len(full)),), experts, rotary_dim=latent.rope, states=kept
    )


def sarvam_mla(fields: Fields) -> Decoder:
    """Sarvam 105B: DeepSeek's latents, a bias for each expert, one shared expert (sarvam.py)."""
    core, latent = deepseek_core(fields)
    first, step = fields.integer("first_k_dense_replace", 1, least=0), fields.integer("moe_layer_freq", 1)
    sparse = tuple(range(first, core.layers, step)) if fields.values.get("num_experts") is not None else ()
    tensors = [
        *embeddings(core),
        *latent_attention(core, latent, everywhere(core.layers), bias=False),
        vector(core.hidden, 2 * core.layers + 1),
        *network_at(core.hidden, without(core.layers, sparse), core.intermediate),
    ]
    experts = _routed(fields, len(sparse)) if sparse else None
    if experts is not None:
        bias = fields.boolean("moe_router_enable_expert_bias", True)
        tensors += mixture_at(core.hidden, sparse, experts, router_bias=bias)
        tensors += network_at(core.hidden, sparse, _shared(fields, 1), shared=True)
    return Decoder(core, tuple(tensors), (latent_cache(latent, core.layers),), experts, rotary_dim=latent.rope)


def pangu_ultra(fields: Fields) -> Decoder:
    """Pangu Ultra MoE: DeepSeek's latents, four norms a layer if `sandwich_norm` (openpangu.py)."""
    core, latent = deepseek_core(fields)
    first = fields.integer("first_k_dense_replace", core.layers, least=0)
    sparse = tuple(range(first, core.layers)) if fields.values.get("n_routed_experts") is not None else ()
    tensors = [
        *embeddings(core),
        *latent_attention(core, latent, everywhere(core.layers), bias=False),
        vector(core.hidden, (4 if fields.boolean("sandwich_norm", False) else 2) * core.layers + 1),
        *network_at(
            core.hidden, without(core.layers, sparse), core.intermediate, bias=fields.boolean("mlp_bias", False)
        ),
    ]
    experts = _routed(fields, len(sparse)) if sparse else None
    if experts is not None:
        bias = fields.boolean("router_enable_expert_bias", False)
        shared = experts.intermediate_size * fields.integer("n_shared_experts", 0, least=0)
        tensors += mixture_at(core.hidden, sparse, experts, router_bias=bias)
        tensors += network_at(core.hidden, sparse, shared, shared=True)
    return Decoder(core, tuple(tensors), (latent_cache(latent, core.layers),), experts, rotary_dim=latent.rope)


def step3(fields: Fields) -> Decoder:
    """Step 3: one KV head for all, queries by way of one vector that the heads share, experts (step3_text.py)."""
    values = {
        **fields.values,
        "num_key_value_heads": 1,
        "head_dim": fields.integer("head_dim", 256),
        "max_position_embeddings": first_integer(
            fields, "max_position_embeddings", "max_position_embedding", "max_seq_len"
        ),
    }
    core = core_of(Fields(values, fields.architecture), Traits())
    layers, hidden, width = core.layers, core.hidden, core.head_dim
    query = fields.integer("share_q_dim", 0, least=0) or width
    written = fields.string("moe_layers_enum", "").split(",")
    listed = [layer for part in written if (layer := natural_number(part.strip())) is not None]
    sparse = tuple(sorted({layer for layer in listed if layer < layers})) if listed else tuple(range(1, layers))
    count, taken = first_integer(fields, "moe_num_experts", *COUNT), first_integer(fields, "moe_top_k", *PER_TOKEN)
    experts = checked_experts(count, taken, fields.integer("moe_intermediate_size"), len(sparse))
    tensors = (
        *embeddings(core),
        Tensor(Role.REPLICATED, query + 2 * width, hidden, layers, module="self_attn.qkv_proj"),
        Tensor(Role.MIXER_IN, core.heads * width, query, layers, module="self_attn.wq"),
        Tensor(Role.ATTENTION_OUTPUT, hidden, core.heads * width, layers),
        vector(query, layers),
        *mixture_at(hidden, sparse, experts),
        *network_at(hidden, sparse, fields.integer("share_expert_dim", 0, least=0), shared=True),
        *network_at(hidden, without(layers, sparse), core.intermediate),
        vector(hidden, 2 * layers + 1),
    )
    cache = AttentionLayers(AttentionKind.FULL, layers, 1, width, width)
    return Decoder(core, tensors, (cache,), experts)


def rnj1(fields: Fields) -> Decoder:
    """Rnj-1: Gemma's four norms, norms of queries and keys, layers that read a chunk, kept as a window (rnj1.py)."""
    core = core_of(fields, Traits())
    types = kinds_of_layers(fields, core.layers, FULL | SLIDING | CHUNKED) or ("full_attention",) * core.layers
    chunked = places_of(types, CHUNKED)
    bias = fields.boolean("attention_bias", False)
    of = replace(heads_of(core, without(core.layers, chunked)), norms="head", qkv_bias=bias, output_bias=bias)
    local = replace(of, places=chunked, window=fields.integer("sliding_window")) if chunked else None
    return _of_heads(core, [of, *([local] if local else [])], 4)


def plamo3(fields: Fields) -> Decoder:
    """PLaMo 3: four norms a layer, norms of queries and keys, a window in most layers (plamo3.py)."""
    core = core_of(fields, Traits())
    types = kinds_of_layers(fields, core.layers, FULL | SLIDING)
    window = first_integer(fields, "window_size", "sliding_window")
    pattern = fields.integer("sliding_window_pattern", 8)
    turns = tuple(layer for layer in range(core.layers) if (layer + 1) % pattern)
    sliding = places_of(types, SLIDING) if types is not None else turns
    of = replace(heads_of(core, without(core.layers, sliding)), norms="head")
    return _of_heads(core, [of, replace(of, places=sliding, window=window)], 4)


def _of_heads(core: Core, parts: list[Heads], norms: int) -> Decoder:
    tensors = (
        *embeddings(core),
        *(piece for of in parts for piece in attention_at(core.hidden, of)),
        *network_at(core.hidden, everywhere(core.layers), core.intermediate),
        vector(core.hidden, norms * core.layers + 1),
    )
    return Decoder(core, tensors, tuple(of.cache() for of in parts if of.places), rotary_tables=len(parts))


def step1(fields: Fields) -> Decoder:
    """Step 1: Llama's layers, KV heads under the name of attention groups (step1.py)."""
    groups = first_integer(fields, "num_attention_groups", "num_key_value_heads")
    bias = ("attention_bias", False)
    read = decoder(Traits(tied=True, qkv_bias=bias, output_bias=bias, mlp_bias=("mlp_bias", False)))
    return read(Fields({**fields.values, "num_key_value_heads": groups}, fields.architecture))


SARVAM = Traits(
    qkv_bias=("use_qkv_bias", False),
    output_bias=("use_bias", False),
    query_norms="head",
    query_norms_if=("use_qk_norm", False),
    mixture=Mixture(shared="*num_shared_experts", router_bias=True, sparse=_after_dense),
)
PARAM2 = replace(
    SARVAM,
    mixture=Mixture(
        shared="*num_shared_experts",
        shared_default=1,
        router_bias=True,
        sparse=lambda fields, layers: _after_dense(fields, layers, 1),
    ),
)

NEWEST: Mapping[str, tuple[str, Reader]] = MappingProxyType(
    {
        "BailingMoeV2_5ForCausalLM": ("Bailing", ling_linear),
        "BailingMoeV3ForCausalLM": ("Bailing", ling3),
        "MiniMaxM3SparseForCausalLM": ("MiniMax", minimax_m3),
        "PanguUltraMoEForCausalLM": ("Pangu", pangu_ultra),
        "Param2MoEForCausalLM": ("Param", decoder(PARAM2)),
        "Plamo3ForCausalLM": ("Plamo", plamo3),
        "Rnj1ForCausalLM": ("Rnj", rnj1),
        "SarvamMLAForCausalLM": ("Sarvam", sarvam_mla),
        "SarvamMoEForCausalLM": ("Sarvam", decoder(SARVAM)),
        "Step1ForCausalLM": ("Step", step1),
        "Step3TextForCausalLM": ("Step", step3),
    }
)
