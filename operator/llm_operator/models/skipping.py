"""Which matrices a quantized checkpoint keeps in 16 bit: skip lists matched to the modules they name, layer by layer.

Sources, vLLM 0.33.0, model_executor/layers/quantization: auto_awq.py matches parts of names ("substring"), fp8.py and
fbgemm_fp8.py whole names (utils/quant_utils.py, is_layer_skipped), modelopt.py also wildcards, compressed_tensors/
utils.py names and `re:` expressions. Whole names are matched here at dots, so that a parent takes its children.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from llm_operator.models.errors import UnknownQuantizationError
from llm_operator.models.shape import CheckpointQuantization, Experts, Role, Tensor

ATTENTION: tuple[str, ...] = ("self_attn", "attention", "self_attention")
# Module names below a layer as checkpoints spell them: (projections stored apart, fused names).
ATTENTION_NAMES: dict[Role, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Role.QUERY: (("q_proj",), ("qkv_proj", "wqkv", "query_key_value")),
    Role.KEY_VALUE: (("k_proj", "v_proj"), ("qkv_proj", "wqkv", "query_key_value")),
    Role.ATTENTION_OUTPUT: (("o_proj",), ("wo", "dense")),
    Role.LATENT_DOWN: (("q_a_proj", "kv_a_proj_with_mqa"), ()),
    Role.LATENT_QUERY: (("q_b_proj",), ("q_proj",)),
    Role.LATENT_KEY_VALUE: (("kv_b_proj",), ()),
}
NETWORK_NAMES: dict[Role, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Role.GATE_UP: (("gate_proj", "up_proj"), ("gate_up_proj", "w1", "w3", "dense_h_to_4h")),
    Role.DOWN: (("down_proj",), ("w2", "dense_4h_to_h")),
    Role.EXPERT_GATE_UP: (("gate_proj", "up_proj"), ("gate_up_proj", "w1", "w3")),
    Role.EXPERT_DOWN: (("down_proj",), ("w2",)),
}
DENSE: tuple[str, ...] = ("mlp", "feed_forward")
SHARED: tuple[str, ...] = ("mlp.shared_experts", "mlp.shared_expert")
ROUTED: tuple[str, ...] = ("mlp.experts", "block_sparse_moe.experts")
PREFIXES = ("model.language_model.", "language_model.model.", "transformer.encoder.", "transformer.")

# Bounds of what config.json may make us match; names within a layer are compared in it alone and not counted.
MOST_LOOSE = 64
MOST_EXPRESSIONS = 32
LONGEST = 200
MOST_REPEATS = 3
# A name that begins so can only be part of names in the same layer.
LAYER = re.compile(r"model\.layers\.\d+\.")

Matcher = Callable[[str], bool]


def matcher(patterns: Iterable[str], *, parts: bool, wildcards: bool = False) -> Matcher:
    """Return whether a module's name is named by `patterns`.

    parts: any part of a name matches, as for AWQ; otherwise whole components. wildcards: `*` as in modelopt.
    Raises UnknownQuantizationError for lists and expressions that cannot be matched in bounded time.
    """
    names, compiled = _sorted_out(patterns, wildcards=wildcards)
    by_layer: dict[str, list[str]] = {}
    loose: list[str] = []
    for name in sorted(names):
        layer = LAYER.match(name)
        (by_layer.setdefault(layer[0], []) if layer else loose).append(name)
    if parts and len(loose) > MOST_LOOSE:
        raise UnknownQuantizationError(f"a skip list with {len(loose)} names that belong to no layer")

    def named(module: str) -> bool:
        if module in names or any(expression.match(module) for expression in compiled):
            return True
        if parts:
            layer = LAYER.match(module)
            own = by_layer.get(layer[0], []) if layer else []
            return any(name in module for name in (*loose, *own))
        return any(run in names for run in _runs(module))

    return named


def _sorted_out(patterns: Iterable[str], *, wildcards: bool) -> tuple[set[str], list[re.Pattern[str]]]:
    """Return the names and the expressions of a list; those of vision towers name nothing of the decoder."""
    names: set[str] = set()
    expressions: set[str] = set()
    for pattern in patterns:
        if pattern.startswith("re:"):
            expressions.add(pattern.removeprefix("re:"))
        elif wildcards and "*" in pattern:
            expressions.add(".*".join(re.escape(part) for part in re.split(r"\*+", pattern)) + r"(\.|$)")
        elif pattern and "vision" not in pattern and "visual" not in pattern:
            names.add(_without_prefix(pattern))
    if len(expressions) > MOST_EXPRESSIONS:
        raise UnknownQuantizationError(f"a skip list of {len(expressions)} expressions")
    return names, [_compiled(expression) for expression in sorted(expressions)]


def keep(tensors: Sequence[Tensor], named: Matcher, layers: int, experts: Experts | None) -> tuple[Tensor, ...]:
    """Return `tensors` with those that the checkpoint keeps in 16 bit marked; some layers of one kind are split off.

    Dense layers of a model with experts are taken to be its first ones where the tensors do not say which they are.
    """
    return _marked(tensors, named, layers, experts, lambda piece: replace(piece, kept=True))


def assign(
    tensors: Sequence[Tensor], named: Matcher, layers: int, experts: Experts | None, how: CheckpointQuantization
) -> tuple[Tensor, ...]:
    """Return `tensors` with those that are named given their own quantization."""
    return _marked(tensors, named, layers, experts, lambda piece: replace(piece, how=how))


def _marked(
    tensors: Sequence[Tensor],
    named: Matcher,
    layers: int,
    experts: Experts | None,
    marked: Callable[[Tensor], Tensor],
) -> tuple[Tensor, ...]:
    sparse = experts.layers if experts is not None else 0
    found: list[Tensor] = []
    for piece in tensors:
        hit = _share(piece, named, layers, sparse) if piece.linear and not piece.kept else 0
        if hit < piece.count:
            found.append(replace(piece, count=piece.count - hit))
        if hit:
            found.append(marked(replace(piece, count=hit)))
    return tuple(found)


def _share(piece: Tensor, named: Matcher, layers: int, sparse: int) -> int:
    """Return how many of the piece's matrices are named."""
    sites = list(_sites(piece, layers, sparse))
    hits = sum(1 for spellings in sites if any(named(name) for name in spellings))
    return piece.count * hits // len(sites) if sites else 0


