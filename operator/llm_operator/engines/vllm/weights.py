"""How vLLM holds weights: sharding, kernels' layouts, and what it counts as weights beside the tensors.

Sources: vLLM 0.33.0 (model_executor/layers/{linear,vocab_parallel_embedding}.py); AWQ in memory measured on an H200.
"""

from __future__ import annotations

from llm_operator.memory.types import MIB, KVQuantization, PlanRequest
from llm_operator.memory.versions import release
from llm_operator.memory.weights import SERVED_BYTES, Piece, even_share, padded
from llm_operator.models import Role, Tensor

VOCABULARY_PADDING = 64
# vLLM's MXFP4 kernels take experts in multiples of these, (intermediate, hidden): Triton's on Hopper, Marlin's and
# TensorRT-LLM's elsewhere (vLLM 0.20.2 to 0.33.0, fused_moe/oracle/mxfp4.py). gpt-oss is 2880 wide.
MXFP4_PADDING_HOPPER = (64, 1)
MXFP4_PADDING = (128, 256)
MXFP4_PADDING_BLACKWELL_BEFORE_0_33 = (256, 256)
MXFP4_PADDING_OF_KERNELS = {
    "marlin": MXFP4_PADDING,
    "triton": MXFP4_PADDING_HOPPER,
    "triton_unfused": MXFP4_PADDING_HOPPER,
    "flashinfer_cutlass": (128, 128),
    "deep_gemm": (128, 128),
}
"""Of kernels that the user sets, on any card; what is not named here is padded as the card's kernels are."""
# The CUDA caching allocator of torch 2.x: up to 1 MiB from segments of 2 MiB, below 10 MiB from segments of 20 MiB,
# larger ones rounded up to 2 MiB (c10/cuda/CUDACachingAllocator.cpp). vLLM's "weights" count the segments.
SMALL_TENSOR = MIB
POOLED_TENSOR = 10 * MIB
POOLED_SEGMENT = 20 * MIB
SEGMENT = 2 * MIB
SEEN_POSITIONS = 4
SHORT_TABLES = frozenset({"Qwen3VL", "Qwen3_5"})


def holds_wide_zeros(request: PlanRequest) -> bool:
    """Return whether 4-bit weights keep 16-bit zero points in memory.

    They do where the Machete kernel runs, compute capability 9.0 (measured on an H200); elsewhere Marlin keeps them
    packed.
    """
    return request.gpu.compute_capability is not None and request.gpu.compute_capability[0] == 9


def local_size(piece: Tensor, request: PlanRequest, tensor: int) -> tuple[int, int]:
    """Return rows and columns of a tensor on one rank: vocabularies are padded, towers sharded as decoders are."""
    if piece.role in (Role.EMBEDDING, Role.HEAD):
        return padded(piece.rows, VOCABULARY_PADDING) // tensor, piece.columns
    if piece.role is Role.TOWER_IN:
        return -(-piece.rows // tensor), piece.columns
    if piece.role is Role.TOWER_OUT:
        return piece.rows, -(-piece.columns // tensor)
    return even_share(piece, request, tensor)


def mxfp4_kernels(request: PlanRequest) -> str:
    """Return the kernels that the user sets; empty: vLLM takes those of the card.

    Before 0.26.0 adapters need Marlin's (0.20.2, fused_moe/oracle/mxfp4.py, select_gpt_oss_mxfp4_moe_backend).
    """
    if not request.expert_kernels and request.adapters is not None and release(request.version) < (0, 26):
        return "marlin"
    return request.expert_kernels


def mxfp4_size(role: Role, rows: int, columns: int, request: PlanRequest) -> tuple[int, int]:
    """Return the rows and columns of a matrix of experts as the kernels of the card hold it."""
    found = request.gpu.compute_capability
    inner, hidden = MXFP4_PADDING
    asked = MXFP4_PADDING_OF_KERNELS.get(mxfp4_kernels(request))
    if asked is not None:
        inner, hidden = asked
    elif found is not None and found[0] == 9:
        inner, hidden = MXFP4_PADDING_HOPPER
    elif found is not None and found[0] == 10 and release(request.version) < (0, 33):
        inner, hidden = MXFP4_PADDING_BLACKWELL_BEFORE_0_33
    if role is Role.EXPERT_DOWN:
        return padded(rows, hidden), padded(columns, inner)
    return padded(rows, inner), padded(columns, hidden)


def extra_weights(request: PlanRequest, tensor: int, local: list[Piece]) -> int:
    """Return what vLLM counts as weights beside the tensors: rope tables, absorbed latents, kernels, allocator gaps."""
    shape = request.shape
    rope = shape.context_length * shape.rotary_dim * SERVED_BYTES * shape.rotary_tables * _stretch(request)
    absorbed = sum(
        piece.rows * piece.columns * piece.tensor.count * SERVED_BYTES
        for piece in local
        if piece.tensor.role is Role.LATENT_KEY_VALUE
    )
    machete = 32 * MIB if holds_wide_zeros(request) and any(piece.quantized for piece in local) else 0
    scales = 32 * MIB if request.kv_quantization is KVQuantization.FP8 else 0
    return rope + absorbed + machete + scales + _allocator_gaps(_fused(local))


def _stretch(request: PlanRequest) -> int:
    """Return how much longer than the context the rope tables of a model that sees are.

    0.20.2 and 0.26.0, layers/rotary_embedding/mrope.py: four times, for videos; 0.33.0: not for Qwen3-VL and Qwen3.5
    (models/qwen3_vl.py, mrope_positions_factor).
    """
    if not request.shape.rotary_sections:
        return 1
    return 1 if request.shape.family in SHORT_TABLES and release(request.version) >= (0, 33) else SEEN_POSITIONS


def _fused(local: list[Piece]) -> list[tuple[float, int]]:
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


def _matrix(piece: Piece) -> bool:
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
