"""Nemotron-H: attention, networks and layers that keep a state, by a letter for each layer."""

from __future__ import annotations

from dataclasses import replace

from llm_operator.models.decoder import Decoder
from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.fields import Fields
from llm_operator.models.known import mixers
from llm_operator.models.known.general import COUNT, PER_TOKEN, Traits, core_of
from llm_operator.models.known.hybrids import joined
from llm_operator.models.layers import (
    Core,
    Places,
    attention_at,
    checked_experts,
    embeddings,
    first_integer,
    heads_of,
    linear,
    mixture_at,
    network_at,
    vector,
)
from llm_operator.models.shape import Experts, Role, Tensor

NEMOTRON_MAMBA = mixers.Mamba2(
    ("mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel"),
    bias="use_bias",
    out_bias="use_bias",
    conv_bias="use_conv_bias",
    module="mixer",
)
NEMOTRON_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


def nemotron_h(fields: Fields) -> Decoder:
    """Nemotron-H and Nemotron 3: each layer is one thing: Mamba 2, attention, a network, or experts."""
    kinds = _nemotron_layers(fields)
    values = {**fields.values, "num_hidden_layers": len(kinds)}
    core = replace(core_of(Fields(values, fields.architecture), Traits()), tied=False)
    places = {kind: tuple(i for i, each in enumerate(kinds) if each == kind) for kind in set(kinds)}
    of = heads_of(core, places.get("attention", ()))
    mixed, states = mixers.mamba2(
        Fields({"mamba_ssm_cache_dtype": "float32", **fields.values}, fields.architecture),
        core.hidden,
        places.get("mamba", ()),
        NEMOTRON_MAMBA,
    )
    networks = network_at(
        core.hidden, places.get("mlp", ()), core.intermediate, gated=False, bias=fields.boolean("mlp_bias", False)
    )
    experts, mixture = _nemotron_experts(fields, core, places.get("moe", ()))
    tensors = (
        *embeddings(core),
        *attention_at(core.hidden, of),
        *mixed,
        *networks,
        *mixture,
        vector(core.hidden, core.layers + 1),
    )
    return joined(core, tensors, of, states, experts, 0)


def _nemotron_layers(fields: Fields) -> tuple[str, ...]:
    """Return the kind of each layer: `layers_block_type`, or a pattern of letters."""
    names = {"linear_attention": "mamba", "full_attention": "attention"}
    listed = fields.strings("layers_block_type")
    pattern = fields.values.get("hybrid_override_pattern")
    if listed:
        kinds = tuple(names.get(kind, kind) for kind in listed)
    elif isinstance(pattern, str) and 0 < len(pattern) <= 2048:
        kinds = tuple(NEMOTRON_LETTERS.get(letter, letter) for letter in pattern)
    else:
        fields.require("layers_block_type")
        kinds = ()
    strange = sorted(set(kinds) - set(NEMOTRON_LETTERS.values()))
    if strange:
        raise InvalidModelConfigError(f"config.json: layers of unknown kinds {', '.join(map(repr, strange[:5]))}")
    return kinds


def _nemotron_experts(fields: Fields, core: Core, sparse: Places) -> tuple[Experts | None, tuple[Tensor, ...]]:
    if not sparse:
        return None, ()
    size, width = fields.integer("moe_intermediate_size"), fields.integer("moe_latent_size", 0, least=0)
    experts = checked_experts(first_integer(fields, *COUNT), first_integer(fields, *PER_TOKEN), size, len(sparse))
    shared = fields.integer("n_shared_experts", 1, least=0) * fields.integer(
        "moe_shared_expert_intermediate_size", 0, least=0
    )
    bias = fields.boolean("mlp_bias", False)
    tensors = [
        *mixture_at(core.hidden, sparse, experts, gated=False, width=width),
        *network_at(core.hidden, sparse, shared, gated=False, bias=bias, shared=True),
    ]
    if width:
        # Experts read and write a latent; every rank keeps the projections whole (models/nemotron_h.py).
        tensors += linear(Role.REPLICATED, width, core.hidden, len(sparse), bias=bias)
        tensors += linear(Role.REPLICATED, core.hidden, width, len(sparse), bias=bias)
    return experts, tuple(tensors)
