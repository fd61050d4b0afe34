"""One configuration in numbers: weights, what they leave free, the KV cache in it, and whether all of it has room."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from llm_operator.planning.cache import (
    LMDEPLOY_BLOCK,
    VLLM_BLOCK,
    Allocation,
    allocate,
    blocks_per_request,
    bytes_per_token,
    pytorch_block_bytes,
    states_of_sequence,
)
from llm_operator.planning.runtime import (
    Batch,
    Runtime,
    default_batch,
    pytorch_reserve,
    runtime,
    small_batch,
    vllm_profile,
)
from llm_operator.planning.types import DEFAULT_MEMORY_PERCENT, Backend, Engine, Overhead, PlanRequest, gib
from llm_operator.planning.weights import WeightBytes, weight_bytes

MEBI = 1 << 20
# A context shorter than this is no use to a chat: where nobody asked for one, it counts as not fitting.
LEAST_CONTEXT = 2048
# States that LMDeploy's pytorch backend keeps beside those of a full batch (0.18.0, pytorch/engine/executor/base.py).
PYTORCH_STATES = 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """One configuration on one rank. problem: why it cannot work, None where it does. Sizes in bytes.

    free: what weights and overheads before the cache leave. reserve: what must stay free beside the cache. percent: the
    share in force, None where bytes or a utilization decided. low: the cache with every overhead at its bound.
    """

    request: PlanRequest
    tensor: int
    batch: Batch
    weights: WeightBytes
    runtime: Runtime
    profile: tuple[Overhead, ...]
    free: int
    set_aside: int
    reserve: int
    percent: int | None
    budget: int
    likely: Allocation
    low: Allocation
    context: int
    requests: int
    per_token: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class _Budget:
    """A budget of the cache and how it came about."""

    likely: int
    low: int
    set_aside: int = 0
    percent: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Rank:
    """What is known of one rank before the cache is sized. free_low: free bytes with the overheads at their bound."""

    request: PlanRequest
    tensor: int
    batch: Batch
    weights: WeightBytes
    runtime: Runtime
    profile: tuple[Overhead, ...]
    free: int
    free_low: int


def estimate(request: PlanRequest, tensor: int) -> Estimate:
    """Return the numbers of `request` on `tensor` ranks, whether or not they work out."""
    rank = _rank(request, tensor)
    batch = rank.batch
    budget = _budget(rank)
    wanted = request.context_length or request.shape.context_length
    likely = allocate(request, tensor, budget.likely, wanted, batch.tokens)
    low = allocate(request, tensor, budget.low, wanted, batch.tokens)
    context = wanted
    if request.context_length is None:
        context = _cut(rank, likely, low, wanted)
        if context != wanted:
            likely = allocate(request, tensor, budget.likely, max(context, 1), batch.tokens)
            low = allocate(request, tensor, budget.low, max(context, 1), batch.tokens)
    need = blocks_per_request(request, tensor, max(context, 1), batch.tokens)
    return Estimate(
        request=request,
        tensor=tensor,
        batch=batch,
        weights=rank.weights,
        runtime=rank.runtime,
        profile=rank.profile,
        free=rank.free,
        set_aside=budget.set_aside,
        reserve=rank.runtime.after_likely,
        percent=budget.percent,
        budget=budget.likely,
        likely=likely,
        low=low,
        context=context,
        requests=min(likely.blocks // need, batch.sequences),
        per_token=bytes_per_token(request, tensor),
        problem=budget.problem or _context_problem(request, likely, context, wanted, need),
    )


def _rank(request: PlanRequest, tensor: int) -> _Rank:
    weights = weight_bytes(request, tensor)
    batch, overheads = _batch(request, tensor, weights)
    left = request.gpu.memory_bytes - weights.total
    profile = vllm_profile(request, tensor) if request.gpu_memory_utilization is not None else ()
    free, free_low = left - overheads.before_likely, left - overheads.before_high
    return _Rank(request, tensor, batch, weights, overheads, profile, free, free_low)


def _batch(request: PlanRequest, tensor: int, weights: WeightBytes) -> tuple[Batch, Runtime]:
    """Return the batch limits and the overheads they bring.

    vLLM's defaults grow with the card, and with them buffers and the blocks that windows hold: a slightly larger card
    would hold fewer tokens. A plan writes the limits out, so the larger ones are taken where they cost no token.
    """
    batch = default_batch(request)
    overheads = runtime(request, tensor, batch)
    small = small_batch(request)
    if request.engine is not Engine.VLLM or request.gpu_memory_utilization is not None or batch == small:
        return batch, overheads
    left = request.gpu.memory_bytes - weights.total
    free, free_low = left - overheads.before_likely, left - overheads.before_high
    percent = request.memory_percent or DEFAULT_MEMORY_PERCENT
    wanted = request.kv_memory_bytes or free * percent // 100
    if request.shape.has_window or free_low - overheads.after_high < wanted:
        return small, runtime(request, tensor, small)
    return batch, overheads


def _budget(rank: _Rank) -> _Budget:
    request = rank.request
    if rank.free <= 0:
        return _Budget(0, 0, problem=_too_big(rank))
    if request.gpu_memory_utilization is not None:
        return _by_utilization(rank, request.gpu_memory_utilization)
    if request.kv_memory_bytes is not None:
        return _by_bytes(rank, request.kv_memory_bytes)
    if request.engine is Engine.VLLM:
        return _pinned(_share(rank, rank.free, rank.free_low), rank)
    if request.backend is Backend.TURBOMIND:
        return _share(rank, rank.free, rank.free_low)
    return _pytorch_share(rank)


def _too_big(rank: _Rank) -> str:
    where = f"each of {rank.tensor} GPUs" if rank.tensor > 1 else "1 GPU"
    return (
        f"the weights take {gib(rank.weights.total)} on {where} and the engine {gib(rank.runtime.before_likely)} before"
        f" any KV cache; one GPU has {gib(rank.request.gpu.memory_bytes)}"
    )


def largest_percent(found: Estimate) -> int:
    """Return the largest memoryPercent that leaves the runtime its room; 0 or less where none does."""
    usable = found.free - found.set_aside
    return 100 * (usable - found.reserve) // usable if usable > 0 else 0


def _share(rank: _Rank, free: int, free_low: int) -> _Budget:
    """Return a percentage of `free`; absent, 80 or what leaves the runtime its room."""
    reserve = rank.runtime.after_likely
    most = 100 * (free - reserve) // free
    percent = rank.request.memory_percent
    if percent is None:
        percent = max(min(DEFAULT_MEMORY_PERCENT, most), 0)
    problem = _no_rest(free, percent, reserve, most) if percent == 0 or percent > most else None
    return _Budget(free * percent // 100, max(free_low, 0) * percent // 100, percent=percent, problem=problem)


def _no_rest(free: int, percent: int, reserve: int, most: int) -> str:
    if most < 1:
        return f"{gib(free)} are free for KV cache and runtime buffers, of which the buffers alone need {gib(reserve)}"
    return (
        f"with memoryPercent {percent} of {gib(free)} free for the KV cache, {gib(free - free * percent // 100)} remain"
        f" for runtime buffers, which need {gib(reserve)}; memoryPercent {most} would leave it"
    )


def _pinned(budget: _Budget, rank: _Rank) -> _Budget:
    """Return the budget as bytes given to vLLM: whole MiB, and low where the bounds leave less beside it."""
    likely = budget.likely // MEBI * MEBI
    low = max(min(likely, rank.free_low - rank.runtime.after_high), 0)
    return replace(budget, likely=likely, low=low)


def _by_bytes(rank: _Rank, wanted: int) -> _Budget:
    low = max(min(wanted, rank.free_low - rank.runtime.after_high), 0)
    room = rank.free - rank.runtime.after_likely
    problem: str | None = None
    if wanted > room:
        problem = f"a KV cache of {gib(wanted)} does not fit: weights and runtime leave {gib(max(room, 0))} a GPU"
    return _Budget(wanted, low, problem=problem)


def _pytorch_share(rank: _Rank) -> _Budget:
    block = pytorch_block_bytes(rank.request, rank.tensor)
    states = states_of_sequence(rank.request, rank.tensor) * (rank.batch.sequences + PYTORCH_STATES)
    set_aside = pytorch_reserve(rank.request, rank.batch) + states
    usable = rank.free - set_aside
    if usable < 16 * block:
        full = f"of {gib(rank.free)} free LMDeploy's pytorch backend sets {gib(set_aside)} aside for logits"
        if states:
            full += f" and the states of {rank.batch.sequences} sequences; a lower maxConcurrentSequences needs less"
        return _Budget(0, 0, set_aside, problem=full)
    # What is set aside holds the logits only; everything else that grows must find room beside the share.
    budget = _share(rank, usable, rank.free_low - set_aside)
    problem = budget.problem
    if problem is None and budget.likely // block <= 2:
        problem = f"LMDeploy's pytorch backend needs more than 2 KV blocks of {gib(block)}"
    return replace(budget, set_aside=set_aside, problem=problem)


def _by_utilization(rank: _Rank, share: float) -> _Budget:
    total = rank.request.gpu.memory_bytes
    requested = ceil(total * share)
    likely = requested - rank.weights.total - sum(part.likely for part in rank.profile)
    low = requested - rank.weights.total - sum(part.high for part in rank.profile)
    room = rank.free - rank.runtime.after_likely
    problem: str | None = None
    if likely <= 0:
        problem = f"utilization {share} of {gib(total)} is {gib(requested)}: less than weights and activations"
    elif likely > room:
        problem = (
            f"utilization {share} is no ceiling: with {gib(likely)} of KV cache, context, CUDA graphs and sampler need"
            f" {gib(likely - room)} more than the card has"
        )
    return _Budget(max(likely, 0), max(low, 0), problem=problem)


def _cut(rank: _Rank, likely: Allocation, low: Allocation, wanted: int) -> int:
    """Return the context for a request that names none: what surely fits, where that is of use, else what likely does.

    vLLM is given its cache in bytes, so there the likely blocks are the sure ones.
    """
    if rank.request.engine is Engine.LMDEPLOY:
        sure = _longest(rank, low.blocks, wanted)
        if sure >= min(wanted, LEAST_CONTEXT):
            return sure
    return _longest(rank, likely.blocks, wanted)


def _longest(rank: _Rank, blocks: int, wanted: int) -> int:
    """Return the longest context up to `wanted` that one request can have in `blocks` blocks, in whole blocks."""
    request, tensor, batch = rank.request, rank.tensor, rank.batch
    if blocks_per_request(request, tensor, wanted, batch.tokens) <= blocks:
        return wanted
    step = LMDEPLOY_BLOCK if request.engine is Engine.LMDEPLOY else VLLM_BLOCK
    low, high = 0, wanted // step
    while low < high:
        middle = (low + high + 1) // 2
        if blocks_per_request(request, tensor, middle * step, batch.tokens) <= blocks:
            low = middle
        else:
            high = middle - 1
    return low * step


def _context_problem(request: PlanRequest, likely: Allocation, context: int, wanted: int, need: int) -> str | None:
    least = min(wanted, LEAST_CONTEXT) if request.context_length is None else context
    if context < least or likely.blocks < need:
        return f"the KV cache holds {likely.tokens} tokens, not one request of {max(context, least)} tokens"
    return None
