"""Building blocks of decoders: their sizes, the tensors of each kind of layer, and which layers are of that kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.fields import Fields
from llm_operator.models.shape import AttentionKind, AttentionLayers, Experts, Role, Tensor

Places = tuple[int, ...]
# A constant, or a field of config.json and what holds where it is absent.
Flag = bool | tuple[str, bool]
FULL = frozenset({"full_attention", "attention", "global_attention", "indexed_attention"})
SLIDING = frozenset({"sliding_attention", "local_attention", "sliding"})
CHUNKED = frozenset({"chunked_attention"})
RECURRENT = frozenset({"linear_attention", "mamba", "conv", "recurrent"})


@dataclass(frozen=True, slots=True)
class Core:
    """The sizes every decoder has. rotary_fraction: share of a head that is rotated."""

    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    context: int


def read_core(fields: Fields, *, tied: bool = False, head_dim: int | None = None) -> Core:
    """Read the sizes under the names most families share; the arguments are the family's defaults.

    Raises MissingFieldError (all absent ones at once) and InvalidModelConfigError.
    """
    fields.require("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads")
    fields.require("max_position_embeddings")
    heads = fields.integer("num_attention_heads")
    hidden = fields.integer("hidden_size")
    core = Core(
        layers=fields.integer("num_hidden_layers"),
        hidden=hidden,
        intermediate=fields.integer("intermediate_size"),
        vocabulary=fields.integer("vocab_size"),
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", heads),
        head_dim=fields.optional_integer("head_dim") or head_dim or divided(hidden, heads),
        tied=fields.boolean("tie_word_embeddings", tied),
        context=fields.integer("max_position_embeddings"),
    )
    return checked(core)


def checked(core: Core) -> Core:
    """Return `core`. Raises InvalidModelConfigError when its head counts contradict each other."""
    if core.kv_heads > core.heads or core.heads % core.kv_heads:
        raise InvalidModelConfigError(
            f"config.json: {core.heads} attention heads cannot share {core.kv_heads} KV heads; expected a divisor"
        )
    return core


def divided(hidden: int, heads: int) -> int:
    """Return the head size that hidden_size gives. Raises InvalidModelConfigError if it is not an integer."""
    if hidden % heads:
        raise InvalidModelConfigError(
            f"config.json: hidden_size {hidden} is not a multiple of {heads} attention heads and head_dim is absent"
        )
    return hidden // heads


def linear(role: Role, rows: int, columns: int, count: int, *, bias: bool = False) -> Iterator[Tensor]:
    """Yield a matrix of rows (out) x columns (in) and its bias."""
    yield Tensor(role, rows, columns, count)
    if bias:
        # A bias after a row-parallel product is added once, so every rank keeps all of it.
        after = role in (Role.ATTENTION_OUTPUT, Role.DOWN, Role.ROUTER, Role.LATENT_DOWN)
        yield Tensor(Role.REPLICATED if after else role, rows, 1, count, linear=False)


def vector(size: int, count: int) -> Tensor:
    """Return `count` vectors that every rank keeps whole: norms, sinks."""
    return Tensor(Role.REPLICATED, size, 1, count, linear=False)


def embeddings(core: Core, *, head_bias: bool = False) -> Iterator[Tensor]:
    """Yield the embedding and, unless tied, the head."""
    yield Tensor(Role.EMBEDDING, core.vocabulary, core.hidden, 1, linear=False)
    if not core.tied:
        yield from linear(Role.HEAD, core.vocabulary, core.hidden, 1, bias=head_bias)
    elif head_bias:
        yield Tensor(Role.HEAD, core.vocabulary, 1, 1, linear=False)


def flag(fields: Fields, value: Flag) -> bool:
    """Return a constant, or what config.json says."""
    return value if isinstance(value, bool) else fields.boolean(*value)


def first_integer(fields: Fields, *names: str) -> int:
    """Return the first of the named fields that is there. Raises MissingFieldError."""
    for name in names:
        if fields.values.get(name) is not None:
            return fields.integer(name)
    fields.require(names[0])
    raise AssertionError(names)


@dataclass(frozen=True, slots=True)
class Heads:
    """Attention of some layers. double_query: the query projection also yields a gate of the output.

    output_gate: a separate matrix does. norms: "head" for norms of one head's size, "whole" for norms over all heads.
    shared_key: values are the keys. window: tokens that these layers look back. sinks: one number per head.
    """

    places: Places
    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    qkv_bias: bool = False
    output_bias: bool = False
    norms: str = ""
    norm_bias: bool = False
    double_query: bool = False
    output_gate: bool = False
    shared_key: bool = False
    sinks: bool = False
    window: int | None = None

    def cache(self) -> AttentionLayers:
        """Return what these layers keep of each token."""
        kind = AttentionKind.FULL if self.window is None else AttentionKind.SLIDING
        return AttentionLayers(kind, len(self.places), self.kv_heads, self.key_dim, self.value_dim, self.window)


def heads_of(core: Core, places: Places, *, window: int | None = None) -> Heads:
    """Return attention of `places` with the model's own head counts."""
    return Heads(places, core.heads, core.kv_heads, core.head_dim, core.head_dim, window=window)


