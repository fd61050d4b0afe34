"""Weight bytes on one rank: what is sharded, replicated, padded and repeated, and what a quantized matrix takes.

Sources: TurboMind and LMDeploy's pytorch backend 0.18.0 (turbomind/deploy, pytorch/nn), vLLM 0.33.0
(model_executor/layers/{linear,vocab_parallel_embedding}.py); AWQ in memory measured on an H200.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_operator.models import CheckpointQuantization, Role, Tensor
from llm_operator.planning.types import MIB, Backend, Engine, KVQuantization, PlanRequest

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
# Unquantized weights are served in 16 bit, also those of a float32 checkpoint (`--dtype auto` of both engines).
SERVED_BYTES = 2
VOCABULARY_PADDING = 64
# vLLM's MXFP4 kernels take experts in multiples of these, (intermediate, hidden): Triton's on Hopper, Marlin's and
# TensorRT-LLM's elsewhere (vLLM 0.33.0, fused_moe/oracle/mxfp4.py). gpt-oss is 2880 wide.
MXFP4_PADDING_HOPPER = (64, 1)
MXFP4_PADDING = (128, 256)

# The CUDA caching allocator of torch 2.x: up to 1 MiB from segments of 2 MiB, below 10 MiB from segments of 20 MiB,
# larger ones rounded up to 2 MiB (c10/cuda/CUDACachingAllocator.cpp). vLLM's "weights" count the segments.
SMALL_TENSOR = MIB
POOLED_TENSOR = 10 * MIB
POOLED_SEGMENT = 20 * MIB
SEGMENT = 2 * MIB


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
class _Local:
    """A tensor as one rank holds it. codes: bytes without scales and zero points, which are small allocations."""

    tensor: Tensor
    rows: int
    columns: int
    bytes_each: float
    codes: float
    quantized: bool


def quantization_in_force(request: PlanRequest) -> CheckpointQuantization | None:
    """Return how the served weights are quantized: by the checkpoint, or by this project beforehand."""
    wanted = request.weight_quantization
    if wanted is None:
        return request.shape.quantization
    return CheckpointQuantization(
        wanted.method.lower(),
        wanted.bits,
        wanted.group_size,
        symmetric=False,
        version="gemm",
        skipped=frozenset({Role.HEAD}),
    )


def kv_heads_per_rank(kv_heads: int, tensor: int) -> int:
    """Return KV heads on one rank: an even share, or one repeated head where there are more ranks than heads."""
    return max(1, -(-kv_heads // tensor))


def weight_bytes(request: PlanRequest, tensor: int) -> WeightBytes:
    """Return the bytes of the served weights on one of `tensor` ranks."""
    local = _on_rank(request, tensor)
    total = int(sum(piece.bytes_each * piece.tensor.count for piece in local))
    extra = _vllm_extra(request, tensor, local) if request.engine is Engine.VLLM else 0
    return WeightBytes(total, extra)


def weight_groups(request: PlanRequest, tensor: int) -> dict[str, int]:
    """Return the bytes on one of `tensor` ranks by what the tensors are for."""
    groups: dict[str, int] = {}
    for piece in _on_rank(request, tensor):
        name = GROUPS.get(piece.tensor.role, "attention")
        groups[name] = groups.get(name, 0) + int(piece.bytes_each * piece.tensor.count)
    return groups


def _on_rank(request: PlanRequest, tensor: int) -> list[_Local]:
    shape = request.shape
    quantization = quantization_in_force(request)
    wide_zeros = holds_wide_zeros(request)
    local = []
    for piece in shape.tensors:
        rows, columns = _local_size(piece, request, tensor)
        how = piece.how or quantization
        quantized = how is not None and piece.linear and not piece.kept and piece.role not in how.skipped
        if quantized and how is not None:
            if how.method == "mxfp4" and request.engine is Engine.VLLM:
                rows, columns = _mxfp4_size(piece.role, rows, columns, request)
            size = quantized_bytes(rows, columns, how, wide_zeros=wide_zeros)
            codes = rows * columns * how.bits / 8
        else:
            size = codes = rows * columns * SERVED_BYTES
        local.append(_Local(piece, rows, columns, size, codes, quantized))
    return local


def _mxfp4_size(role: Role, rows: int, columns: int, request: PlanRequest) -> tuple[int, int]:
    """Return the rows and columns of a matrix of experts as the kernels of the card hold it."""
    found = request.gpu.compute_capability
    inner, hidden = MXFP4_PADDING_HOPPER if found is not None and found[0] == 9 else MXFP4_PADDING
    if role is Role.EXPERT_DOWN:
        return padded(rows, hidden), padded(columns, inner)
    return padded(rows, inner), padded(columns, hidden)


def holds_wide_zeros(request: PlanRequest) -> bool:
    """Return whether 4-bit weights keep 16-bit zero points in memory.

    TurboMind always does (4.25 bits per weight at group 128, measured); vLLM where its Machete kernel runs, compute
    capability 9.0 (measured on an H200); elsewhere vLLM's Marlin keeps them packed.
    """
    if request.engine is Engine.LMDEPLOY:
        return request.backend is Backend.TURBOMIND
    return request.gpu.compute_capability is not None and request.gpu.compute_capability[0] == 9


def _local_size(piece: Tensor, request: PlanRequest, tensor: int) -> tuple[int, int]:
    rows, columns, role = piece.rows, piece.columns, piece.role
    if role is Role.EMBEDDING:
        return _embedding_size(rows, columns, request, tensor)
    if role is Role.HEAD:
        return _head_size(rows, columns, request, tensor)
    if role is Role.KEY_VALUE:
        heads = piece.heads or request.shape.kv_heads
        return rows // heads * kv_heads_per_rank(heads, tensor), columns
    towers = request.engine is Engine.VLLM
    if role in COLUMN_PARALLEL or (towers and role is Role.TOWER_IN):
        return -(-rows // tensor), columns
    if role in ROW_PARALLEL or (towers and role is Role.TOWER_OUT):
        return rows, -(-columns // tensor)
    return rows, columns


def _embedding_size(rows: int, columns: int, request: PlanRequest, tensor: int) -> tuple[int, int]:
    if request.engine is Engine.VLLM:
        return padded(rows, VOCABULARY_PADDING) // tensor, columns
    if request.backend is Backend.TURBOMIND:
        return rows, -(-columns // tensor)
    return rows, columns


def _head_size(rows: int, columns: int, request: PlanRequest, tensor: int) -> tuple[int, int]:
    if request.engine is Engine.VLLM:
        return padded(rows, VOCABULARY_PADDING) // tensor, columns
    if request.backend is Backend.TURBOMIND:
        return padded(rows, 8 * tensor) // tensor, columns
    return rows, columns


def second_copy_of_tied_head(request: PlanRequest, tensor: int) -> int:
    """Return the bytes of the copy that TurboMind makes of a tied embedding, which it shards in two ways; else 0."""
    shape = request.shape
    if not shape.tied_embeddings or request.engine is Engine.VLLM or request.backend is not Backend.TURBOMIND:
        return 0
    return padded(shape.vocabulary_size, 8 * tensor) // tensor * shape.hidden_size * SERVED_BYTES


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


def _vllm_extra(request: PlanRequest, tensor: int, local: list[_Local]) -> int:
    """Return what vLLM counts as weights beside the tensors: rope tables, absorbed latents, kernels, allocator gaps."""
    shape = request.shape
    rope = shape.context_length * shape.rotary_dim * SERVED_BYTES * shape.rotary_tables
    absorbed = sum(
        piece.rows * piece.columns * piece.tensor.count * SERVED_BYTES
        for piece in local
        if piece.tensor.role is Role.LATENT_KEY_VALUE
    )
    machete = 32 * MIB if holds_wide_zeros(request) and any(piece.quantized for piece in local) else 0
    scales = 32 * MIB if request.kv_quantization is KVQuantization.FP8 else 0
    return rope + absorbed + machete + scales + _allocator_gaps(_fused(local))


def _fused(local: list[_Local]) -> list[tuple[float, int]]:
    """Return (bytes, count) of matrices as vLLM allocates them: q, k, v in one, gate and up in one, experts in one."""
    sizes: list[tuple[float, int]] = []
    key_value = {
        piece.tensor.kept: 2 * piece.codes for piece in local if piece.tensor.role is Role.KEY_VALUE and _matrix(piece)
    }
    for piece in local:
        role, count = piece.tensor.role, piece.tensor.count
        if not _matrix(piece) or role is Role.KEY_VALUE:
            continue
        if role is Role.QUERY:
            sizes.append((piece.codes + key_value.get(piece.tensor.kept, 0.0), count))
        elif role is Role.GATE_UP:
            sizes.append((2 * piece.codes, count // 2))
        elif role in (Role.EXPERT_GATE_UP, Role.EXPERT_DOWN):
            sizes.append((piece.codes * count, 1))
        else:
            sizes.append((piece.codes, count))
    return sizes


def _matrix(piece: _Local) -> bool:
    return piece.rows > 1 and piece.columns > 1


def _allocator_gaps(sizes: list[tuple[float, int]]) -> int:
    gaps, pooled = 0, 0
    for size, count in sizes:
        whole = int(size)
        if whole >= POOLED_TENSOR:
            gaps += (padded(whole, SEGMENT) - whole) * count
        elif whole > SMALL_TENSOR:
            pooled += whole * count
    return gaps + padded(pooled, POOLED_SEGMENT) - pooled


def padded(value: int, multiple: int) -> int:
    """Return `value` rounded up to a multiple."""
    return -(-value // multiple) * multiple
