"""Weight bytes on one rank: what is sharded, replicated, padded and repeated, and what a quantized matrix takes.

What engines do alike is here; WeightRules has what they do differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from llm_operator.memory.types import PlanRequest
from llm_operator.models import CheckpointQuantization, Role, Tensor

COLUMN_PARALLEL = frozenset(
    {Role.QUERY, Role.GATE_UP, Role.EXPERT_GATE_UP, Role.LATENT_QUERY, Role.LATENT_KEY_VALUE, Role.MIXER_IN}
)
ROW_PARALLEL = frozenset({Role.ATTENTION_OUTPUT, Role.DOWN, Role.EXPERT_DOWN, Role.MIXER_OUT})
GROUPS = {
    Role.EMBEDDING: "embedding",
    Role.HEAD: "head",
    Role.GATE_UP: "feedForward",
    Role.DOWN: "feedForward",
    Role.EXPERT_GATE_UP: "experts",
    Role.EXPERT_DOWN: "experts",
    Role.MIXER_IN: "mixers",
    Role.MIXER_OUT: "mixers",
    Role.TOWER_IN: "tower",
    Role.TOWER_OUT: "tower",
    Role.ROUTER: "replicated",
    Role.REPLICATED: "replicated",
}
# Unquantized weights are served in 16 bit, also those of a float32 checkpoint (`--dtype auto` of the engines).
SERVED_BYTES = 2


@dataclass(frozen=True, slots=True)
class WeightBytes:
    """Weights on one rank. tensors: their bytes; extra: what the engine holds beside them and counts as weights."""

    tensors: int
    extra: int

    @property
    def total(self) -> int:
        """Bytes of both."""
        return self.tensors + self.extra


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor as one rank holds it. codes: bytes without scales and zero points, which are small allocations."""

    tensor: Tensor
    rows: int
    columns: int
    bytes_each: float
    codes: float
    quantized: bool


class WeightRules(Protocol):
    """How an engine, or one of its backends, holds weights. `tensor` is the number of ranks."""

    def holds_wide_zeros(self, request: PlanRequest) -> bool:
        """Return whether 4-bit weights keep 16-bit zero points in memory."""
        ...

    def local_size(self, piece: Tensor, request: PlanRequest, tensor: int) -> tuple[int, int]:
        """Return rows and columns of a tensor on one rank; `even_share` is what engines do with most tensors."""
        ...

    def kernel_size(
        self, piece: Tensor, size: tuple[int, int], how: CheckpointQuantization, request: PlanRequest
    ) -> tuple[int, int]:
        """Return rows and columns of a quantized matrix, of that size on the rank, as the card's kernels hold it."""
        return size

    def extra_weights(self, request: PlanRequest, tensor: int, local: list[Piece]) -> int:
        """Return the bytes that the engine holds beside the tensors and counts as weights."""
        return 0


def quantization_in_force(request: PlanRequest) -> CheckpointQuantization | None:
    """Return how the served weights are quantized: by the checkpoint, by this project in advance, or while loading."""
    wanted = request.weight_quantization
    if wanted is None:
        return request.shape.quantization or request.loaded_as
    return CheckpointQuantization(
        wanted.method.lower(),
        wanted.bits,
        wanted.group_size,
        symmetric=False,
        version="gemm",
        skipped=frozenset({Role.HEAD}),
    )


def kv_heads_per_rank(kv_heads: int, tensor: int) -> int:
    """Return KV heads on one rank: an even share, or one repeated head if there are more ranks than heads."""
    return max(1, -(-kv_heads // tensor))


def weight_bytes(engine: WeightRules, request: PlanRequest, tensor: int) -> WeightBytes:
    """Return the bytes of the served weights on one of `tensor` ranks."""
    local = _on_rank(engine, request, tensor)
    total = int(sum(piece.bytes_each * piece.tensor.count for piece in local))
    return WeightBytes(total, engine.extra_weights(request, tensor, local))


def weight_groups(engine: WeightRules, request: PlanRequest, tensor: int) -> dict[str, int]:
    """Return the bytes on one of `tensor` ranks by what the tensors are for."""
    groups: dict[str, int] = {}
    for piece in _on_rank(engine, request, tensor):
        name = GROUPS.get(piece.tensor.role, "attention")
        groups[name] = groups.get(name, 0) + int(piece.bytes_each * piece.tensor.count)
    return groups


def _on_rank(engine: WeightRules, request: PlanRequest, tensor: int) -> list[Piece]:
    shape = request.shape
    quantization = quantization_in_force(request)
    wide_zeros = engine.holds_wide_zeros(request)
    local = []
    for piece in shape.tensors:
        rows, columns = engine.local_size(piece, request, tensor)
        how = piece.how or quantization
        quantized = how is not None and piece.linear and not piece.kept and piece.role not in how.skipped
        if quantized and how is not None:
            rows, columns = engine.kernel_size(piece, (rows, columns), how, request)
            size = quantized_bytes(rows, columns, how, wide_zeros=wide_zeros)
            codes = rows * columns * how.bits / 8
        else:
            size = codes = rows * columns * SERVED_BYTES
        local.append(Piece(piece, rows, columns, size, codes, quantized))
    return local


def even_share(piece: Tensor, request: PlanRequest, tensor: int) -> tuple[int, int]:
    """Return rows and columns of a tensor on one rank: sharded as its role says, else whole."""
    rows, columns, role = piece.rows, piece.columns, piece.role
    if role is Role.KEY_VALUE:
        heads = piece.heads or request.shape.kv_heads
        return rows // heads * kv_heads_per_rank(heads, tensor), columns
    if role in COLUMN_PARALLEL:
        return -(-rows // tensor), columns
    if role in ROW_PARALLEL:
        return rows, -(-columns // tensor)
    return rows, columns


def quantized_bytes(rows: int, columns: int, how: CheckpointQuantization, *, wide_zeros: bool) -> float:
    """Return the bytes of one quantized matrix with its scales and zero points."""
    if how.method in ("mxfp4", "nvfp4", "bitsandbytes") and how.group_size is not None:
        return rows * columns / 2 + rows * columns / how.group_size * how.scale_bits / 8
    if how.block is not None:
        blocks = -(-rows // how.block[0]) * -(-columns // how.block[1])
        return rows * columns * how.bits / 8 + 4 * blocks
    if how.method == "fp8" or how.group_size is None:
        return rows * columns * how.bits / 8 + 4 * rows
    groups = rows * -(-columns // how.group_size)
    packed_zero = 0.0 if how.symmetric and how.method in ("compressed-tensors", "int4", "int8") else how.bits / 8
    return rows * columns * how.bits / 8 + groups * (2 + (2 if wide_zeros else packed_zero))


def padded(value: int, multiple: int) -> int:
    """Return `value` rounded up to a multiple."""
    return -(-value // multiple) * multiple
