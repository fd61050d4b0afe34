"""Counter-offers: changes of a request that fit, each proved by planning it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llm_operator.engines.registry import ENGINES
from llm_operator.memory.engine import Change
from llm_operator.memory.types import GIB, KVQuantization, PlanRequest
from llm_operator.planning.capability import awq_recipe, refusals
from llm_operator.planning.engine import as_loaded, memory_of
from llm_operator.planning.estimate import LEAST_CONTEXT, estimate, largest_percent
from llm_operator.planning.parallel import accepted, objections
from llm_operator.planning.types import CounterOffer, Plan, Verdict
from llm_operator.planning.verdict import decide

MOST_OFFERS = 8
NODE_GPUS = 8
LARGEST_OFFERED_GPU = 512
MOST_PERCENT = 95


def counter_offers(request: PlanRequest) -> tuple[CounterOffer, ...]:
    """Return changes that fit, the least ones first: one change where that is enough, two if it is not."""
    request = as_loaded(request)
    if request.shape.unplanned or not request.shape.keeps_tokens:  # no change makes its cache known
        return ()
    found = list(_fitting(_single(request)))
    if not found:
        found += _fitting(_pairs(request))
    larger = _larger_gpu(request)
    if larger is not None:
        found.append(larger)
    return tuple(found[:MOST_OFFERS])


def _fitting(candidates: Iterator[tuple[Change, PlanRequest]]) -> Iterator[CounterOffer]:
    for change, request in candidates:
        plan = _plan(request)
        if plan is not None:
            yield CounterOffer(change, request, plan)


def _plan(request: PlanRequest) -> Plan | None:
    result = decide(request)
    return result.plan if result.verdict is Verdict.FITS else None


def _single(request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
    yield from _format(request)
    yield from _engines(request)
    yield from _tensors(request)
    yield from _caches(request)
    yield from _contexts(request)
    yield from _percent(request)
    yield from _awq(request)
    if request.weight_quantization is not None:
        yield {"weightQuantization": None}, replace(request, weight_quantization=None)
    for sequences in (256, 64, 16) if memory_of(request).fewer_sequences_help else ():
        if (request.max_concurrent_sequences or 1 << 20) > sequences:
            yield {"maxConcurrentSequences": sequences}, replace(request, max_concurrent_sequences=sequences)


def _format(request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
    """Yield the format that config.json says, where the engine refuses the request."""
    if request.weight_format != "Auto" and refusals(request):
        yield {"model.format": "Auto"}, replace(request, weight_format="Auto")


def _pairs(request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
    for change, first in (*_tensors(request), *_awq(request)):
        for second_change, second in (*_caches(first), *_percent(first), *_contexts(first), *_awq(first)):
            yield {**change, **second_change}, second


def _awq(request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
    """Yield the recipe that this model takes, where it may be quantized at all."""
    recipe = awq_recipe(request)
    if recipe is None or request.weight_quantization is not None or request.shape.quantization is not None:
        return
    said: dict[str, object] = {"method": recipe.method, "bits": recipe.bits, "groupSize": recipe.group_size}
    if not recipe.samples:
        said["calibration"] = {"dataset": "None"}
    yield {"weightQuantization": said}, replace(request, weight_quantization=recipe)


def _engines(request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
    """Yield the other backends of this engine, then the other engines, where this one cannot do it at all.

    One that would pass over a model.format that contradicts config.json would not help.
    """
    if not refusals(request) or not refusals(replace(request, weight_format="Auto", loaded_as=None)):
        return
    yield from memory_of(request).other_backends(request)
    for engine in ENGINES.values():
        if engine.name != request.engine:
            yield from engine.taking_over(request)


def _tensors(request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
    """Yield the smallest tensor parallelism that fits on this node, else on one with up to 8 such GPUs."""
    for tensor in accepted(request, max(request.gpu.count, NODE_GPUS)):
        if tensor == request.tensor or (request.tensor is None and tensor <= request.gpu.count):
            continue
        change: dict[str, object] = {"parallelism.tensor": tensor}
        gpu = request.gpu
        if tensor > gpu.count:
            change["gpu.count"] = tensor
            gpu = replace(gpu, count=tensor)
        changed = replace(request, tensor=tensor, gpu=gpu)
        if not refusals(changed) and estimate(changed, tensor).problem is None:
            yield change, changed
            return


def _caches(request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
    tightest_first = {KVQuantization.NONE: 3, KVQuantization.FP8: 2, KVQuantization.INT8: 1, KVQuantization.INT4: 0}
    refused = bool(refusals(request))
    for quantization in (KVQuantization.NONE, KVQuantization.FP8, KVQuantization.INT8, KVQuantization.INT4):
        tighter = tightest_first[quantization] < tightest_first[request.kv_quantization]
        if quantization is request.kv_quantization or not (tighter or refused):
            continue
        yield {"kvCache.quantization": quantization.value}, replace(request, kv_quantization=quantization)


def _contexts(request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
    """Yield the longest context that fits, in steps of 1024 tokens where it is longer than that."""
    if request.context_length is None or request.context_length <= LEAST_CONTEXT:
        return
    plan = _plan(replace(request, context_length=None))
    if plan is None:
        return
    longest = min(plan.context_length, request.context_length - 1)
    longest = longest // 1024 * 1024 or longest
    yield {"contextLength": longest}, replace(request, context_length=longest)


def _percent(request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
    """Yield the largest share that leaves the runtime its room."""
    free_choice = replace(request, memory_percent=None, gpu_memory_utilization=None, kv_memory_bytes=None)
    tensors = accepted(request, request.gpu.count) if request.tensor is None else (request.tensor,)
    if not tensors:
        return
    percent = min(largest_percent(estimate(free_choice, tensors[-1])), MOST_PERCENT)
    if percent >= 1 and percent != request.memory_percent:
        yield {"kvCache.memoryPercent": percent}, replace(free_choice, memory_percent=percent)


def _larger_gpu(request: PlanRequest) -> CounterOffer | None:
    """Return the smallest memory of a GPU, in whole GiB, with which the request fits unchanged."""
    if refusals(request) or (request.tensor is not None and objections(request, request.tensor)):
        return None
    low, high = request.gpu.memory_bytes // GIB + 1, LARGEST_OFFERED_GPU
    if low > high or not _fits_with(request, high):
        return None
    while low < high:
        middle = (low + high) // 2
        if _fits_with(request, middle):
            high = middle
        else:
            low = middle + 1
    changed = _with_memory(request, high)
    plan = _plan(changed)
    return None if plan is None else CounterOffer({"gpu.memory": f"{high}Gi"}, changed, plan)


def _with_memory(request: PlanRequest, gibibytes: int) -> PlanRequest:
    return replace(request, gpu=replace(request.gpu, product=f"GPU of {gibibytes} GiB", memory_bytes=gibibytes * GIB))


def _fits_with(request: PlanRequest, gibibytes: int) -> bool:
    changed = _with_memory(request, gibibytes)
    # The more ranks, the less on each: if any accepted number of them fits, the largest does.
    tensor = request.tensor if request.tensor is not None else accepted(changed, request.gpu.count)[-1]
    return tensor <= request.gpu.count and estimate(changed, tensor).problem is None
