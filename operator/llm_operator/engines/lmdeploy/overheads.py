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
    if shape.is_latent:
        # torch multiplies the latents' projections on the first GPU and keeps its libraries there: 700 MiB on one GPU,
        # 390 on the first of two, by whose memory the cache is sized (GLM-4.7-Flash's shape).
        folding = (80 + 620 // tensor) * MIB
        before.append(Overhead("folding of latents", folding, folding + 300 * MIB, MEASURED_PAIR))
    before += _turbomind_kernels(request, tensor, held)
    # Warm-up runs the prefill and one batch of 1024; gate and up in one buffer, hidden states in two, 16 bit; experts
    # take a copy of a token's hidden state each.
    tokens = batch.tokens + 1024
    copies = shape.experts.per_token if shape.experts is not None else 0
    buffers = tokens * 2 * (2 * -(-_width(shape) // tensor) + (2 + copies) * shape.hidden_size) + 362 * MIB
    after = (
        Overhead("runtime buffers", buffers, buffers + 128 * MIB, MEASURED),
        *_turbomind_delta_nets(request, tensor, tokens),
        *_turbomind_first_steps(tensor),
        Overhead("growth under load", 172 * MIB, 600 * MIB, MEASURED),
    )
    return Runtime(tuple(before), after)


def _turbomind_delta_nets(request: PlanRequest, tensor: int, tokens: int) -> tuple[Overhead, ...]:
    """Return the buffers of a layer that keeps a state (LMDeploy 0.16.0, models/llama/GatedDeltaNetLayer.cc).

    Its projections, the convolution and the output in 16 bit, two gates of each head in 32 bit, and a row of 64 for
    each head, in chunks of 64 tokens. 64 MiB more were measured with two models.
    """
    if not request.shape.states:
        return ()
    widest = 0
    for layers in request.shape.states:
        mixed = layers.channels + 2 * layers.groups * layers.group_size
        widest = max(widest, 2 * (2 * mixed + 2 * layers.channels + 2 * layers.heads) + layers.heads * (8 + 2 * 64))
    likely = tokens * -(-widest // tensor) + 64 * MIB
    return (Overhead("buffers of delta nets", likely, likely + 128 * MIB, MEASURED_PAIR),)


def _turbomind_first_steps(tensor: int) -> tuple[Overhead, ...]:
    """Return what ranks take for each other after the cache was sized: 180 to 370 MiB with six models on two GPUs."""
    return (Overhead("first steps of NCCL", 250 * MIB, 400 * MIB, MEASURED_PAIR),) if tensor > 1 else ()


def _turbomind_kernels(request: PlanRequest, tensor: int, held: int) -> tuple[Overhead, ...]:
    """Return what TurboMind takes beyond the bytes of quantized weights while it converts them to its own layout.

    4 bit, beyond 4.25 a weight: 1,170 to 1,330 MiB for a 7B on one GPU; on each of two 728 for a 7B, 2,239 for a 32B,
    4,452 for a 70B and 1,378 for 12 layers of a 235B mixture of experts. It grows with the quantized weights of a rank,
    and less where these are experts. MXFP4: 99 MiB on one GPU, 174 on each of two (gpt-oss-20b).
    """
    how = quantization_in_force(request)
    if how is None:
        return ()
    if how.method == "mxfp4":
        likely = 100 * MIB if tensor == 1 else 175 * MIB
        return (Overhead("quantized kernels", likely, likely + 300 * MIB, MEASURED_PAIR),)
    likely = 163 * MIB + held * (14 if request.shape.experts is not None else 22) // 100
    return (Overhead("quantized kernels", likely, likely + 300 * MIB + held // 8, MEASURED_PAIR),)


def _pytorch_kernels(request: PlanRequest, held: int) -> Overhead:
    """Return what quantized weights take beyond their bytes.

    On compute capability 9.0 the bundled GEMM holds 4-bit codes a second time, in another layout (a 7B: 4.2 GiB more).
    The FP8 and MXFP4 kernels read the weights as they are stored (0.18.0, pytorch/kernels/cuda/blocked_gemm_fp8.py);
    what they take was not measured.
    """
    how = quantization_in_force(request)
    if how is not None and how.method in ("fp8", "mxfp4"):
        return Overhead("quantized kernels", 512 * MIB, 2048 * MIB, "read in the code of 0.18.0, not measured")
    hopper = request.gpu.compute_capability is not None and request.gpu.compute_capability[0] == 9
    likely = int(held * 0.75) + 600 * MIB if hopper else 512 * MIB
    return Overhead("quantized kernels", likely, held + 1024 * MIB, MEASURED + ", one model")


def pytorch(request: PlanRequest, tensor: int, held: int) -> Runtime:
    """Return the PyTorch backend's overheads on one rank. held: bytes of the weights there."""
    before = [
        Overhead("context and libraries", 700 * MIB, 956 * MIB, MEASURED),
        nccl(tensor, 64, 320, MEASURED_PAIR),
    ]
    if quantization_in_force(request) is not None:
        before.append(_pytorch_kernels(request, held))
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
