"""One reader per family of decoders with grouped-query attention: config.json to tensors and cache layers.

What a family's layers contain was read in transformers 5.17 (src/transformers/models/<family>) and is checked against
its own parameter counts on the meta device (tests/unit/models/recount.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llm_operator.models.decoder import Decoder
from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.fields import Fields
from llm_operator.models.layers import (
    SLIDING,
    Core,
    attention_at,
    cache_groups,
    checked,
    checked_experts,
    divided,
    embeddings,
    everywhere,
    heads_of,
    kinds_of_layers,
    mixture_at,
    network_at,
    places_of,
    read_core,
    stepped,
    vector,
    without,
)
from llm_operator.models.shape import AttentionLayers, Experts, Role, Tensor

LISTED = frozenset({"full_attention", "sliding_attention"})
"""Kinds of layers that these families have."""


def _norms(core: Core, per_layer: int) -> Tensor:
    return vector(core.hidden, per_layer * core.layers + 1)


def _attention(
    core: Core, *, qkv_bias: bool = False, output_bias: bool = False, head_norms: bool = False
) -> Iterator[Tensor]:
    """Yield the tensors of attention of all layers."""
    heads = heads_of(core, everywhere(core.layers))
    norms = "head" if head_norms else ""
    return attention_at(core.hidden, replace(heads, qkv_bias=qkv_bias, output_bias=output_bias, norms=norms))


def _network(core: Core, *, bias: bool = False) -> Iterator[Tensor]:
    """Yield the dense networks of all layers."""
    return network_at(core.hidden, everywhere(core.layers), core.intermediate, bias=bias)


def llama(fields: Fields) -> Decoder:
    """Llama 1-3: optional biases, everything attends to everything."""
    core = read_core(fields)
    bias = fields.boolean("attention_bias", False)
    tensors = (
        *embeddings(core),
        *_attention(core, qkv_bias=bias, output_bias=bias),
        *_network(core, bias=fields.boolean("mlp_bias", False)),
        _norms(core, 2),
    )
    return Decoder(core, tensors, cache_groups(core, 0, None))


def internlm(fields: Fields) -> Decoder:
    """InternLM2, 2.5 and 3: Llama's layers; `bias` is for all projections, `qkv_bias` (3) for q, k, v."""
    core = read_core(fields)
    bias = fields.boolean("bias", False)
    qkv_bias = fields.boolean("qkv_bias", bias)
    tensors = (
        *embeddings(core),
        *_attention(core, qkv_bias=qkv_bias, output_bias=bias),
        *_network(core),
        _norms(core, 2),
    )
    return Decoder(core, tensors, cache_groups(core, 0, None))


def mistral(fields: Fields) -> Decoder:
    """Mistral: Llama's layers without biases; a window, where given, in every layer."""
    core = read_core(fields)
    tensors = (*embeddings(core), *_attention(core), *_network(core), _norms(core, 2))
    return Decoder(core, tensors, cache_groups(core, core.layers, fields.optional_integer("sliding_window")))


def mixtral(fields: Fields) -> Decoder:
    """Mixtral: Mistral with experts in every layer."""
    core = read_core(fields)
    fields.require("num_local_experts", "num_experts_per_tok")
    experts = _experts(fields, "num_local_experts", core.intermediate, core.layers)
    tensors = (
        *embeddings(core),
        *_attention(core),
        *mixture_at(core.hidden, everywhere(core.layers), experts),
        _norms(core, 2),
    )
    window = fields.optional_integer("sliding_window")
    return Decoder(core, tensors, cache_groups(core, core.layers, window), experts)


def qwen2(fields: Fields) -> Decoder:
    """Qwen2 and 2.5: biases on q, k, v only; windows only where use_sliding_window is true."""
    core = read_core(fields)
    tensors = (*embeddings(core), *_attention(core, qkv_bias=True), *_network(core), _norms(core, 2))
    return Decoder(core, tensors, _qwen_cache(core, fields))


def qwen3(fields: Fields) -> Decoder:
    """Qwen3: norms on queries and keys, no biases unless attention_bias."""
    core = read_core(fields, head_dim=128)
    bias = fields.boolean("attention_bias", False)
    tensors = (
        *embeddings(core),
        *_attention(core, qkv_bias=bias, output_bias=bias, head_norms=True),
        *_network(core),
        _norms(core, 2),
    )
    return Decoder(core, tensors, _qwen_cache(core, fields))


