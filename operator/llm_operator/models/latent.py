"""Decoders with multi-head latent attention: DeepSeek V2 and V3, and GLM-4.7-Flash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.families import Decoder
from llm_operator.models.fields import Fields
from llm_operator.models.parts import Core, checked, dense, embeddings, linear, mixture, vector
from llm_operator.models.shape import AttentionKind, AttentionLayers, Experts, Role, Tensor


@dataclass(frozen=True, slots=True)
class _Latent:
    """Sizes of latent attention. query_rank None: queries come straight from the hidden state."""

    query_rank: int | None
    rank: int
    rope: int
    nope: int
    value: int


def deepseek(fields: Fields) -> Decoder:
    """DeepSeek V2 and V3: latent attention, routed and shared experts after some dense layers.

    The multi-token-prediction layer of V3's files is no part of the decoder: neither transformers nor the engines'
    ordinary serving load it.
    """
    fields.require("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads")
    fields.require("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "max_position_embeddings")
    latent = _Latent(
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
            context=fields.integer("max_position_embeddings"),
        )
    )
    sparse = _sparse(core, fields)
    experts = None
    if sparse:
        fields.require("num_experts_per_tok", "moe_intermediate_size")
        size = fields.integer("moe_intermediate_size")
        experts = Experts(fields.integer("n_routed_experts"), fields.integer("num_experts_per_tok"), size, sparse)
        if experts.per_token > experts.count:
            raise InvalidModelConfigError(
                f"config.json: num_experts_per_tok is {experts.per_token} of {experts.count} experts; expected fewer"
            )
    tensors = (
        *embeddings(core),
        *_attention(core, latent, bias=fields.boolean("attention_bias", False)),
        *_feed_forward(core, experts, shared=fields.integer("n_shared_experts", 0, least=0)),
        vector(core.hidden, 2 * core.layers + 1),
    )
    cache = AttentionLayers(AttentionKind.LATENT, core.layers, 1, latent.rank + latent.rope, 0)
    return Decoder(core, tensors, (cache,), experts, rotary_dim=latent.rope)


def _attention(core: Core, latent: _Latent, *, bias: bool) -> Iterator[Tensor]:
    queries = core.heads * (latent.nope + latent.rope)
    if latent.query_rank is None:
        yield Tensor(Role.LATENT_QUERY, queries, core.hidden, core.layers)
    else:
        yield from linear(Role.LATENT_DOWN, latent.query_rank, core.hidden, core.layers, bias=bias)
        yield vector(latent.query_rank, core.layers)
        yield Tensor(Role.LATENT_QUERY, queries, latent.query_rank, core.layers)
    yield from linear(Role.LATENT_DOWN, latent.rank + latent.rope, core.hidden, core.layers, bias=bias)
    yield vector(latent.rank, core.layers)
    yield Tensor(Role.LATENT_KEY_VALUE, core.heads * (latent.nope + latent.value), latent.rank, core.layers)
    yield from linear(Role.ATTENTION_OUTPUT, core.hidden, core.heads * latent.value, core.layers, bias=bias)


def _feed_forward(core: Core, experts: Experts | None, *, shared: int) -> Iterator[Tensor]:
    if experts is None:
        yield from dense(core, core.layers)
        return
    yield from mixture(core, experts)
    yield from dense(core, experts.layers, size=shared * experts.intermediate_size, shared=True)
    yield from dense(core, core.layers - experts.layers)


def _sparse(core: Core, fields: Fields) -> int:
    if fields.optional_integer("n_routed_experts") is None:
        return 0
    first = fields.integer("first_k_dense_replace", 0, least=0)
    step = fields.integer("moe_layer_freq", 1)
    return sum(1 for layer in range(core.layers) if layer >= first and layer % step == 0)
