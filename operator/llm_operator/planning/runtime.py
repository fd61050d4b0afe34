"""Memory that is neither weights nor KV cache: what an engine takes before it sizes the cache, and after.

None of this is exact. Each part has a likely amount, from the engine's arithmetic where it is known and from starts
measured on an H200 otherwise, and a bound. Formulas marked "measured" hold for vLLM 0.26.0 and LMDeploy 0.18.0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_operator.models import ModelShape, Role
from llm_operator.planning.types import GIB, MIB, Backend, Engine, Overhead, PlanRequest
from llm_operator.planning.weights import (
    holds_wide_zeros,
    quantization_in_force,
    second_copy_of_tied_head,
    weight_bytes,
)

LMDEPLOY_PREFILL = 8192
LARGE_CARD = 70 * GIB
LARGEST_CARD = 160 * GIB

MEASURED_LMDEPLOY = "measured, LMDeploy 0.18.0 on an H200"
MEASURED_VLLM = "measured, vLLM 0.26.0 on an H200"
MEASURED_LMDEPLOY_PAIR = "measured, LMDeploy 0.18.0 on two H200"
MEASURED_VLLM_PAIR = "measured, vLLM 0.26.0 on two H200"
REPORTED = "reported starts of vLLM 0.8 to 0.11, docs/planner-accuracy.md"
# Cards whose ranks talk over PCIe: NCCL keeps no NVLink buffers there.
PCIE_ONLY = ("L40", "L4", "A10", "A16", "A2", "T4", "PCIE", "RTX", "GEFORCE", "P40", "P4")


@dataclass(frozen=True, slots=True)
class Batch:
    """sequences: most requests in one step; tokens: prefill tokens of one step."""

    sequences: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Runtime:
    """Overheads of one rank: `before` is gone when the cache is sized, `after` must find room beside the cache."""

    before: tuple[Overhead, ...]
    after: tuple[Overhead, ...]

    @property
    def before_likely(self) -> int:
        """Likely bytes gone before the cache is sized."""
        return sum(part.likely for part in self.before)

    @property
    def before_high(self) -> int:
        """Bound of the bytes gone before the cache is sized."""
        return sum(part.high for part in self.before)

    @property
    def after_likely(self) -> int:
        """Likely bytes needed beside the cache."""
        return sum(part.likely for part in self.after)

    @property
    def after_high(self) -> int:
        """Bound of the bytes needed beside the cache."""
        return sum(part.high for part in self.after)


def small_batch(request: PlanRequest) -> Batch:
    """Return vLLM's limits for cards below 70 GiB, or the request's own."""
    sequences = request.max_concurrent_sequences or _at_most(256, request)
    return Batch(sequences, request.max_batched_tokens or max(2048, sequences))


def default_batch(request: PlanRequest) -> Batch:
    """Return the batch limits: the request's, else the engine's defaults for this card.

    LMDeploy: lmdeploy/utils.py get_max_batch_size, by product name. vLLM: engine/arg_utils.py, by memory.
    """
    memory, product = request.gpu.memory_bytes, request.gpu.product.upper()
    if request.engine is Engine.LMDEPLOY:
        large = any(name in product for name in ("H100", "H800", "H200", "L20Y"))
        medium = any(name in product for name in ("A100", "A800"))
        batch = Batch(1024 if large else 384 if medium else 128, LMDEPLOY_PREFILL)
    elif memory < LARGE_CARD or "A100" in product:
        batch = Batch(256, 2048)
    else:
        batch = Batch(1024, 16384 if memory >= LARGEST_CARD else 8192)
    if request.engine is Engine.VLLM:
        batch = replace(batch, sequences=_at_most(batch.sequences, request))
    return Batch(request.max_concurrent_sequences or batch.sequences, request.max_batched_tokens or batch.tokens)


def _at_most(sequences: int, request: PlanRequest) -> int:
    """Return a default number of sequences: vLLM lowers it to the batched tokens (engine/arg_utils.py)."""
    return sequences if request.max_batched_tokens is None else min(sequences, request.max_batched_tokens)


def runtime(request: PlanRequest, tensor: int, batch: Batch) -> Runtime:
    """Return the overheads of one rank."""
    if request.engine is Engine.VLLM:
        return _vllm(request, tensor, batch)
    if request.backend is Backend.TURBOMIND:
        return _turbomind(request, tensor, batch)
    return _pytorch(request, tensor)


def pytorch_reserve(request: PlanRequest, batch: Batch) -> int:
    """Return what LMDeploy's pytorch backend sets aside before its ratio (pytorch/engine/executor/base.py).

    Logits of the prefill and two batches in 16 bit. Where 16 blocks do not fit beside them the engine halves the
    prefill; a plan does not count on that, as a little more memory would then mean fewer tokens.
    """
    return (batch.tokens + 2 * batch.sequences) * request.shape.vocabulary_size * 2


def vllm_profile(request: PlanRequest, tensor: int) -> tuple[Overhead, ...]:
    """Return what vLLM subtracts from its share of the total beside the weights, for a server sized by utilization."""
    batch = default_batch(request)
    older = uses_older_runner(request)
    peak = _vllm_activation(request, tensor, batch, older=older)
    # Compiling from scratch, as in a fresh pod, raises the profiled peak by 60 to 78 MiB over a warm start.
    parts = [
        Overhead(
            "activation peak", peak, _vllm_activation(request, tensor, batch, older=True) + 640 * MIB, MEASURED_VLLM
        ),
        _vllm_libraries(tensor),
        # What two ranks take is there before vLLM begins to count; what more ranks and repacking take is not.
        *(part for part in _vllm_links(request, tensor) if part.name != "NCCL"),
        *_vllm_kernels(request, tensor),
    ]
    images = _vllm_tower(request, tensor, batch)
    if images > peak:
        parts.append(Overhead("images", images - peak, (images - peak) * 3 // 2, "vLLM v1/worker/gpu_model_runner.py"))
    if older and not request.enforce_eager:
        parts.append(Overhead("CUDA graph estimate", 650 * MIB, 1024 * MIB, MEASURED_VLLM))
    return tuple(parts)


def uses_older_runner(request: PlanRequest) -> bool:
    """Return whether vLLM's older model runner is likely used: before 0.26, and since for experts without latents."""
    if request.older_runner is not None:
        return request.older_runner
    shape = request.shape
    return _numbers(request.version) < (0, 26) or (shape.experts is not None and not shape.is_latent)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _nccl(tensor: int, likely: int, high: int, source: str) -> Overhead:
    """Return what communication between ranks takes, in MiB. Measured between two; the bounds leave room for more."""
    unit = MIB if tensor > 1 else 0
    return Overhead("NCCL", likely * unit, high * unit, source)


