"""One configuration in numbers: weights, what they leave free, the KV cache in it, and whether all of it has room."""

from __future__ import annotations

from dataclasses import replace

from llm_operator.memory.budget import Budget, Estimate, Rank
from llm_operator.memory.calibration import StartKind
from llm_operator.memory.kv_cache import Allocation
from llm_operator.memory.overheads import Runtime
from llm_operator.memory.types import Overhead, PlanRequest, gib
from llm_operator.memory.versions import release
from llm_operator.memory.weights import WeightBytes, quantization_in_force
from llm_operator.planning.engine import memory_of
from llm_operator.planning.kv_cache import allocate, blocks_per_request, bytes_per_token, least
from llm_operator.planning.weights import weight_bytes

# A context shorter than this is useless for a chat: if none was requested, it counts as not fitting.
LEAST_CONTEXT = 2048
SURE_PERCENT = 95


def estimate(request: PlanRequest, tensor: int) -> Estimate:
    """Return the numbers of `request` on `tensor` ranks, whether or not they work out."""
    rank = _rank(request, tensor)
    batch = rank.batch
    budget = _budget(rank)
    wanted = request.context_length or request.shape.context_length
    likely = allocate(request, tensor, budget.likely, wanted, batch.tokens)
    low = least(request, tensor, budget.low, wanted, batch.tokens)
    context = wanted
    if request.context_length is None:
        context = _cut(rank, likely, low, wanted)
        if context != wanted:
            likely = allocate(request, tensor, budget.likely, max(context, 1), batch.tokens)
            low = least(request, tensor, budget.low, max(context, 1), batch.tokens)
    need = blocks_per_request(request, tensor, max(context, 1), batch.tokens)
    most = _most_sequences(rank, likely, low)
    if most is not None and request.max_concurrent_sequences is None:
        batch = replace(batch, sequences=min(batch.sequences, most))
    problem = budget.problem or _context_problem(request, likely, context, wanted, need)
    if problem is None and rank.saved:
        rank, budget = _with_savings(rank, budget)
        likely = allocate(request, tensor, budget.likely, max(context, 1), batch.tokens)
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
        problem=problem or _sequences_problem(request, most),
    )


def _most_sequences(rank: Rank, likely: Allocation, low: Allocation) -> int | None:
    """Return the most sequences that the engine surely starts with, as a power of two; None if any number will do.

    An engine that sizes its own cache may have fewer blocks than the bound by what reports differ from it.
    """
    engine = memory_of(rank.request)
    pinned = engine.cache_is_exact and rank.request.gpu_memory_utilization is None
    blocks = likely.blocks if pinned else low.blocks * SURE_PERCENT // 100
    most = engine.most_sequences(rank.request, blocks)
    if most is None or rank.request.max_concurrent_sequences is not None:
        return most
    return 1 << max(most, 1).bit_length() - 1


def _sequences_problem(request: PlanRequest, most: int | None) -> str | None:
    asked = request.max_concurrent_sequences
    if most is None or asked is None or asked <= most:
        return None
    return f"maxConcurrentSequences {asked:,} needs as many blocks of the KV cache for states; it has {most:,}"


def _rank(request: PlanRequest, tensor: int) -> Rank:
    engine = memory_of(request)
    weights = weight_bytes(request, tensor)
    batch, overheads = engine.planned_batch(request, tensor, weights)
    left = request.gpu.memory_bytes - weights.total
    learned = _learned(request, tensor, weights, overheads)
    saved = learned is not None and learned.likely < 0
    profile: tuple[Overhead, ...] = ()
    if request.gpu_memory_utilization is not None:
        profile = engine.profile(request, tensor)
    found = Rank(request, tensor, batch, weights, overheads, profile, 0, 0)
    if learned is not None and not saved:
        found = _beyond(found, learned)
    free, free_low = left - found.runtime.before_likely, left - found.runtime.before_high
    return replace(found, free=free, free_low=free_low, saved=learned if saved else None)


def _beyond(rank: Rank, learned: Overhead) -> Rank:
    """Return the rank with what was learned: before the cache, or in what the engine subtracts from its share."""
    if rank.request.gpu_memory_utilization is not None:
        return replace(rank, profile=(*rank.profile, learned))
    return replace(rank, runtime=replace(rank.runtime, before=(*rank.runtime.before, learned)))