def _sites(piece: Tensor, layers: int, sparse: int) -> Iterator[tuple[str, ...]]:
    """Yield the spellings of each module of `piece`; the experts of a layer are one, as engines hold them."""
    if piece.role is Role.HEAD:
        yield ("lm_head", "output_layer", "output")
    elif piece.module:
        yield from ((f"model.layers.{layer}.{piece.module}",) for layer in piece.places)
    elif piece.role in ATTENTION_NAMES:
        yield from _spelled(piece, ATTENTION, piece.places or range(layers), ATTENTION_NAMES)
    elif piece.role in NETWORK_NAMES:
        parents, indices = _networks(piece, layers, sparse)
        yield from _spelled(piece, parents, piece.places or indices, NETWORK_NAMES)


def _networks(piece: Tensor, layers: int, sparse: int) -> tuple[tuple[str, ...], range]:
    """Return the parents of a network's modules and, where the piece does not say, the layers that have it."""
    first_sparse = layers - sparse
    if piece.role in (Role.EXPERT_GATE_UP, Role.EXPERT_DOWN):
        return tuple(f"{parent}.0" for parent in ROUTED) + ROUTED, range(first_sparse, layers)
    if piece.shared:
        return SHARED, range(first_sparse, layers)
    return DENSE, range(first_sparse if sparse else layers)


def _spelled(
    piece: Tensor,
    parents: tuple[str, ...],
    indices: Iterable[int],
    table: dict[Role, tuple[tuple[str, ...], tuple[str, ...]]],
) -> Iterator[tuple[str, ...]]:
    apart, fused = table[piece.role]
    if piece.role is Role.LATENT_DOWN:
        # Two pieces of one role: as many modules as this piece has a layer, named by either.
        apart, fused = apart[:1], apart[1:]
    for layer in indices:
        for projection in apart:
            yield tuple(f"model.layers.{layer}.{parent}.{name}" for parent in parents for name in (projection, *fused))


def _runs(module: str) -> Iterator[str]:
    """Yield every run of whole components: a parent that is named takes its children, a bare name every layer's."""
    components = module.split(".")
    for first in range(len(components)):
        for last in range(first + 1, len(components) + 1):
            yield ".".join(components[first:last])


def _without_prefix(pattern: str) -> str:
    for prefix in PREFIXES:
        if pattern.startswith(prefix):
            return "model." + pattern.removeprefix(prefix)
    return pattern.removeprefix("language_model.")


def _compiled(expression: str) -> re.Pattern[str]:
    """Compile a plain expression. One whose match may take exponential time is not matched at all."""
    repeats = len(re.findall(r"[*+{?]", expression))
    nested = re.search(r"\)[*+{?]|\\[1-9]|\(\?", expression)
    if len(expression) > LONGEST or repeats > MOST_REPEATS or nested:
        raise UnknownQuantizationError(f"the expression {expression[:60]!r} in its skip list")
    try:
        return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise UnknownQuantizationError(f"the broken expression {expression[:60]!r} in its skip list") from error