def _over_pcie(product: str) -> bool:
    """Return whether cards of this name have no NVLink; A100 and A800 end in digits that A10 begins with."""
    names = product.upper().replace("_", "-").split("-")
    return any(name in PCIE_ONLY or name.rstrip("ADSTI") in PCIE_ONLY for name in names)


def _vllm_links(request: PlanRequest, tensor: int) -> tuple[Overhead, ...]:
    """Return what vLLM's ranks take to talk to each other.

    Two were measured over NVLink. Beyond two, and over PCIe, there are reports only: 70B at TP 4 and 8 took 1.7 GiB
    more a GPU than two ranks would, mixtures of experts (235B at TP 4, 671B at TP 8) 4.6 to 4.9 GiB more, PCIe cards
    about 1 GiB less. The bounds cover them.
    """
    if tensor == 1:
        return ()
    found = [_nccl(tensor, 970, 1536, MEASURED_VLLM_PAIR)]
    if _over_pcie(request.gpu.product):
        found = [_nccl(tensor, 250, 1536, REPORTED)]
    elif tensor > 2:
        doublings = (tensor - 1).bit_length() - 1
        found.append(Overhead("links between more ranks", 700 * MIB * doublings, 1100 * MIB * doublings, REPORTED))
        if request.shape.experts is not None:
            # A start of 2026 (MiniMax-M2.5 at TP 4) took far less than those of 2025.
            likely = 3200 * MIB if _numbers(request.version) < (0, 12) else 1600 * MIB
            found.append(Overhead("experts over ranks", likely, 4300 * MIB, REPORTED))
    return tuple(found)


