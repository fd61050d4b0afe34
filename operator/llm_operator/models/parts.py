"""Building blocks of decoders: the tensors of attention, feed-forward networks and embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.fields import Fields
from llm_operator.models.shape import AttentionKind, AttentionLayers, Experts, Role, Tensor


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


def attention(
    core: Core, *, qkv_bias: bool = False, output_bias: bool = False, head_norms: bool = False
) -> Iterator[Tensor]:
    """Yield the tensors of grouped-query attention of all layers. head_norms: norms of queries and keys per head."""
    yield from linear(Role.QUERY, core.heads * core.head_dim, core.hidden, core.layers, bias=qkv_bias)
    yield from linear(Role.KEY_VALUE, core.kv_heads * core.head_dim, core.hidden, 2 * core.layers, bias=qkv_bias)
    yield from linear(Role.ATTENTION_OUTPUT, core.hidden, core.heads * core.head_dim, core.layers, bias=output_bias)
    if head_norms:
        yield vector(core.head_dim, 2 * core.layers)


def dense(
    core: Core, layers: int, *, size: int | None = None, bias: bool = False, shared: bool = False
) -> Iterator[Tensor]:
    """Yield gate, up and down projections of `layers` layers. shared: these are the shared experts'."""
    width = core.intermediate if size is None else size
    if layers and width:
        for piece in (
            *linear(Role.GATE_UP, width, core.hidden, 2 * layers, bias=bias),
            *linear(Role.DOWN, core.hidden, width, layers, bias=bias),
        ):
            yield replace(piece, shared=shared)


def mixture(core: Core, experts: Experts) -> Iterator[Tensor]:
    """Yield router and routed experts (gate, up, down) of the layers that have them."""
    if experts.layers:
        yield Tensor(Role.ROUTER, experts.count, core.hidden, experts.layers, linear=False)
        total = experts.count * experts.layers
        yield Tensor(Role.EXPERT_GATE_UP, experts.intermediate_size, core.hidden, 2 * total)
        yield Tensor(Role.EXPERT_DOWN, core.hidden, experts.intermediate_size, total)


def cache_groups(core: Core, sliding_layers: int, window: int | None) -> tuple[AttentionLayers, ...]:
    """Return the layers by what they keep: `sliding_layers` of them with a window, the others everything."""
    full = AttentionLayers(AttentionKind.FULL, core.layers, core.kv_heads, core.head_dim, core.head_dim)
    if window is None or sliding_layers == 0:
        return (full,)
    sliding = replace(full, kind=AttentionKind.SLIDING, layers=sliding_layers, window=window)
    rest = core.layers - sliding_layers
    return (replace(full, layers=rest), sliding) if rest else (sliding,)


def sliding_layers(fields: Fields, layers: int) -> int | None:
    """Return how many layers `layer_types` says slide; None if it is absent. Raises InvalidModelConfigError."""
    types = fields.strings("layer_types")
    if not types:
        return None
    known = {"full_attention", "sliding_attention"}
    if len(types) != layers or not set(types) <= known:
        strange = sorted(set(types) - known)
        raise InvalidModelConfigError(
            f"config.json: layer_types has {len(types)} entries for {layers} layers"
            + (f" and unknown kinds {', '.join(strange[:5])}" if strange else "")
            + f"; expected one of {', '.join(sorted(known))} per layer"
        )
    return types.count("sliding_attention")
