"""What LMDeploy's backends take beside weights and KV cache. Formulas marked "measured" hold for LMDeploy 0.18.0."""

from __future__ import annotations

from llm_operator.memory.overheads import Batch, Runtime, dense_width, nccl
from llm_operator.memory.types import MIB, Overhead, PlanRequest
from llm_operator.memory.weights import SERVED_BYTES, padded, quantization_in_force
from llm_operator.models import ModelShape

PREFILL = 8192
MEASURED = "measured, LMDeploy 0.18.0 on an H200"
MEASURED_PAIR = "measured, LMDeploy 0.18.0 on two H200"


def default_batch(request: PlanRequest) -> Batch:
    """Return the batch limits: the request's, else LMDeploy's defaults for this card (utils.py, get_max_batch_size)."""
    product = request.gpu.product.upper()
    large = any(name in product for name in ("H100", "H800", "H200", "L20Y"))
    medium = any(name in product for name in ("A100", "A800"))
    sequences = 1024 if large else 384 if medium else 128
    return Batch(request.max_concurrent_sequences or sequences, request.max_batched_tokens or PREFILL)


def second_copy_of_tied_head(request: PlanRequest, tensor: int) -> int:
    """Return the bytes of the copy that TurboMind makes of a tied embedding, which it shards in two ways; else 0."""
    shape = request.shape
    if not shape.tied_embeddings:
        return 0
    return padded(shape.vocabulary_size, 8 * tensor) // tensor * shape.hidden_size * SERVED_BYTES


def _width(shape: ModelShape) -> int:
    """Return the widest intermediate a token passes: dense, or all its experts together."""
    experts = shape.experts
    return max(dense_width(shape), experts.per_token * experts.intermediate_size if experts else 0)


def turbomind(request: PlanRequest, tensor: int, batch: Batch, held: int) -> Runtime:
    """Return TurboMind's overheads on one rank. held: bytes of the weights there."""
    shape = request.shape
    before = [
        Overhead("context and libraries", 980 * MIB, 1236 * MIB, MEASURED),
        nccl(tensor, 296, 640, MEASURED_PAIR),
    ]
    copy = second_copy_of_tied_head(request, tensor)
    if copy:
        before.append(Overhead("second copy of the tied embedding", copy, copy, "LMDeploy turbomind/deploy"))
    if quantization_in_force(request) is not None:
        # Beyond the 4.25 bits per weight: 1,170 to 1,330 MiB for a 7B on one GPU, 728 on each of two, 2,239 for a 32B
        # on each of two; the cause was not traced. It grows with the quantized weights of a rank.
        likely = 150 * MIB + held * 24 // 100
        before.append(Overhead("quantized kernels", likely, likely + 300 * MIB + held // 8, MEASURED_PAIR))
    # Warm-up runs the prefill and one batch of 1024; gate and up in one buffer, hidden states in two, 16 bit.
    tokens = batch.tokens + 1024
    buffers = tokens * 2 * (2 * -(-_width(shape) // tensor) + 2 * shape.hidden_size) + 362 * MIB
    after = (
        Overhead("runtime buffers", buffers, buffers + 128 * MIB, MEASURED),
        Overhead("growth under load", 172 * MIB, 600 * MIB, MEASURED),
    )
    return Runtime(tuple(before), after)


def pytorch(request: PlanRequest, tensor: int, held: int) -> Runtime:
    """Return the PyTorch backend's overheads on one rank. held: bytes of the weights there."""
    before = [
        Overhead("context and libraries", 700 * MIB, 956 * MIB, MEASURED),
        nccl(tensor, 64, 320, MEASURED_PAIR),
    ]
    if quantization_in_force(request) is not None:
        # On compute capability 9.0 the bundled GEMM holds the codes again in a layout of its own (7B: 4.2 GiB more).
        again = held
        hopper = request.gpu.compute_capability is not None and request.gpu.compute_capability[0] == 9
        likely = int(again * 0.75) + 600 * MIB if hopper else 512 * MIB
        before.append(Overhead("quantized kernels", likely, again + 1024 * MIB, MEASURED + ", one model"))
    after = (
        Overhead("CUDA graphs and start", 450 * MIB, 830 * MIB, MEASURED),
        Overhead("growth under load", 1550 * MIB, 1800 * MIB, MEASURED),
        *_pytorch_experts(request),
        # Most of it comes with the first steps, after the cache was sized.
        nccl(tensor, 700, 1100, MEASURED_PAIR),
    )
    return Runtime(tuple(before), after)


def _pytorch_experts(request: PlanRequest) -> tuple[Overhead, ...]:
    """Return what experts take beside the cache: 4,131 MiB in all on each of two GPUs, most of it at the start."""
    if request.shape.experts is None:
        return ()
    return (Overhead("experts", 1100 * MIB, 1500 * MIB, MEASURED_PAIR),)


def pytorch_reserve(request: PlanRequest, batch: Batch) -> int:
    """Return what LMDeploy's pytorch backend sets aside before its ratio (pytorch/engine/executor/base.py).

    Logits of the prefill and two batches in 16 bit. Where 16 blocks do not fit beside them the engine halves the
    prefill; a plan does not count on that, as a little more memory would then mean fewer tokens.
    """
    return (batch.tokens + 2 * batch.sequences) * request.shape.vocabulary_size * 2
