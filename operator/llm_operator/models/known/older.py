"""Architectures whose config.json names its sizes in another way: GPT-2 and its kin, QWen 1, EXAONE 3, TeleChat 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from llm_operator.models.decoder import Decoder
from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.fields import Fields, Json
from llm_operator.models.known.general import Mixture, Traits, decoder
from llm_operator.models.layers import vector
from llm_operator.models.shape import Role, Tensor

Reader = Callable[[Fields], Decoder]
GPT_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hidden_size": ("n_embd", "d_model"),
        "num_hidden_layers": ("n_layer", "num_layers", "n_layers"),
        "num_attention_heads": ("n_head", "n_heads"),
        "intermediate_size": ("n_inner", "ffn_hidden_size", "ffn_dim"),
        "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len", "seq_length"),
    }
)
# Where config.json names no longest context, as BLOOM's: what the engines fall back to.
DEFAULT_CONTEXT = 2048


def renamed(fields: Fields, **defaults: Json) -> Fields:
    """Return the fields with absent ones filled in from their other names, then from `defaults`."""
    values = dict(fields.values)
    for name, others in GPT_NAMES.items():
        if values.get(name) is None:
            values[name] = next((values[other] for other in others if values.get(other) is not None), None)
    for name, value in defaults.items():
        if values.get(name) is None:
            values[name] = value
    return Fields(values, fields.architecture)


def _with(found: Decoder, *more: Tensor) -> Decoder:
    return replace(found, tensors=(*found.tensors, *more))


def _positions(rows: int, hidden: int) -> Tensor:
    """Return learned positions, which every rank keeps."""
    return Tensor(Role.REPLICATED, rows, hidden, 1, linear=False)


GPT = Traits(tied=True, qkv_bias=True, output_bias=True, mlp_bias=True, gated=False, norm_bias=True, partial_rotary=0)


def gpt2(fields: Fields) -> Decoder:
    """GPT-2: biases everywhere, learned positions, a network of four times the width unless n_inner says otherwise."""
    named = renamed(fields, max_position_embeddings=1024)
    named = renamed(named, intermediate_size=4 * named.integer("hidden_size"))
    found = decoder(GPT)(named)
    return _with(found, _positions(found.core.context, found.core.hidden))


def gpt_bigcode(fields: Fields) -> Decoder:
    """StarCoder: GPT-2 with one KV head where multi_query says so, as it does by default."""
    heads = 1 if fields.boolean("multi_query", True) else None
    return gpt2(Fields({**fields.values, "num_key_value_heads": heads}, fields.architecture))


def gptj(fields: Fields) -> Decoder:
    """GPT-J: attention and network side by side, biases in the network and the head alone."""
    named = renamed(fields, max_position_embeddings=2048)
    named = renamed(named, intermediate_size=4 * named.integer("hidden_size"))
    traits = replace(GPT, tied=False, qkv_bias=False, output_bias=False, head_bias=True, norms=1)
    return replace(decoder(traits)(named), rotary_dim=fields.integer("rotary_dim", 64))


def gpt_neox(fields: Fields) -> Decoder:
    """GPT-NeoX and Pythia: biases everywhere but in the head."""
    bias = ("attention_bias", True)
    share = Fields(fields.optional_object("rope_parameters"), fields.architecture).number("partial_rotary_factor", 0.25)
    traits = replace(
        GPT, tied=False, qkv_bias=bias, output_bias=bias, partial_rotary=fields.number("rotary_pct", share)
    )
    return decoder(traits)(fields)


def opt(fields: Fields) -> Decoder:
    """OPT: learned positions, two more than the context; the 350M's embeddings are narrower than its layers."""
    named = renamed(fields)
    hidden = named.integer("hidden_size")
    bias = named.boolean("enable_bias", True)
    affine = named.boolean("layer_norm_elementwise_affine", True)
    last = named.boolean("do_layer_norm_before", True) and not named.boolean("_remove_final_layer_norm", False)
    traits = replace(
        GPT, qkv_bias=bias, output_bias=bias, mlp_bias=bias, norms=2 if affine else 0, last_norm=affine and last
    )
    found = decoder(traits)(named)
    narrow = named.integer("word_embed_proj_dim", hidden)
    more = [_positions(found.core.context + 2, hidden)]
    if narrow != hidden:
        tensors = tuple(
            replace(piece, columns=narrow) if piece.role in (Role.EMBEDDING, Role.HEAD) else piece
            for piece in found.tensors
        )
        found = replace(found, tensors=tensors)
        more.append(Tensor(Role.REPLICATED, hidden, narrow, 2))
    return _with(found, *more)


