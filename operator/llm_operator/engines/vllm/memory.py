"""vLLM's answers to planning: how it spends the memory of a GPU, what it refuses, and what its flags must say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from llm_operator.engines.vllm import capability, compressed, drafts, formats, overheads, pages, weights
from llm_operator.memory.budget import Budget, Estimate, Rank, block_inputs, share_of, share_term
from llm_operator.memory.capability import below, card
from llm_operator.memory.engine import EngineMemory
from llm_operator.memory.kv_cache import Allocation, state_size
from llm_operator.memory.overheads import Batch, Runtime
from llm_operator.memory.types import (
    DEFAULT_MEMORY_PERCENT,
    MIB,
    EngineSettings,
    KVQuantization,
    Overhead,
    PlanRequest,
    Term,
    gib,
)
from llm_operator.memory.weights import Piece, WeightBytes, padded
from llm_operator.models import AttentionLayers, CheckpointQuantization, Role, StateLayers, Tensor

DEFAULT_UTILIZATION = 0.92
"""0.26.0 to 0.33.0, config/cache.py; 0.9 before."""
SMALLEST_EXPERT_GROUP = 32
AT_THE_FIRST_CHECK = ("context", "libraries", "NCCL")
"""What a rank has taken when it checks the free memory: v1/worker/gpu_worker.py, init_device."""


class VLLMMemory(EngineMemory):
    """How vLLM spends the memory of a GPU. Facts are of 0.33.0 unless a version is named."""

    block_tokens = pages.BLOCK
    cache_is_exact = True
    fewer_sequences_help = True

    def too_old(self, request: PlanRequest) -> str | None:
        """Return why the card is too old."""
        if below(request, 7, 5):
            return f"vLLM {request.version} has no code for {card(request)}; it needs 7.5 or newer"
        return None

    def refusals(self, request: PlanRequest, quantization: CheckpointQuantization | None) -> Iterator[str]:
        """Yield what this version cannot serve."""
        yield from capability.refusals(request)
        yield from formats.refusals(request, quantization)

    def unknowns(self, request: PlanRequest) -> tuple[str, ...]:
        """Return why nothing can be computed, although the model is known; empty if it can."""
        return capability.unknowns(request)

    def while_loading(self, request: PlanRequest) -> CheckpointQuantization | None:
        """Return FP8 where the command line requests it over 16-bit weights."""
        return formats.while_loading(request)

    def notes(self, request: PlanRequest) -> Iterator[str]:
        """Yield what differs from what the request says."""
        yield from formats.notes(request)
        yield from capability.notes(request)
        yield from drafts.notes(request)

    def objections(self, request: PlanRequest, tensor: int) -> Iterator[str]:
        """Yield why this many ranks cannot share the vocabulary."""
        vocabulary = padded(request.shape.vocabulary_size, weights.VOCABULARY_PADDING)
        if vocabulary % tensor:
            yield f"tensor parallelism {tensor} does not divide the padded vocabulary {vocabulary}"

    def least_group(self, piece: Tensor, how: CheckpointQuantization) -> int | None:
        """Return what the inputs of a quantized matrix on one rank must be a multiple of.

        Experts that Marlin does not take go to the WNA16 kernels, which halve the group down to 32 (0.20.2 to 0.26.0,
        quantization/moe_wna16.py). Measured: a Qwen1.5-MoE AWQ shape with 704 inputs a rank starts on two H200
        (0.26.0).
        """
        if how.method in ("awq", "gptq") and piece.role is Role.EXPERT_DOWN and how.group_size is not None:
            return min(how.group_size, SMALLEST_EXPERT_GROUP)
        return super().least_group(piece, how)

    def holds_wide_zeros(self, request: PlanRequest) -> bool:
        """Return whether the Machete kernel runs."""
        return weights.holds_wide_zeros(request)

    def local_size(self, piece: Tensor, request: PlanRequest, tensor: int) -> tuple[int, int]:
        """Return rows and columns of a tensor on one rank."""
        return weights.local_size(piece, request, tensor)

    def kernel_size(
        self, piece: Tensor, size: tuple[int, int], how: CheckpointQuantization, request: PlanRequest
    ) -> tuple[int, int]:
        """Return the size of a quantized matrix; those of MXFP4 are padded."""
        return weights.mxfp4_size(piece.role, *size, request) if how.method == "mxfp4" else size

    def extra_weights(self, request: PlanRequest, tensor: int, local: list[Piece]) -> int:
        """Return what it counts as weights beside the tensors."""
        return weights.extra_weights(request, tensor, local)

    def kv_format(self, request: PlanRequest) -> KVQuantization:
        """Return the format of the cache, the checkpoint's own if nothing was asked."""
        return pages.kv_format(request)

    def latent_bytes(self, group: AttentionLayers, request: PlanRequest, tensor: int) -> int:
        """Return the bytes of one token's latent in one layer, which each rank holds whole."""
        return pages.latent_bytes(group, request)

    def compressed_bytes_per_token(self, request: PlanRequest) -> int:
        """Return the bytes that one more token takes in all layers whose cache is compressed."""
        return compressed.bytes_per_token(request)

    def state_bytes(self, layers: StateLayers, request: PlanRequest, tensor: int) -> int:
        """Return the bytes of one sequence's state in one layer (layers/mamba/mamba_utils.py).

        It keeps one token less of the convolution than that is long, one more for each that a draft proposes, and the
        recurrent state as the file says.
        """
        wide = 2 if layers.recurrent_bytes is None else layers.recurrent_bytes
        proposed = request.draft.tokens if request.draft is not None else 0
        kept = layers.kernel - 1 + proposed if layers.kernel else 0
        return state_size(layers, tensor, kept=kept, recurrent_bytes=wide)

    def allocate(self, request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
        """Return the blocks of the cache and the tokens that they hold for requests of the context."""
        found = pages.pages_of(self, request, tensor)
        blocks = max(budget, 0) // found.block_bytes
        return Allocation(
            blocks, found.block_bytes, blocks * context // pages.needed(found, request, context, batched_tokens)
        )

    def blocks_per_request(self, request: PlanRequest, tensor: int, context: int, batched_tokens: int) -> int:
        """Return the blocks that a request holds at its longest."""
        found = pages.pages_of(self, request, tensor)
        return pages.needed(found, request, context, batched_tokens)

    def most_sequences(self, request: PlanRequest, blocks: int) -> int | None:
        """Return the blocks for models with states, whose graphs need one for each sequence.

        0.20.2 to 0.33.0, config/compilation.py: "max_num_seqs exceeds available Mamba cache blocks". Qwen3.6-27B-FP8 on
        one H100 dies of it with the default of 1,024 (856 blocks at a utilization of 0.95).
        """
        return blocks if request.shape.states and not request.enforce_eager else None

    def default_batch(self, request: PlanRequest) -> Batch:
        """Return the request's limits, else the defaults for this card."""
        return overheads.default_batch(request)

    def planned_batch(self, request: PlanRequest, tensor: int, weights: WeightBytes) -> tuple[Batch, Runtime]:
        """Return the batch limits and the overheads that follow.

        The defaults grow with the card, and with them buffers and the blocks that windows hold: a slightly larger card
        would hold fewer tokens. A plan writes the limits out, so the larger ones are taken where they cost no token.
        """
        batch = self.default_batch(request)
        runtime = self.runtime(request, tensor, batch)
        small = overheads.small_batch(request)
        if request.gpu_memory_utilization is not None or batch == small:
            return batch, runtime
        left = request.gpu.memory_bytes - weights.total
        free, free_low = left - runtime.before_likely, left - runtime.before_high
        percent = request.memory_percent or DEFAULT_MEMORY_PERCENT
        wanted = request.kv_memory_bytes or free * percent // 100
        if request.shape.has_window or free_low - runtime.after_high < wanted:
            return small, self.runtime(request, tensor, small)
        return batch, runtime

    def runtime(self, request: PlanRequest, tensor: int, batch: Batch) -> Runtime:
        """Return the overheads of one rank."""
        return overheads.runtime(request, tensor, batch)

    def profile(self, request: PlanRequest, tensor: int) -> tuple[Overhead, ...]:
        """Return what it subtracts from its share of the total."""
        return overheads.profile(request, tensor)

    def budget(self, rank: Rank) -> Budget:
        """Return the bytes of the cache: by utilization, as given, or a share given to vLLM in bytes."""
        if rank.request.gpu_memory_utilization is not None:
            return _by_utilization(rank, rank.request.gpu_memory_utilization)
        if rank.request.kv_memory_bytes is not None:
            return _by_bytes(rank, rank.request.kv_memory_bytes)
        return _pinned(share_of(rank, rank.free, rank.free_low), rank)

    def settings(self, found: Estimate) -> EngineSettings:
        """Return what its flags must say."""
        share = found.request.gpu_memory_utilization
        default = self.default_batch(found.request)
        return EngineSettings(
            tensor=found.tensor,
            context_length=found.context or None,
            max_sequences=_lowered(found.batch.sequences, default.sequences),
            max_batched_tokens=_lowered(found.batch.tokens, default.tokens),
            kv_cache_memory_bytes=(found.budget or None) if share is None else None,
            gpu_memory_utilization=share if share is not None else _passing_share(found),
        )

    def cache_term(self, found: Estimate) -> Term:
        """Return how the bytes of the KV cache come about."""
        request = found.request
        name, unit = "kvBytesPerGpu", "bytes"
        if request.gpu_memory_utilization is not None:
            inputs: dict[str, int | float | str] = {
                "total": request.gpu.memory_bytes,
                "utilization": request.gpu_memory_utilization,
                "weights": found.weights.total,
                "profile": sum(part.likely for part in found.profile),
            }
            formula = "ceil(utilization * total) - weights - profile"
            return Term(name, found.budget, unit, formula, inputs, "vLLM v1/worker/gpu_worker.py")
        if request.kv_memory_bytes is not None:
            return Term(name, found.budget, unit, "as given", {"kvCache.memory": request.kv_memory_bytes})
        return share_term(found, "vLLM --kv-cache-memory-bytes")

    def tokens_term(self, found: Estimate) -> Term:
        """Return how these bytes become tokens."""
        inputs: dict[str, int | float | str] = {
            **block_inputs(found),
            "blockTokens": compressed.BLOCK if found.request.shape.compressed else pages.BLOCK,
            "context": found.context,
        }
        formula = "blocks / blocks of one request of the context * context"
        return Term("kvTokens", found.likely.tokens, "tokens", formula, inputs, "vLLM v1/core/kv_cache_utils.py")


def _lowered(planned: int, default: int) -> int | None:
    return planned if planned != default else None


def _passing_share(found: Estimate) -> float | None:
    """Return a utilization that vLLM's first check passes; None if its default does.

    With a cache in bytes the share sizes nothing, but vLLM still refuses to start where less is free than the share of
    the total, and each rank has taken its context and NCCL's buffers by then (0.33.0, v1/worker/utils.py,
    request_memory). On small cards these are more than the eight percent that the default leaves.
    """
    total = found.request.gpu.memory_bytes
    free = total - sum(part.high for part in found.runtime.before if part.name in AT_THE_FIRST_CHECK)
    if math.ceil(total * DEFAULT_UTILIZATION) <= free:
        return None
    return max(100 * free // total - 2, 1) / 100


def _pinned(budget: Budget, rank: Rank) -> Budget:
    """Return the budget as bytes given to vLLM: whole MiB, and low where the bounds leave less beside it."""
    likely = budget.likely // MIB * MIB
    low = max(min(likely, rank.free_low - rank.runtime.after_high), 0)
    return replace(budget, likely=likely, low=low)


def _by_bytes(rank: Rank, wanted: int) -> Budget:
    low = max(min(wanted, rank.free_low - rank.runtime.after_high), 0)
    room = rank.free - rank.runtime.after_likely
    problem: str | None = None
    if wanted > room:
        problem = f"a KV cache of {gib(wanted)} does not fit: weights and runtime leave {gib(max(room, 0))} a GPU"
    return Budget(wanted, low, problem=problem)


def _by_utilization(rank: Rank, share: float) -> Budget:
    total = rank.request.gpu.memory_bytes
    requested = math.ceil(total * share)
    likely = requested - rank.weights.total - sum(part.likely for part in rank.profile)
    low = requested - rank.weights.total - sum(part.high for part in rank.profile)
    room = rank.free - rank.runtime.after_likely
    problem: str | None = None
    if likely <= 0:
        problem = f"utilization {share} of {gib(total)} is {gib(requested)}: less than weights and activations"
    elif likely > room:
        problem = (
            f"utilization {share} is not an upper limit: with {gib(likely)} of KV cache, context, CUDA graphs and "
            f"sampler need {gib(likely - room)} more than the card has"
        )
    return Budget(max(likely, 0), max(low, 0), problem=problem)
