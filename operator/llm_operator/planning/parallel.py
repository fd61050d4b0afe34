"""Which tensor parallelism an engine accepts for a model, and why not the others.

Counted are the text model's heads, never a vision tower's. What one engine alone refuses is in its folder.
"""

from __future__ import annotations

from llm_operator.memory.types import PlanRequest
from llm_operator.memory.weights import ROW_PARALLEL, quantization_in_force
from llm_operator.models import Role
from llm_operator.planning.engine import memory_of

MOST_RANKS = 64
NAMES = {
    Role.ATTENTION_OUTPUT: "the attention's output projection (o_proj)",
    Role.DOWN: "the feed-forward network's output (down_proj)",
    Role.EXPERT_DOWN: "the experts' output (down_proj)",
    Role.MIXER_OUT: "the state layers' output projection (out_proj)",
}
"""Of matrices whose inputs are split, in words for people."""


def objections(request: PlanRequest, tensor: int) -> tuple[str, ...]:
    """Return why the engine refuses `tensor` ranks for this model; empty if it accepts them."""
    if tensor == 1:
        return ()
    shape = request.shape
    found = []
    if shape.heads % tensor:
        found.append(f"tensor parallelism {tensor} does not divide the {shape.heads} attention heads")
    if not shape.is_latent and shape.kv_heads % tensor and tensor % shape.kv_heads:
        found.append(
            f"tensor parallelism {tensor} neither divides the {shape.kv_heads} KV heads nor is a multiple of them"
        )
    for states in shape.states:
        heads = states.heads or states.channels
        if heads % tensor or (states.groups % tensor and states.groups > tensor):
            found.append(
                f"tensor parallelism {tensor} does not divide the {heads} heads of the layers that keep a state"
            )
    engine = memory_of(request)
    if engine.pads_widths:
        if shape.hidden_size % tensor:
            found.append(f"tensor parallelism {tensor} does not divide hidden_size {shape.hidden_size}")
    else:
        found += _width_objections(request, tensor)
    found += engine.objections(request, tensor)
    return tuple(found)


def accepted(request: PlanRequest, most: int) -> tuple[int, ...]:
    """Return the numbers of ranks from 1 to `most` that the engine accepts, ascending."""
    return tuple(tensor for tensor in range(1, min(most, MOST_RANKS) + 1) if not objections(request, tensor))


def _width_objections(request: PlanRequest, tensor: int) -> list[str]:
    found = []
    quantization = quantization_in_force(request)
    for piece in request.shape.tensors:
        if piece.role not in ROW_PARALLEL or not piece.linear:
            continue
        if piece.columns % tensor:
            found.append(
                f"tensor parallelism {tensor} does not divide the {piece.columns} inputs of {NAMES[piece.role]}"
            )
            continue
        group = None
        if quantization is not None and not piece.kept and piece.role not in quantization.skipped:
            group = memory_of(request).least_group(piece, quantization)
        if group and piece.columns // tensor % group:
            found.append(
                f"tensor parallelism {tensor} leaves {piece.columns // tensor} inputs of {NAMES[piece.role]} a rank,"
                f" no multiple of the quantization group {group}"
            )
    return list(dict.fromkeys(found))