def qwen2_moe(fields: Fields) -> Decoder:
    """Qwen1.5/2 MoE: routed experts, one shared expert with its own gate, some dense layers."""
    core = read_core(fields)
    fields.require("num_experts", "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size")
    sparse = stepped(fields, core.layers)
    experts = _experts(fields, "num_experts", fields.integer("moe_intermediate_size"), len(sparse))
    tensors = (
        *embeddings(core),
        *_attention(core, qkv_bias=fields.boolean("qkv_bias", True)),
        *mixture_at(core.hidden, sparse, experts),
        *network_at(core.hidden, sparse, fields.integer("shared_expert_intermediate_size", least=0), shared=True),
        Tensor(Role.ROUTER, 1, core.hidden, len(sparse), linear=False),
        *network_at(core.hidden, without(core.layers, sparse), core.intermediate),
        _norms(core, 2),
    )
    return Decoder(core, tensors, _qwen_cache(core, fields), experts)


def qwen3_moe(fields: Fields) -> Decoder:
    """Qwen3 MoE: Qwen3's attention, routed experts, no shared expert."""
    core = read_core(fields)
    fields.require("num_experts", "num_experts_per_tok", "moe_intermediate_size")
    bias = fields.boolean("attention_bias", False)
    sparse = stepped(fields, core.layers)
    experts = _experts(fields, "num_experts", fields.integer("moe_intermediate_size"), len(sparse))
    tensors = (
        *embeddings(core),
        *_attention(core, qkv_bias=bias, output_bias=bias, head_norms=True),
        *mixture_at(core.hidden, sparse, experts),
        *network_at(core.hidden, without(core.layers, sparse), core.intermediate),
        _norms(core, 2),
    )
    return Decoder(core, tensors, _qwen_cache(core, fields), experts)


def gemma(fields: Fields) -> Decoder:
    """Gemma 1: Llama's layers, tied, heads of 256."""
    core = read_core(fields, tied=True, head_dim=256)
    bias = fields.boolean("attention_bias", False)
    attentions = _attention(core, qkv_bias=bias, output_bias=bias)
    tensors = (*embeddings(core), *attentions, *_network(core), _norms(core, 2))
    return Decoder(core, tensors, cache_groups(core, 0, None))