def attention_at(hidden: int, of: Heads) -> Iterator[Tensor]:
    """Yield the tensors of attention of the layers in `of`."""
    count = len(of.places)
    if not count:
        return
    query, keys, values = of.heads * of.key_dim, of.kv_heads * of.key_dim, of.kv_heads * of.value_dim
    pieces = [*linear(Role.QUERY, query * (2 if of.double_query else 1), hidden, count, bias=of.qkv_bias)]
    if of.output_gate:
        pieces.append(Tensor(Role.QUERY, of.heads * of.value_dim, hidden, count, module="self_attn.gate_proj"))
    projections = [keys] if of.shared_key else [keys, values]
    if len(projections) == 2 and keys == values:
        pieces += linear(Role.KEY_VALUE, keys, hidden, 2 * count, bias=of.qkv_bias)
    else:
        for rows, name in zip(projections, ("k_proj", "v_proj"), strict=False):
            bias = linear(Role.KEY_VALUE, rows, hidden, count, bias=of.qkv_bias)
            pieces += [replace(piece, module=f"self_attn.{name}") for piece in bias]
    pieces += linear(Role.ATTENTION_OUTPUT, hidden, of.heads * of.value_dim, count, bias=of.output_bias)
    for piece in pieces:
        heads = of.kv_heads if piece.role is Role.KEY_VALUE else 0
        yield replace(piece, places=of.places, heads=heads)
    vectors = 2 if of.norm_bias else 1
    if of.norms == "head":
        yield vector(of.key_dim, 2 * count * vectors)
    elif of.norms == "whole":
        yield vector(query, count * vectors)
        yield vector(keys, count * vectors)
    if of.sinks:
        yield vector(of.heads, count)


def cache_groups(core: Core, sliding_layers: int, window: int | None) -> tuple[AttentionLayers, ...]:
    """Return the layers by what they keep: `sliding_layers` of them with a window, the others everything."""
    full = heads_of(core, everywhere(core.layers)).cache()
    if window is None or sliding_layers == 0:
        return (full,)
    sliding = replace(full, kind=AttentionKind.SLIDING, layers=sliding_layers, window=window)
    rest = core.layers - sliding_layers
    return (replace(full, layers=rest), sliding) if rest else (sliding,)


def network_at(
    hidden: int, places: Places, size: int, *, gated: bool = True, bias: bool = False, shared: bool = False
) -> Iterator[Tensor]:
    """Yield the dense networks of the layers in `places`: gate, up and down, or up and down alone."""
    count = len(places)
    if not count or not size:
        return
    for piece in (
        *linear(Role.GATE_UP, size, hidden, (2 if gated else 1) * count, bias=bias),
        *linear(Role.DOWN, hidden, size, count, bias=bias),
    ):
        yield replace(piece, shared=shared, places=places)


def mixture_at(
    hidden: int, places: Places, experts: Experts, *, gated: bool = True, router_bias: bool = False, width: int = 0
) -> Iterator[Tensor]:
    """Yield router and routed experts. width: of what experts read and write if that is not the hidden size."""
    count, inner = len(places), width or hidden
    if not count:
        return
    yield Tensor(Role.ROUTER, experts.count, hidden, count, linear=False, places=places)
    if router_bias:
        yield vector(experts.count, count)
    total = experts.count * count
    each = (2 if gated else 1) * total
    yield Tensor(Role.EXPERT_GATE_UP, experts.intermediate_size, inner, each, places=places)
    yield Tensor(Role.EXPERT_DOWN, inner, experts.intermediate_size, total, places=places)


def checked_experts(count: int, per_token: int, size: int, layers: int) -> Experts:
    """Return the experts. Raises InvalidModelConfigError if a token would use more than there are."""
    if per_token > count:
        raise InvalidModelConfigError(
            f"config.json: each token uses {per_token} experts of {count}; expected at most {count}"
        )
    return Experts(count, per_token, size, layers)


def everywhere(layers: int) -> Places:
    """Return every layer."""
    return tuple(range(layers))


def without(layers: int, places: Sequence[int]) -> Places:
    """Return the layers that are not in `places`."""
    taken = set(places)
    return tuple(layer for layer in range(layers) if layer not in taken)


def kinds_of_layers(fields: Fields, layers: int, known: frozenset[str]) -> tuple[str, ...] | None:
    """Return `layer_types`, None if it is absent. Raises InvalidModelConfigError for a wrong length or kind."""
    types = fields.strings("layer_types")
    if not types:
        return None
    strange = sorted(set(types) - known)
    if len(types) != layers or strange:
        raise InvalidModelConfigError(
            f"config.json: layer_types has {len(types)} entries for {layers} layers"
            + (f" and unknown kinds {', '.join(strange[:5])}" if strange else "")
            + f"; expected one of {', '.join(sorted(known))} per layer"
        )
    return types


def places_of(types: Sequence[str], kinds: frozenset[str]) -> Places:
    """Return the layers whose kind is among `kinds`."""
    return tuple(layer for layer, kind in enumerate(types) if kind in kinds)


def sparse_places(fields: Fields, layers: int) -> Places:
    """Return the layers with experts, by the field that says so; all of them if none does."""
    types = fields.strings("mlp_layer_types")
    if types:
        if len(types) != layers:
            raise InvalidModelConfigError(f"config.json: mlp_layer_types has {len(types)} entries for {layers} layers")
        return tuple(layer for layer, kind in enumerate(types) if kind != "dense")
    listed = fields.values.get("moe_layer_freq")
    if isinstance(listed, list):
        found = fields.integers("moe_layer_freq")
        return tuple(layer for layer, sparse in enumerate(found[:layers]) if sparse)
    for name in ("first_k_dense_replace", "num_dense_layers"):
        if fields.values.get(name) is not None:
            first = fields.integer(name, least=0)
            step = fields.integer("moe_layer_freq", 1)
            return tuple(layer for layer in range(first, layers) if layer % step == 0)
    return everywhere(layers)


def stepped(fields: Fields, layers: int) -> Places:
    """Qwen's sparse layers: every decoder_sparse_step-th but those listed as dense."""
    step = fields.integer("decoder_sparse_step", 1)
    dense = set(fields.integers("mlp_only_layers"))
    return tuple(layer for layer in range(layers) if layer not in dense and (layer + 1) % step == 0)
