"""The verdict on one request: is it sensible, does an engine take it, with which tensor parallelism does it fit."""

from __future__ import annotations

import math
from collections.abc import Iterator

from llm_operator.memory.budget import Estimate
from llm_operator.memory.types import PlanInputError, PlanRequest, gib
from llm_operator.memory.versions import release
from llm_operator.planning.capability import refusals, unknowns
from llm_operator.planning.engine import as_loaded, memory_of
from llm_operator.planning.estimate import estimate
from llm_operator.planning.explain import as_plan
from llm_operator.planning.parallel import accepted, objections
from llm_operator.planning.types import PlanResult, Verdict

LEAST_GPU = 1 << 28
LARGEST_GPU = 1 << 50


def decide(request: PlanRequest) -> PlanResult:
    """Return the verdict on a checked request, without counter-offers."""
    request = as_loaded(request)
    against = refusals(request)
    if against:
        return PlanResult(Verdict.DOES_NOT_FIT, against)
    without = unknowns(request)
    if without:
        return PlanResult(Verdict.UNKNOWN, without)
    if request.tensor is not None:
        return _given(request, request.tensor)
    tried = None
    for tensor in accepted(request, request.gpu.count):
        tried = estimate(request, tensor)
        if tried.problem is None:
            return _fits(tried)
    if tried is None or tried.problem is None:
        return PlanResult(Verdict.DOES_NOT_FIT, (f"no tensor parallelism up to {request.gpu.count} is accepted",))
    return PlanResult(Verdict.DOES_NOT_FIT, (_on(tried, tried.problem),), as_plan(tried))


def check(request: PlanRequest) -> None:
    """Raise one PlanInputError that names everything in `request` that makes no sense."""
    wrong = tuple(_nonsense(request))
    if wrong:
        raise PlanInputError("; ".join(wrong))


def _nonsense(request: PlanRequest) -> Iterator[str]:
    for name, value, least, most in (
        ("GPU count", request.gpu.count, 1, 1024),
        ("tensor", request.tensor, 1, 1024),
        ("memoryPercent", request.memory_percent, 1, 99),
        ("kvCache.memory", request.kv_memory_bytes, 1, LARGEST_GPU),
        ("contextLength", request.context_length, 1, 1 << 30),
        ("maxConcurrentSequences", request.max_concurrent_sequences, 1, 1 << 20),
        ("max batched tokens", request.max_batched_tokens, 1, 1 << 24),
    ):
        if value is not None and not least <= value <= most:
            yield f"{name} is {value:,}; expected {least:,} to {most:,}"
    memory = request.gpu.memory_bytes
    if not LEAST_GPU <= memory <= LARGEST_GPU:
        yield f"GPU memory is {gib(memory)}; expected {gib(LEAST_GPU)} to {gib(LARGEST_GPU)}, such as 48Gi"
    share = request.gpu_memory_utilization
    if share is not None and not (math.isfinite(share) and 0 < share <= 1):
        yield f"GPU memory utilization is {share}; expected more than 0 and at most 1"
    given = [request.memory_percent, request.kv_memory_bytes, share]
    if sum(value is not None for value in given) > 1:
        yield "memoryPercent, kvCache.memory and GPU memory utilization exclude each other"
    try:
        yield from memory_of(request).nonsense(request)
    except PlanInputError as error:
        yield str(error)
    wanted = request.weight_quantization
    if wanted is not None and not (1 <= wanted.bits <= 16 and 1 <= wanted.group_size <= 1 << 16):
        yield f"weightQuantization has {wanted.bits} bits in groups of {wanted.group_size}"
    try:
        release(request.version)
    except ValueError as error:
        yield f"engine version {error}"


def _given(request: PlanRequest, tensor: int) -> PlanResult:
    against = objections(request, tensor)
    if tensor > request.gpu.count:
        against += (f"tensor parallelism {tensor} needs {tensor} GPUs on one node; there are {request.gpu.count}",)
    if against:
        return PlanResult(Verdict.DOES_NOT_FIT, against)
    tried = estimate(request, tensor)
    if tried.problem is None:
        return _fits(tried)
    return PlanResult(Verdict.DOES_NOT_FIT, (_on(tried, tried.problem),), as_plan(tried))


def _on(tried: Estimate, problem: str) -> str:
    return f"on {_gpus(tried)}: {problem}"


def _gpus(tried: Estimate) -> str:
    product, count = tried.request.gpu.product, tried.tensor
    if count == 1:
        return f"one {product}"
    size = product.removeprefix("GPU of ")
    return f"{count} {product} GPUs" if size == product else f"{count} GPUs of {size}"


def _fits(tried: Estimate) -> PlanResult:
    reasons = [f"fits on {_gpus(tried)}"]
    if tried.context < tried.request.shape.context_length and tried.request.context_length is None:
        reasons.append(f"the context is cut to {tried.context:,} tokens, as more do not fit")
    if tried.low.tokens <= 0:
        reasons.append("in the worst case no memory is left for the KV cache, and the engine does not start")
    elif tried.low.tokens < tried.context:
        reasons.append(f"the KV cache may hold as few as {tried.low.tokens:,} tokens, less than one whole context")
    reasons += memory_of(tried.request).notes(tried.request)
    return PlanResult(Verdict.FITS, tuple(reasons), as_plan(tried))