def gemma2(fields: Fields) -> Decoder:
    """Gemma 2: four norms per layer, every second layer slides, tied."""
    core = read_core(fields, tied=True, head_dim=256)
    bias = fields.boolean("attention_bias", False)
    attentions = _attention(core, qkv_bias=bias, output_bias=bias)
    tensors = (*embeddings(core), *attentions, *_network(core), _norms(core, 4))
    sliding = _sliding(fields, core, (core.layers + 1) // 2)
    return Decoder(core, tensors, cache_groups(core, sliding, fields.integer("sliding_window", 4096)))


def gemma3(fields: Fields) -> Decoder:
    """Gemma 3 (text): Gemma 2 with norms on queries and keys; five of six layers slide, with their own rope."""
    core = read_core(_gemma3_defaults(fields), tied=True, head_dim=256)
    bias = fields.boolean("attention_bias", False)
    tensors = (
        *embeddings(core),
        *_attention(core, qkv_bias=bias, output_bias=bias, head_norms=True),
        *_network(core),
        _norms(core, 4),
    )
    pattern = fields.integer("sliding_window_pattern", 6)
    sliding = _sliding(fields, core, core.layers - core.layers // pattern)
    window = fields.integer("sliding_window", 4096)
    return Decoder(core, tensors, cache_groups(core, sliding, window), rotary_tables=2)


def _gemma3_defaults(fields: Fields) -> Fields:
    """Return the fields with what published multimodal files leave to transformers (Gemma3TextConfig)."""
    defaults = {
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131072,
    }
    return Fields({**defaults, **fields.values}, fields.architecture)


def phi3(fields: Fields) -> Decoder:
    """Phi-3: Llama's layers with packed projections; a window in every layer where given."""
    core = read_core(fields)
    tensors = (*embeddings(core), *_attention(core), *_network(core), _norms(core, 2))
    window = fields.optional_integer("sliding_window")
    if window is not None and window >= core.context:
        window = None
    rotary = int(core.head_dim * fields.number("partial_rotary_factor", 1.0))
    return Decoder(core, tensors, cache_groups(core, core.layers, window), rotary_dim=rotary)


def glm(fields: Fields) -> Decoder:
    """GLM-4 in transformers' own form (GlmForCausalLM): biases on q, k, v, packed gate and up."""
    return _glm(read_core(fields, head_dim=128), qkv_bias=fields.boolean("attention_bias", False), norms=2)


def glm4(fields: Fields, *, head_dim: int | None = 128) -> Decoder:
    """GLM-4-0414 (Glm4ForCausalLM): as GLM-4 with two more norms per layer."""
    return _glm(read_core(fields, head_dim=head_dim), qkv_bias=fields.boolean("attention_bias", False), norms=4)


def chatglm(fields: Fields) -> Decoder:
    """ChatGLM3 and GLM-4-9B in their first form, with their own field names."""
    names = ("num_layers", "hidden_size", "ffn_hidden_size", "padded_vocab_size", "num_attention_heads", "seq_length")
    fields.require(*names)
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    groups = fields.integer("multi_query_group_num", heads) if fields.boolean("multi_query_attention", False) else heads
    core = Core(
        layers=fields.integer("num_layers"),
        hidden=hidden,
        intermediate=fields.integer("ffn_hidden_size"),
        vocabulary=fields.integer("padded_vocab_size"),
        heads=heads,
        kv_heads=groups,
        head_dim=fields.integer("kv_channels", divided(hidden, heads)),
        tied=fields.boolean("tie_word_embeddings", False),
        context=fields.integer("seq_length"),
    )
    if fields.boolean("add_bias_linear", False):
        raise InvalidModelConfigError("config.json: add_bias_linear is true; expected false, as every GLM-4 has it")
    return _glm(checked(core), qkv_bias=fields.boolean("add_qkv_bias", True), norms=2)


def glm4_moe(fields: Fields) -> Decoder:
    """GLM-4.5 and 4.6: routed and shared experts after some dense layers, optional norms on queries and keys."""
    core = read_core(fields)
    fields.require("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")
    first = min(fields.integer("first_k_dense_replace", 1, least=0), core.layers)
    dense, sparse = tuple(range(first)), tuple(range(first, core.layers))
    size = fields.integer("moe_intermediate_size")
    experts = _experts(fields, "n_routed_experts", size, len(sparse))
    tensors = (
        *embeddings(core),
        *_attention(
            core, qkv_bias=fields.boolean("attention_bias", False), head_norms=fields.boolean("use_qk_norm", False)
        ),
        *mixture_at(core.hidden, sparse, experts),
        *network_at(core.hidden, sparse, size * fields.integer("n_shared_experts", 1, least=0), shared=True),
        *network_at(core.hidden, dense, core.intermediate),
        _norms(core, 2),
    )
    rotary = int(core.head_dim * fields.number("partial_rotary_factor", 0.5))
    return Decoder(core, tensors, cache_groups(core, 0, None), experts, rotary_dim=rotary)


def gpt_oss(fields: Fields) -> Decoder:
    """gpt-oss: biases everywhere, a sink per head, experts with biases, every second layer slides."""
    core = read_core(fields, head_dim=64)
    fields.require("num_local_experts", "num_experts_per_tok")
    experts = _experts(fields, "num_local_experts", core.intermediate, core.layers)
    total = experts.count * experts.layers
    bias = fields.boolean("attention_bias", True)
    tensors = (
        *embeddings(core),
        *_attention(core, qkv_bias=bias, output_bias=bias),
        *mixture_at(core.hidden, everywhere(core.layers), experts),
        Tensor(Role.EXPERT_GATE_UP, core.intermediate, 1, 2 * total, linear=False),
        vector(core.hidden, total),
        vector(experts.count, core.layers),
        vector(core.heads, core.layers),
        _norms(core, 2),
    )
    sliding = _sliding(fields, core, (core.layers + 1) // 2)
    return Decoder(core, tensors, cache_groups(core, sliding, fields.integer("sliding_window", 128)), experts)


def _glm(core: Core, *, qkv_bias: bool, norms: int) -> Decoder:
    tensors = (
        *embeddings(core),
        *_attention(core, qkv_bias=qkv_bias),
        *_network(core),
        _norms(core, norms),
    )
    return Decoder(core, tensors, cache_groups(core, 0, None), rotary_dim=core.head_dim // 2)


def _experts(fields: Fields, count: str, size: int, layers: int) -> Experts:
    return checked_experts(fields.integer(count), fields.integer("num_experts_per_tok"), size, layers)


def _sliding(fields: Fields, core: Core, otherwise: int) -> int:
    """Return how many layers `layer_types` says slide; `otherwise` if it is absent."""
    types = kinds_of_layers(fields, core.layers, LISTED)
    return otherwise if types is None else len(places_of(types, SLIDING))


def _qwen_cache(core: Core, fields: Fields) -> tuple[AttentionLayers, ...]:
    if not fields.boolean("use_sliding_window", False):
        return cache_groups(core, 0, None)
    first = fields.integer("max_window_layers", core.layers, least=0)
    sliding = _sliding(fields, core, max(core.layers - first, 0))
    return cache_groups(core, sliding, fields.optional_integer("sliding_window"))
