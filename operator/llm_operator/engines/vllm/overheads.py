"""What vLLM takes beside weights and KV cache, and its batch limits, on which that depends.

Formulas marked "measured" hold for vLLM 0.26.0.
"""

from __future__ import annotations

from llm_operator.engines.vllm.adapters import adapter_slots
from llm_operator.engines.vllm.drafts import draft_layer
from llm_operator.engines.vllm.weights import holds_wide_zeros, mxfp4_kernels
from llm_operator.memory.overheads import Batch, Runtime, dense_width, nccl, over_pcie
from llm_operator.memory.types import GIB, MIB, Overhead, PlanRequest
from llm_operator.memory.versions import release
from llm_operator.memory.weights import quantization_in_force
from llm_operator.models import Role

LARGE_CARD = 70 * GIB
LARGEST_CARD = 160 * GIB

NEWER_RUNNER = frozenset({"DeepseekV2ForCausalLM", "GraniteMoeForCausalLM", "Qwen2MoeForCausalLM"})
"""Mixtures of experts that run on the newer model runner (0.26.0, config/vllm.py)."""
FEW_SEQUENCES = 16
PADDED_HEADS = 64
MARLIN_PADDING_PERCENT = 9
MEASURED = "measured, vLLM 0.26.0 on an H200"
MEASURED_PAIR = "measured, vLLM 0.26.0 on two H200"
REPORTED = "public starts of vLLM 0.8 to 0.27, docs/planner-accuracy.md"


def default_batch(request: PlanRequest) -> Batch:
    """Return the batch limits: the request's, else vLLM's defaults for this card's memory (engine/arg_utils.py)."""
    memory, product = request.gpu.memory_bytes, request.gpu.product.upper()
    if memory < LARGE_CARD or "A100" in product:
        sequences, tokens = 256, 2048
    else:
        sequences, tokens = 1024, 16384 if memory >= LARGEST_CARD else 8192
    return Batch(request.max_concurrent_sequences or _at_most(sequences, request), request.max_batched_tokens or tokens)


def small_batch(request: PlanRequest) -> Batch:
    """Return vLLM's limits for cards below 70 GiB, or the request's own."""
    sequences = request.max_concurrent_sequences or _at_most(256, request)
    return Batch(sequences, request.max_batched_tokens or max(2048, sequences))


def _at_most(sequences: int, request: PlanRequest) -> int:
    """Return a default number of sequences: vLLM lowers it to the batched tokens (engine/arg_utils.py)."""
    return sequences if request.max_batched_tokens is None else min(sequences, request.max_batched_tokens)