def bloom(fields: Fields) -> Decoder:
    """BLOOM: ALiBi instead of positions, a norm after the embedding."""
    named = renamed(fields, max_position_embeddings=DEFAULT_CONTEXT)
    hidden = named.integer("hidden_size")
    found = decoder(GPT)(Fields({**named.values, "intermediate_size": 4 * hidden}, fields.architecture))
    return _with(found, vector(hidden, 2))


def mpt(fields: Fields) -> Decoder:
    """MPT: no biases, ALiBi; the norms of published files have none either."""
    named = renamed(fields, max_position_embeddings=DEFAULT_CONTEXT)
    attention = Fields(fields.optional_object("attn_config"), fields.architecture)
    if attention.boolean("qk_ln", False) or not fields.boolean("no_bias", True):
        raise InvalidModelConfigError("config.json: qk_ln is true or no_bias false; expected MPT as it was published")
    values = {
        **named.values,
        "num_key_value_heads": attention.optional_integer("kv_n_heads"),
        "intermediate_size": int(fields.number("expansion_ratio", 4) * named.integer("hidden_size")),
    }
    found = decoder(Traits(tied=True, gated=False, partial_rotary=0))(Fields(values, fields.architecture))
    if attention.boolean("alibi", False) or not fields.boolean("learned_pos_emb", False):
        return found
    return _with(found, _positions(found.core.context, found.core.hidden))


def dbrx(fields: Fields) -> Decoder:
    """DBRX: sixteen experts in every layer, sizes in attn_config and ffn_config."""
    named = renamed(fields)
    attention, network = fields.nested("attn_config"), fields.nested("ffn_config")
    values = {
        **named.values,
        "num_key_value_heads": attention.integer("kv_n_heads", 1),
        "intermediate_size": network.integer("ffn_hidden_size"),
        "num_experts": network.integer("moe_num_experts"),
        "num_experts_per_tok": network.integer("moe_top_k", 1),
    }
    traits = Traits(mixture=Mixture(size=("intermediate_size",)))
    return decoder(traits)(Fields(values, fields.architecture))


def qwen1(fields: Fields) -> Decoder:
    """QWen 1 and 1.5's forerunner: biases on q, k, v; intermediate_size counts gate and up together."""
    named = renamed(fields)
    size = named.integer("intermediate_size")
    values = {**named.values, "intermediate_size": size // 2, "head_dim": named.optional_integer("kv_channels")}
    return decoder(Traits(qkv_bias=True))(Fields(values, fields.architecture))


def exaone(fields: Fields) -> Decoder:
    """EXAONE 3 and 3.5: Llama's layers under GPT's names."""
    return decoder(Traits())(renamed(fields))


def telechat2(fields: Fields) -> Decoder:
    """TeleChat 2: Llama's layers with biases after attention and network alone (vLLM 0.33.0, models/telechat2.py)."""
    found = decoder(Traits(output_bias=True))(renamed(fields))
    return _with(found, vector(found.core.hidden, found.core.layers))


def hyperclovax(fields: Fields) -> Decoder:
    """HyperCLOVA X: Llama's layers, two norms more in each where use_post_norm says so."""
    bias = ("attention_bias", False)
    norms = 4 if fields.boolean("use_post_norm", False) else 2
    return decoder(Traits(qkv_bias=bias, output_bias=bias, mlp_bias=("mlp_bias", False), norms=norms))(fields)


OLDER: Mapping[str, tuple[str, Reader]] = MappingProxyType(
    {
        "BloomForCausalLM": ("BLOOM", bloom),
        "DbrxForCausalLM": ("DBRX", dbrx),
        "ExaoneForCausalLM": ("Exaone", exaone),
        "GPT2LMHeadModel": ("GPT2", gpt2),
        "GPTBigCodeForCausalLM": ("GPT2", gpt_bigcode),
        "GPTJForCausalLM": ("GPTJ", gptj),
        "GPTNeoXForCausalLM": ("GPTNeoX", gpt_neox),
        "HyperCLOVAXForCausalLM": ("HyperCLOVAX", hyperclovax),
        "MPTForCausalLM": ("MPT", mpt),
        "MptForCausalLM": ("MPT", mpt),
        "OPTForCausalLM": ("OPT", opt),
        "QWenLMHeadModel": ("Qwen1", qwen1),
        "TeleChat2ForCausalLM": ("TeleChat", telechat2),
    }
)