def _with_savings(rank: Rank, budget: Budget) -> tuple[Rank, Budget]:
    """Return what an engine that sizes its cache itself likely holds if its kind of start took less than planned.

    That changes the expected tokens, nothing that is rendered: a wrong record must not start an engine with too
    large a cache. An engine that is given its cache in bytes holds what it is given.
    """
    pinned = memory_of(rank.request).cache_is_exact and rank.request.gpu_memory_utilization is None
    if rank.saved is None or pinned:
        return rank, budget
    saving, settled = _beyond(rank, rank.saved), rank.request
    if settled.gpu_memory_utilization is None:
        saving = replace(saving, free=rank.free - rank.saved.likely)
        settled = replace(settled, memory_percent=budget.percent)
    return saving, replace(budget, likely=max(_budget(replace(saving, request=settled)).likely, budget.likely))


def kind_of(request: PlanRequest, tensor: int) -> StartKind:
    """Return the kind of start that `request` is on `tensor` ranks."""
    return _kind(request, tensor, weight_bytes(request, tensor))


def _kind(request: PlanRequest, tensor: int, weights: WeightBytes) -> StartKind:
    how = quantization_in_force(request)
    return StartKind(
        engine=request.engine,
        backend=request.backend or "",
        version=".".join(map(str, release(request.version)[:2])),
        architecture=request.shape.architecture,
        quantization="" if how is None else f"{how.method} {how.bits}",
        product=request.gpu.product,
        tensor=tensor,
        weight_bytes=weights.total,
    )


def _learned(request: PlanRequest, tensor: int, weights: WeightBytes, constants: Runtime) -> Overhead | None:
    """Return what starts of this kind took beyond the constants; the bound grows only if they took more than it."""
    if not request.calibration.records:
        return None
    record = request.calibration.of(_kind(request, tensor, weights))
    if record is None or not record.extra:
        return None
    beyond = max(constants.before_likely + record.extra - constants.before_high, 0)
    starts = len(record.extras)
    source = f"{starts} measured start{'s' * (starts != 1)} of the same model, engine version, GPU and ranks"
    return Overhead("beyond the constants", record.extra, beyond, source)


def _budget(rank: Rank) -> Budget:
    if rank.free <= 0:
        return Budget(0, 0, problem=_too_big(rank))
    return memory_of(rank.request).budget(rank)


def _too_big(rank: Rank) -> str:
    where = f"each of {rank.tensor} GPUs" if rank.tensor > 1 else "1 GPU"
    return (
        f"the weights take {gib(rank.weights.total)} on {where} and the engine {gib(rank.runtime.before_likely)} before"
        f" any KV cache; one GPU has {gib(rank.request.gpu.memory_bytes)}"
    )


def largest_percent(found: Estimate) -> int:
    """Return the largest memoryPercent that leaves the runtime its room; 0 or less if none does."""
    usable = found.free - found.set_aside
    return 100 * (usable - found.reserve) // usable if usable > 0 else 0


def _cut(rank: Rank, likely: Allocation, low: Allocation, wanted: int) -> int:
    """Return the context for a request that names none: what surely fits, where that is of use, else what likely does.

    Where the engine is given its cache in bytes, the likely blocks are the sure ones.
    """
    if not memory_of(rank.request).cache_is_exact:
        sure = _longest(rank, low.blocks, wanted)
        if sure >= min(wanted, LEAST_CONTEXT):
            return sure
    return _longest(rank, likely.blocks, wanted)


def _longest(rank: Rank, blocks: int, wanted: int) -> int:
    """Return the longest context up to `wanted` that one request can have in `blocks` blocks, in whole blocks."""
    request, tensor, batch = rank.request, rank.tensor, rank.batch
    if blocks_per_request(request, tensor, wanted, batch.tokens) <= blocks:
        return wanted
    step = memory_of(request).block_tokens
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
        wanted_tokens = max(context, least)
        return f"the KV cache holds {likely.tokens:,} tokens, fewer than one request of {wanted_tokens:,} tokens"
    return None
