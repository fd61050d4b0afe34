"""Decoders whose layers are attention and a network, described by a row of traits instead of a separate reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from llm_operator.models.decoder import Decoder
from llm_operator.models.fields import Fields
from llm_operator.models.layers import (
    CHUNKED,
    FULL,
    SLIDING,
    Core,
    Flag,
    Heads,
    Places,
    attention_at,
    checked,
    checked_experts,
    divided,
    embeddings,
    everywhere,
    first_integer,
    flag,
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

COUNT = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
PER_TOKEN = ("num_experts_per_tok", "moe_k", "moe_topk", "num_experts_per_token", "top_k_experts", "moe_top_k")


@dataclass(frozen=True, slots=True)
class Mixture:
    """How a row's experts are described. size: fields of an expert's width, the first that is there.

    shared: fields that hold the width of the shared experts, or "*NAME": that many of the routed experts' width.
    shared_gate: one more vector per layer weighs the shared expert. dense: widths of the layers without experts.
    """

    size: tuple[str, ...] = ("moe_intermediate_size",)
    shared: str = ""
    shared_default: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    sparse: Callable[[Fields, int], Places] = sparse_places
    dense: tuple[str, ...] = ("intermediate_size",)


@dataclass(frozen=True, slots=True)
class Traits:
    """How an architecture departs from Llama. norms: vectors of hidden size per layer (one where
    one_norm_if says so); norm_bias: each has a bias.

    query_norms: "head" or "whole", see Heads. head_dim: where config.json leaves it out and it is not hidden / heads.
    windows: which layers slide, for files without layer_types; window: the field of their window.
    """

    tied: bool = False
    head_dim: int | None = None
    qkv_bias: Flag = False
    output_bias: Flag = False
    mlp_bias: Flag = False
    head_bias: Flag = False
    query_norms: str = ""
    query_norms_if: Flag = True
    norms: int = 2
    norm_bias: bool = False
    one_norm_if: Flag = False
    gated: bool = True
    output_gate: bool = False
    sinks: bool = False
    activation_numbers: int = 0
    mixture: Mixture | None = None
    windows: Callable[[Fields, int], Places] | None = None
    window: str = "sliding_window"
    partial_rotary: float = 1.0
    rotary_tables: int = 1
    last_norm: bool = True


def core_of(fields: Fields, traits: Traits) -> Core:
    """Read the sizes under the names that most architectures share, or Falcon's and MPT's older ones."""
    fields.require("num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads")
    heads, hidden = fields.integer("num_attention_heads"), fields.integer("hidden_size")
    if "intermediate_size" in fields.values and not isinstance(fields.values["intermediate_size"], list):
        intermediate = fields.optional_integer("intermediate_size") or 4 * hidden
    elif traits.mixture is not None:
        intermediate = first_integer(fields, *traits.mixture.size)
    else:
        fields.require("intermediate_size")
        intermediate = max(fields.integers("intermediate_size"), default=0)
    context = first_integer(fields, "max_position_embeddings", "model_max_length", "max_sequence_length", "seq_length")
    return checked(
        Core(
            layers=fields.integer("num_hidden_layers"),
            hidden=hidden,
            intermediate=intermediate,
            vocabulary=fields.integer("vocab_size"),
            heads=heads,
            kv_heads=fields.integer("num_key_value_heads", heads),
            head_dim=fields.optional_integer("head_dim") or traits.head_dim or divided(hidden, heads),
            tied=fields.boolean("tie_word_embeddings", traits.tied),
            context=context,
        )
    )


def decoder(traits: Traits) -> Callable[[Fields], Decoder]:
    """Return the reader of a row."""

    def read(fields: Fields) -> Decoder:
        core = core_of(fields, traits)
        attention = [attention_of(core, fields, traits, part) for part in _windows(core, fields, traits)]
        experts, networks = networks_of(core, fields, traits)
        tensors = (
            *embeddings(core, head_bias=flag(fields, traits.head_bias)),
            *(piece for of in attention for piece in attention_at(core.hidden, of)),
            *networks,
            *norms_of(core, fields, traits),
        )
        rotary = int(core.head_dim * fields.number("partial_rotary_factor", traits.partial_rotary))
        cache = tuple(of.cache() for of in attention if of.places)
        tables = traits.rotary_tables if any(of.window for of in attention) else 1
        return Decoder(core, tensors, cache, experts, rotary_dim=rotary, rotary_tables=tables)

    return read


def attention_of(core: Core, fields: Fields, traits: Traits, of: Heads) -> Heads:
    """Return `of` with the traits of its projections."""
    norms = traits.query_norms if flag(fields, traits.query_norms_if) else ""
    return replace(
        of,
        qkv_bias=flag(fields, traits.qkv_bias),
        output_bias=flag(fields, traits.output_bias),
        norms=norms,
        norm_bias=traits.norm_bias and norms == "head",
        output_gate=traits.output_gate,
        sinks=traits.sinks,
    )


def norms_of(core: Core, fields: Fields, traits: Traits) -> Iterator[Tensor]:
    """Yield the norms of the layers and the last one."""
    each = 1 if flag(fields, traits.one_norm_if) else traits.norms
    vectors = each * core.layers + (1 if traits.last_norm else 0)
    if vectors:
        yield vector(core.hidden, vectors * (2 if traits.norm_bias else 1))
    if traits.activation_numbers:
        yield vector(1, traits.activation_numbers * core.layers)


def networks_of(core: Core, fields: Fields, traits: Traits) -> tuple[Experts | None, tuple[Tensor, ...]]:
    """Return the experts and the tensors of all networks."""
    bias = flag(fields, traits.mlp_bias)
    if traits.mixture is None:
        everything = everywhere(core.layers)
        return None, tuple(network_at(core.hidden, everything, core.intermediate, gated=traits.gated, bias=bias))
    row = traits.mixture
    sparse = row.sparse(fields, core.layers)
    size = first_integer(fields, *row.size)
    count, taken = first_integer(fields, *COUNT), first_integer(fields, *PER_TOKEN)
    experts = checked_experts(count, taken, size, len(sparse))
    tensors = [
        *mixture_at(core.hidden, sparse, experts, gated=traits.gated, router_bias=row.router_bias),
        *network_at(core.hidden, sparse, _shared(fields, row, size), gated=traits.gated, bias=bias, shared=True),
    ]
    if row.shared_gate and sparse:
        tensors.append(Tensor(Role.ROUTER, 1, core.hidden, len(sparse), linear=False))
    rest = without(core.layers, sparse)
    if rest:
        tensors += network_at(core.hidden, rest, first_integer(fields, *row.dense), gated=traits.gated, bias=bias)
    return experts if sparse else None, tuple(tensors)


def _shared(fields: Fields, row: Mixture, size: int) -> int:
    if row.shared.startswith("*"):
        return size * fields.integer(row.shared[1:], row.shared_default, least=0)
    return fields.integer(row.shared, 0, least=0) if row.shared else 0


def _windows(core: Core, fields: Fields, traits: Traits) -> tuple[Heads, ...]:
    """Return the layers that keep everything and those that keep a window."""
    everything = everywhere(core.layers)
    types = kinds_of_layers(fields, core.layers, FULL | SLIDING | CHUNKED)
    window = fields.optional_integer(traits.window)
    if types is not None:
        sliding = places_of(types, SLIDING)
    elif traits.windows is not None and window is not None:
        sliding = traits.windows(fields, core.layers)
    else:
        sliding = ()
    if window is None or window >= core.context or not sliding:
        return (heads_of(core, everything),)
    return heads_of(core, without(core.layers, sliding)), heads_of(core, sliding, window=window)


def every(default: int, *names: str) -> Callable[[Fields, int], Places]:
    """Return windows in all layers but each `pattern`th, the number being a field.

    EXAONE 4 writes the pattern out, such as LLLG: local and global layers in turns, the last one always global.
    """

    def places(fields: Fields, layers: int) -> Places:
        name = next((name for name in names if fields.values.get(name) is not None), "")
        written = fields.values.get(name)
        if isinstance(written, str) and 0 < len(written) <= layers and set(written) <= {"L", "G"}:
            return tuple(layer for layer in range(layers - 1) if written[layer % len(written)] == "L")
        pattern = fields.integer(name, default) if name else default
        return tuple(layer for layer in range(layers) if (layer + 1) % pattern)

    return places


def all_layers(fields: Fields, layers: int) -> Places:
    """Return every layer, where the file does not switch windows off."""
    return everywhere(layers) if fields.boolean("use_sliding_window", True) else ()