def runtime(request: PlanRequest, tensor: int, batch: Batch) -> Runtime:
    """Return the overheads of one rank."""
    shape = request.shape
    before = (
        Overhead("context", 522 * MIB, 640 * MIB, MEASURED),
        _libraries(tensor),
        *_links(request, tensor),
        *_kernels(request, tensor),
        *adapter_slots(request, tensor),
        *draft_layer(request, tensor),
    )
    older = uses_older_runner(request)
    peak = _activation(request, tensor, batch, older=older)
    # The sampler's warm-up sorts all logits: about 24 bytes per sequence and vocabulary entry, kept by the allocator
    # and used again by activations.
    sampler = 24 * batch.sequences * shape.vocabulary_size
    images = _tower(request, tensor, batch)
    most = max(peak, sampler, images)
    after = (
        Overhead("activations or sampler", most, most + 512 * MIB + images // 2 + _unsure(request, peak), MEASURED),
        _captured(request, tensor, batch),
    )
    return Runtime(before, after)


def profile(request: PlanRequest, tensor: int) -> tuple[Overhead, ...]:
    """Return what vLLM subtracts from its share of the total beside the weights, for a server sized by utilization."""
    batch = default_batch(request)
    older = uses_older_runner(request)
    copied = not older and not request.enforce_eager
    images = _tower(request, tensor, batch)
    peak = max(_activation(request, tensor, batch, older=older, copied=copied), images)
    # Compiling from scratch, as in a fresh pod, raises the profiled peak by 60 to 78 MiB over a warm start.
    most = max(_activation(request, tensor, batch, older=True) + 640 * MIB, images * 3 // 2) + _unsure(request, peak)
    parts = [
        Overhead("activation peak", peak, most, MEASURED),
        _libraries(tensor),
        # What two ranks take is there before vLLM begins to count; what more ranks and repacking take is not.
        *(part for part in _links(request, tensor) if part.name != "NCCL"),
        *_kernels(request, tensor),
        *adapter_slots(request, tensor),
        *draft_layer(request, tensor),
    ]
    if (older or _newest_runner(request)) and not request.enforce_eager:
        parts.append(_graph_estimate(request, tensor, batch))
    return tuple(parts)


def uses_older_runner(request: PlanRequest) -> bool:
    """Return whether vLLM's older model runner is used.

    Before 0.26 always; 0.26.0 takes the newer one for models without states and with few exceptions without experts
    (config/vllm.py, use_v2_model_runner); 0.33.0 for all.
    """
    if request.older_runner is not None:
        return request.older_runner
    shape = request.shape
    if release(request.version) < (0, 26):
        return True
    if _newest_runner(request):
        return False
    return bool(shape.states) or (shape.experts is not None and shape.architecture not in NEWER_RUNNER)


def _newest_runner(request: PlanRequest) -> bool:
    """Return whether the newer runner estimates its CUDA graphs, too (0.33.0, v1/worker/gpu/cudagraph_utils.py).

    A public start of 0.27.1 held 1.76 GiB less than with --enforce-eager; 0.26.0 subtracts nothing.
    """
    return release(request.version) >= (0, 27)


def _graph_estimate(request: PlanRequest, tensor: int, batch: Batch) -> Overhead:
    """Return what vLLM captures on trial and subtracts: more with more ranks and with more sizes.

    Starts of 0.20.0 held 0.27 to 0.63 GiB less on one or two H200 than the same ones of 0.19, 0.91 on four, and 1.55 on
    eight; with one or two sequences 0.26 to 0.39 GiB were logged, on an L40S with 256 1.11. Six layers of DeepSeek V3
    on one H200 with 0.26.0, latents and FP8 experts: 4.28, which eight ranks with 0.11 to 0.20 did not take; other
    mixtures of experts and states 0.35 to 0.74.
    """
    doublings = (tensor - 1).bit_length()
    likely = (350 if batch.sequences <= FEW_SEQUENCES else 650) + 300 * doublings
    high = (1900 if _newest_runner(request) else 1200) + 400 * doublings
    if request.shape.is_latent and request.shape.experts is not None:
        likely, high = likely + (1000 if release(request.version) >= (0, 26) else 0), high + 3300
    return Overhead("CUDA graph estimate", likely * MIB, high * MIB, REPORTED)


def _links(request: PlanRequest, tensor: int) -> tuple[Overhead, ...]:
    """Return what vLLM's ranks take to talk to each other.

    Two were measured over NVLink. Beyond two, and over PCIe, there are reports only: 70B at TP 4 took 1.9 GiB more
    than two ranks would, mixtures of experts (235B at TP 4, 671B at TP 8) 4.2 to 4.9 GiB more, PCIe cards about 1 GiB
    less. The bounds cover them.
    """
    if tensor == 1:
        return ()
    found = [nccl(tensor, 970, 1536, MEASURED_PAIR)]
    if over_pcie(request.gpu.product):
        return (nccl(tensor, 250, 1536, REPORTED),)
    if release(request.version) >= (0, 26) and _compute_capability(request, 9):
        # Buffers of FlashInfer's fused all-reduce, on by default on Hopper where FlashInfer is installed
        # (config/vllm.py, enable_allreduce_rms_fusion): the profile run counts 741 MiB more; without multicast.
        found.append(Overhead("FlashInfer's all-reduce", 741 * MIB, 1200 * MIB, MEASURED_PAIR))
    if tensor > 2:
        more = 700 * ((tensor - 1).bit_length() - 1)
        found.append(Overhead("links between more ranks", (1200 + more) * MIB, (1500 + more) * MIB, REPORTED))
        if request.shape.experts is not None:
            # A start of 2026 (MiniMax-M2.5 at TP 4) took far less than those of 2025.
            likely = 3200 * MIB if release(request.version) < (0, 12) else 1600 * MIB
            found.append(Overhead("experts over ranks", likely, 4300 * MIB, REPORTED))
    return tuple(found)


def _kernels(request: PlanRequest, tensor: int) -> tuple[Overhead, ...]:
    """Return what MXFP4 experts take beyond their bytes on Hopper, whose kernels lay them out anew.

    gpt-oss-120b on one H100 with 0.11: three public starts had 4 to 6 GiB less than their weights leave. gpt-oss-20b
    on one H200 with 0.26.0 (Triton's kernels): 86 MiB more than its bytes, and nothing beside them.
    """
    quantization = quantization_in_force(request)
    if quantization is None or quantization.method != "mxfp4" or not _compute_capability(request, 9):
        return ()
    experts = sum(
        piece.parameters for piece in request.shape.tensors if piece.role in (Role.EXPERT_GATE_UP, Role.EXPERT_DOWN)
    )
    held = experts * 17 // 32 // tensor
    # Marlin's padding is in the weights already; what is left of the reports is what repacking takes.
    padding = MARLIN_PADDING_PERCENT if mxfp4_kernels(request) == "marlin" else 0
    if release(request.version) >= (0, 26):
        return (Overhead("MXFP4 layout", held // 100, held * (18 - padding) // 100, MEASURED),)
    return (Overhead("MXFP4 layout", held * (14 - padding) // 100, held * (18 - padding) // 100, REPORTED),)


def _compute_capability(request: PlanRequest, major: int) -> bool:
    found = request.gpu.compute_capability
    return found is not None and found[0] == major


def _libraries(tensor: int) -> Overhead:
    """Return what vLLM counts as taken by libraries: with several ranks most of it is there before it begins to count.

    v1/worker/gpu_worker.py, init_device: the snapshot comes after the ranks have met.
    """
    if tensor > 1:
        return Overhead("libraries", 68 * MIB, 312 * MIB, MEASURED_PAIR)
    return Overhead("libraries", 230 * MIB, 312 * MIB, MEASURED)


def _tower(request: PlanRequest, tensor: int, batch: Batch) -> int:
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


def _captured(request: PlanRequest, tensor: int, batch: Batch) -> Overhead:
    """Return what CUDA graphs take.

    Of 25 kinds of public starts of 0.18 to 0.20 on 1 to 8 H200 and B200, models with latents took 1.6 to 2.5 GiB, other
    mixtures of experts and models with states 0.8 to 1.7, dense ones 0.6 to 1.0, more from four ranks on.
    """
    shape = request.shape
    doublings = max((tensor - 1).bit_length() - 1, 0)
    latent = 512 if shape.is_latent else 0
    mixed = 512 if shape.experts is not None or shape.states else 0
    likely = _graphs(batch) + (latent + 150 * doublings) * MIB
    high = _graphs(batch) + (256 + mixed + 2 * latent + 350 * doublings) * MIB
    return Overhead("CUDA graphs", 0 if request.enforce_eager else likely, high, MEASURED)


def _graphs(batch: Batch) -> int:
    """Return bytes of captured graphs: about 12 MiB for each size, sizes in steps of 8 and, above 256, of 16."""
    largest = min(2 * batch.sequences, 1024)
    sizes = 3 + min(largest, 256) // 8 + max(largest - 256, 0) // 16
    return (12 * sizes + 70) * MIB


def _activation(request: PlanRequest, tensor: int, batch: Batch, *, older: bool, copied: bool = True) -> int:
    """Return the torch peak of vLLM's profile run.

    The feed-forward network of a full prefill holds its input and gate, up and product at once: tokens * 3 *
    (intermediate + hidden) * 2 bytes. copied: a copy of the embedding is the floor at small batches, as measured with
    the newer runner; starts with --enforce-eager and those of older releases on small cards show none. Several ranks
    hold their part of the logits, all parts as they were gathered, and these in the right order
    (distributed/device_communicators/base_device_communicator.py, all_gather), 16 bit. MLA also makes room for keys and
    values of 65,536 tokens of context; the older runner for sorting all logits, 14 bytes each.
    """
    shape = request.shape
    width = -(-dense_width(shape) // tensor)
    feed_forward = batch.tokens * 6 * (width + shape.hidden_size)
    embedding = shape.vocabulary_size * shape.hidden_size * 2 // tensor if copied else 0
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
    if shape.compressed:
        peaks.append(batch.tokens * _compressed_width(request, tensor))
    if older:
        peaks.append(14 * batch.sequences * shape.vocabulary_size)
    quantized = holds_wide_zeros(request) and quantization_in_force(request) is not None
    return max(peaks) + (0 if quantized else 32 * MIB)


def _compressed_width(request: PlanRequest, tensor: int) -> int:
    """Return the bytes of one token in a layer with a compressed cache, while a full prefill runs.

    Every residual stream before and after, and in 32 bit while they are mixed; queries and outputs of at least 64
    heads, to which the kernels pad them (0.33.0, models/deepseek_v4/nvidia); what a token's experts read and write.
    """
    shape = request.shape
    heads = max(-(-shape.heads // tensor), PADDED_HEADS)
    streams = 8 * shape.streams * shape.hidden_size
    attention = 4 * heads * max(group.width for group in shape.compressed)
    experts = 0 if shape.experts is None else 4 * shape.experts.per_token * shape.hidden_size
    return streams + attention + experts


def _unsure(request: PlanRequest, peak: int) -> int:
    """Return what compressed caches may take beyond the peak: their workspaces were read, and no start was measured."""
    return peak if request.shape.compressed else 0