def _vllm_kernels(request: PlanRequest, tensor: int) -> tuple[Overhead, ...]:
    """Return what MXFP4 experts take beyond their bytes on Hopper, whose kernels lay them out anew.

    gpt-oss-120b on one H100: three public starts had 4 to 6 GiB less than their weights leave.
    """
    quantization = quantization_in_force(request)
    if quantization is None or quantization.method != "mxfp4" or not _compute_capability(request, 9):
        return ()
    experts = sum(
        piece.parameters for piece in request.shape.tensors if piece.role in (Role.EXPERT_GATE_UP, Role.EXPERT_DOWN)
    )
    held = experts * 17 // 32 // tensor
    return (Overhead("MXFP4 layout", held * 14 // 100, held * 18 // 100, REPORTED),)


def _compute_capability(request: PlanRequest, major: int) -> bool:
    found = request.gpu.compute_capability
    return found is not None and found[0] == major


def _vllm_libraries(tensor: int) -> Overhead:
    """Return what vLLM counts as taken by libraries: with several ranks most of it is there before it begins to count.

    v1/worker/gpu_worker.py, init_device: the snapshot comes after the ranks have met.
    """
    if tensor > 1:
        return Overhead("libraries", 68 * MIB, 312 * MIB, MEASURED_VLLM_PAIR)
    return Overhead("libraries", 230 * MIB, 312 * MIB, MEASURED_VLLM)


def _width(shape: ModelShape) -> int:
    """Return the widest intermediate a token passes: dense, or all its experts together."""
    dense = max((piece.rows for piece in shape.tensors if piece.role is Role.GATE_UP and piece.columns > 1), default=0)
    experts = shape.experts
    return max(dense, experts.per_token * experts.intermediate_size if experts else 0)


def _turbomind(request: PlanRequest, tensor: int, batch: Batch) -> Runtime:
    shape = request.shape
    before = [
        Overhead("context and libraries", 980 * MIB, 1236 * MIB, MEASURED_LMDEPLOY),
        _nccl(tensor, 296, 640, MEASURED_LMDEPLOY_PAIR),
    ]
    copy = second_copy_of_tied_head(request, tensor)
    if copy:
        before.append(Overhead("second copy of the tied embedding", copy, copy, "LMDeploy turbomind/deploy"))
    if quantization_in_force(request) is not None:
        # Beyond the 4.25 bits per weight: 1,170 to 1,330 MiB for a 7B on one GPU, 728 on each of two, 2,239 for a 32B
        # on each of two; the cause was not traced. It grows with the quantized weights of a rank.
        held = weight_bytes(request, tensor).tensors
        likely = 150 * MIB + held * 24 // 100
        before.append(Overhead("quantized kernels", likely, likely + 300 * MIB + held // 8, MEASURED_LMDEPLOY_PAIR))
    # Warm-up runs the prefill and one batch of 1024; gate and up in one buffer, hidden states in two, 16 bit.
    tokens = batch.tokens + 1024
    buffers = tokens * 2 * (2 * -(-_width(shape) // tensor) + 2 * shape.hidden_size) + 362 * MIB
    after = (
        Overhead("runtime buffers", buffers, buffers + 128 * MIB, MEASURED_LMDEPLOY),
        Overhead("growth under load", 172 * MIB, 600 * MIB, MEASURED_LMDEPLOY),
    )
    return Runtime(tuple(before), after)


def _pytorch(request: PlanRequest, tensor: int) -> Runtime:
    before = [
        Overhead("context and libraries", 700 * MIB, 956 * MIB, MEASURED_LMDEPLOY),
        _nccl(tensor, 64, 320, MEASURED_LMDEPLOY_PAIR),
    ]
    if quantization_in_force(request) is not None:
        # On compute capability 9.0 the bundled GEMM holds the codes again in a layout of its own (7B: 4.2 GiB more).
        again = weight_bytes(request, tensor).tensors
        hopper = request.gpu.compute_capability is not None and request.gpu.compute_capability[0] == 9
        likely = int(again * 0.75) + 600 * MIB if hopper else 512 * MIB
        before.append(Overhead("quantized kernels", likely, again + 1024 * MIB, MEASURED_LMDEPLOY + ", one model"))
    after = (
        Overhead("CUDA graphs and start", 450 * MIB, 830 * MIB, MEASURED_LMDEPLOY),
        Overhead("growth under load", 1550 * MIB, 1800 * MIB, MEASURED_LMDEPLOY),
        *_pytorch_experts(request),
        # Most of it comes with the first steps, after the cache was sized.
        _nccl(tensor, 700, 1100, MEASURED_LMDEPLOY_PAIR),
    )
    return Runtime(tuple(before), after)


def _pytorch_experts(request: PlanRequest) -> tuple[Overhead, ...]:
    """Return what experts take beside the cache: 4,131 MiB in all on each of two GPUs, most of it at the start."""
    if request.shape.experts is None:
        return ()
    return (Overhead("experts", 1100 * MIB, 1500 * MIB, MEASURED_LMDEPLOY_PAIR),)


def _vllm_tower(request: PlanRequest, tensor: int, batch: Batch) -> int:
    """Return the peak of the image encoder in vLLM's profile run, which fills a step with the largest images.

    v1/worker/gpu_model_runner.py, profile_run: as many items as the batched tokens hold, at least one; attention works
    in place of a matrix of scores. Queries, keys, values, input and both halves of a gated network live at once.
    """
    tower = request.shape.tower
    if tower is None:
        return 0
    items = max(batch.tokens // max(tower.tokens, 1), 1)
    patches = items * tower.patches
    width = 4 * tower.hidden + -(-(3 * tower.intermediate) // tensor)
    return patches * width * 2 + items * tower.tokens * request.shape.hidden_size * 2


def _vllm(request: PlanRequest, tensor: int, batch: Batch) -> Runtime:
    shape = request.shape
    before = (
        Overhead("context", 522 * MIB, 640 * MIB, MEASURED_VLLM),
        _vllm_libraries(tensor),
        *_vllm_links(request, tensor),
        *_vllm_kernels(request, tensor),
    )
    older = uses_older_runner(request)
    peak = _vllm_activation(request, tensor, batch, older=older)
    # The sampler's warm-up sorts all logits: about 24 bytes per sequence and vocabulary entry, kept by the allocator
    # and used again by activations.
    sampler = 24 * batch.sequences * shape.vocabulary_size
    images = _vllm_tower(request, tensor, batch)
    most = max(peak, sampler, images)
    after = (
        Overhead("activations or sampler", most, most + 512 * MIB + images // 2, MEASURED_VLLM),
        Overhead(
            "CUDA graphs", 0 if request.enforce_eager else _graphs(batch), _graphs(batch) + 256 * MIB, MEASURED_VLLM
        ),
    )
    return Runtime(before, after)


def _graphs(batch: Batch) -> int:
    """Return bytes of captured graphs: about 12 MiB for each size, sizes in steps of 8 and, above 256, of 16."""
    largest = min(2 * batch.sequences, 1024)
    sizes = 3 + min(largest, 256) // 8 + max(largest - 256, 0) // 16
    return (12 * sizes + 70) * MIB


def _vllm_activation(request: PlanRequest, tensor: int, batch: Batch, *, older: bool) -> int:
    """Return the torch peak of vLLM's profile run.

    The feed-forward network of a full prefill holds its input and gate, up and product at once: tokens * 3 *
    (intermediate + hidden) * 2 bytes. A copy of the embedding is the floor at small batches. Several ranks hold their
    part of the logits, all parts as they were gathered, and these in the right order (distributed/device_communicators/
    base_device_communicator.py, all_gather), 16 bit. MLA also makes room for keys and values of 65,536 tokens of
    context; the older runner for sorting all logits, 14 bytes each.
    """
    shape = request.shape
    width = -(-_dense_width(shape) // tensor)
    feed_forward = batch.tokens * 6 * (width + shape.hidden_size)
    embedding = shape.vocabulary_size * shape.hidden_size * 2 // tensor
    peaks = [feed_forward, embedding]
    if shape.experts is not None:
        routed = batch.tokens * shape.experts.per_token * 2
        inner = -(-shape.experts.intermediate_size // tensor)
        peaks.append(routed * (max(2 * inner, shape.hidden_size) + inner) + batch.tokens * 4 * shape.hidden_size)
    if tensor > 1:
        logits = batch.sequences * shape.vocabulary_size * 2
        peaks.append(2 * logits + logits // tensor)
    if shape.is_latent:
        value = sum(piece.rows for piece in shape.tensors if piece.role is Role.LATENT_KEY_VALUE)
        peaks.append(2 * 2 * 65_536 * value // tensor)
    if older:
        peaks.append(14 * batch.sequences * shape.vocabulary_size)
    quantized = holds_wide_zeros(request) and quantization_in_force(request) is not None
    return max(peaks) + (0 if quantized else 32 * MIB)


def _dense_width(shape: ModelShape) -> int:
    return max((piece.rows for piece in shape.tensors if piece.role is Role.GATE_UP and piece.columns > 1), default=0)
