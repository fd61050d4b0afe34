"""Between the resource and the planner: a spec as a plan's request, and a plan's result as the reconciler's outcome."""

from __future__ import annotations

import json
from dataclasses import replace

from llm_operator.api.quantity import bytes_of
from llm_operator.api.spec import GpuSpec, LLMDeploymentSpec
from llm_operator.api.status import ModelStatus, PlanStatus
from llm_operator.engines import KVAllocation, RefusedError, engine_of, resolve
from llm_operator.models import ModelShape, expected_bytes
from llm_operator.planning import (
    GpuFacts,
    KVQuantization,
    Plan,
    PlanInputError,
    PlanRequest,
    PlanResult,
    UnknownGpuError,
    Verdict,
    WeightQuantization,
    corrected,
    gib,
    gpu_by_name,
    plan,
    plan_document,
    quantization_needs,
    quantization_problems,
)
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.planning.weights import weight_bytes

# A node has at most this many GPUs; if nothing says how many, the planner may try up to it.
GPUS_PER_NODE = 8
ANY_GPU_BYTES = 1 << 44
"""More than any GPU has: what does not fit there is impossible for another reason."""


def gpu_given(gpu: GpuSpec) -> GpuFacts | None:
    """The GPU as spec.gpu describes it; None if it does not say its memory."""
    if gpu.memory is None:
        return None
    given = GpuFacts(
        product=gpu.product or f"GPU of {gpu.memory} (spec.gpu.memory)",
        memory_bytes=bytes_of(gpu.memory),
        compute_capability=_capability(gpu.product),
        count=GPUS_PER_NODE,
        source="spec.gpu.memory",
    )
    return corrected(given, "spec.gpu.memory")


def _capability(product: str | None) -> tuple[int, int] | None:
    """The catalogue's, for a product that it has."""
    try:
        return gpu_by_name(product).compute_capability if product is not None else None
    except UnknownGpuError:
        return None


def request_from_spec(spec: LLMDeploymentSpec, shape: ModelShape, gpu: GpuFacts) -> PlanRequest:
    """The request to the planner for one spec.

    Raises:
        RefusedError: the engine version is not known, or the backend does not support the architecture.
    """
    version, backend = resolve(spec, shape.architecture)
    engine = engine_of(spec.engine.type)
    flags = engine.plan_flags(spec)
    return PlanRequest(
        shape=shape,
        engine=spec.engine.type,
        version=version,
        gpu=gpu,
        backend=backend,
        tensor=_tensor(spec),
        kv_quantization=KVQuantization(spec.kv_cache.quantization),
        memory_percent=spec.kv_cache.memory_percent,
        kv_memory_bytes=bytes_of(spec.kv_cache.memory) if spec.kv_cache.memory else None,
        context_length=spec.context_length,
        max_concurrent_sequences=spec.max_concurrent_sequences,
        max_batched_tokens=engine.batched_tokens(spec, shape.context_length),
        weight_quantization=_recipe(spec),
        prefix_caching=spec.kv_cache.prefix_caching,
        enforce_eager=flags.enforce_eager,
        gpu_memory_utilization=engine.share_of_total(spec),
        hybrid_cache=flags.hybrid_cache,
        weight_format=spec.model.format,
        trust_remote_code=_trusted(spec),
        deprecated_weights=flags.deprecated_weights,
        adapters=engine.adapters(spec),
        draft=engine.draft(spec),
        expert_kernels=flags.expert_kernels,
    )


def _trusted(spec: LLMDeploymentSpec) -> bool | None:
    """Whether code of the repository may run; an image of the user's may have classes that need none of it."""
    return True if spec.model.trust_remote_code else None if spec.engine.image else False


def _tensor(spec: LLMDeploymentSpec) -> int | None:
    """The tensor parallelism that is settled before the plan.

    A workspace is made for a number of GPUs, before or beside the plan, and its server refuses another one.
    """
    return spec.parallelism.tensor or (1 if spec.engine.conversion != "None" else None)


def _recipe(spec: LLMDeploymentSpec) -> WeightQuantization | None:
    recipe = spec.weight_quantization
    if recipe is None:
        return None
    calibration = recipe.calibration
    return WeightQuantization(
        method=recipe.method,
        bits=recipe.bits,
        group_size=recipe.group_size,
        samples=0 if calibration.dataset == "None" else calibration.samples,
        sequence_length=calibration.sequence_length,
        batch_size=calibration.batch_size,
        search_scale=calibration.search_scale,
    )


def model_without_plan(shape: ModelShape, revision: str | None) -> ModelStatus:
    """What the files tell of a model for which there is no plan; the weights as they are stored."""
    return ModelStatus(
        architecture=shape.architecture,
        parameters=shape.parameters,
        weight_bytes=expected_bytes(shape),
        resolved_revision=revision,
    )


def unknown_outcome(
    spec: LLMDeploymentSpec,
    reason: str,
    message: str,
    *,
    architecture: str | None = None,
    pending: bool = False,
    for_now: bool = False,
) -> PlanOutcome:
    """No plan: what the spec says is passed on, and what it leaves open stays the engine's default.

    Args:
        spec: the spec.
        reason: CamelCase word.
        message: why there is no plan.
        architecture: of the model, where it is known.
        pending: the facts are on their way: nothing is rendered yet.
        for_now: they may come later.
    """
    return PlanOutcome(
        verdict="Pending" if pending else "Unknown",
        reason=reason,
        message=message,
        tensor=spec.parallelism.tensor or 1,
        context_length=spec.context_length,
        kv=engine_of(spec.engine.type).without_plan(spec),
        architecture=architecture,
        for_now=for_now,
    )


def impossible(spec: LLMDeploymentSpec, shape: ModelShape) -> str | None:
    """Why no GPU, however large, could serve it; None if one may, or the spec is refused anyway."""
    tensor = _tensor(spec)
    gpu = GpuFacts(
        product="any GPU",
        memory_bytes=ANY_GPU_BYTES,
        compute_capability=None,
        count=max(GPUS_PER_NODE, tensor or 1),
        source="none is known",
    )
    try:
        result = plan(request_from_spec(spec, shape, gpu))
    except (RefusedError, PlanInputError):
        return None
    return "; ".join(result.reasons) if result.verdict is Verdict.DOES_NOT_FIT and result.plan is None else None


def look_decides(spec: LLMDeploymentSpec) -> bool:
    """Whether anything that is rendered depends on the model's files where the GPU's memory is not known.

    Without it there is no plan. What is left is the choice of a backend, and what Jobs make of the files.
    """
    chosen = not engine_of(spec.engine.type).needs_architecture(spec)
    return not chosen or spec.weight_quantization is not None or spec.engine.conversion != "None"


def with_quantization(
    outcome: PlanOutcome, spec: LLMDeploymentSpec, shape: ModelShape, gpu: GpuFacts | None
) -> PlanOutcome:
    """The outcome with what the quantization that the spec requests takes, and what stands against it.

    Where the policy is to warn, a GPU that is likely too small does not: the Job goes on with less calibration data.
    """
    recipe = _recipe(spec)
    if recipe is None:
        return outcome
    memory = gpu.memory_bytes if gpu is not None and spec.plan_policy == "Enforce" else None
    return replace(
        outcome,
        quantization_problems=quantization_problems(shape, recipe, memory),
        quantization_memory_bytes=quantization_needs(shape, recipe).host_bytes,
    )


def outcome_of(
    spec: LLMDeploymentSpec, request: PlanRequest, result: PlanResult, revision: str | None = None
) -> PlanOutcome:
    """What the reconciler does with a result; `kvCache.memory` of the spec is rendered as it is said there."""
    plan, shape = result.plan, request.shape
    model = ModelStatus(
        architecture=shape.architecture,
        parameters=shape.parameters,
        weight_bytes=weight_bytes(request, 1).tensors,
        resolved_revision=revision,
    )
    numbers = [_summary(plan)] if plan is not None and result.verdict is Verdict.FITS else []
    notes = [request.gpu.note] if request.gpu.note else []
    text = "; ".join([*result.reasons, *numbers, *notes, *_offers(result)])
    if plan is None or result.verdict is Verdict.UNKNOWN:
        outcome = unknown_outcome(spec, "PlanUnknown", text, architecture=shape.architecture)
        if result.verdict is Verdict.DOES_NOT_FIT:  # the engine cannot do it at all, so there are no numbers
            outcome = replace(outcome, verdict="DoesNotFit", reason="DoesNotFit")
        return replace(outcome, model=model)
    settings = plan.settings
    return PlanOutcome(
        verdict="Fits" if result.verdict is Verdict.FITS else "DoesNotFit",
        reason="Fits" if result.verdict is Verdict.FITS else "DoesNotFit",
        message=text,
        tensor=plan.tensor,
        context_length=spec.context_length or settings.context_length,
        kv=KVAllocation(
            ratio_percent=settings.ratio_percent,
            kv_cache_memory_bytes=None if spec.kv_cache.memory else settings.kv_cache_memory_bytes,
            utilization_percent=_percent(settings.gpu_memory_utilization),
            max_sequences=settings.max_sequences,
            max_batched_tokens=settings.max_batched_tokens,
        ),
        architecture=shape.architecture,
        status=PlanStatus.model_validate(plan_document(plan), strict=False),
        model=model,
    )


def _percent(share: float | None) -> int | None:
    return None if share is None else round(100 * share)


def _offers(result: PlanResult) -> list[str]:
    if not result.counter_offers:
        return []
    changes = [
        ", ".join(f"{path}: {_in_yaml(value)}" for path, value in offer.change.items())
        for offer in result.counter_offers
    ]
    return [f"what fits instead: {' | '.join(changes)}"]


def _in_yaml(value: object) -> str:
    """A value as it can stand in a manifest."""
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _summary(plan: Plan) -> str:
    requests = f"{plan.max_concurrent_requests:,} request{'s' * (plan.max_concurrent_requests != 1)}"
    return (
        f"{gib(plan.weight_bytes_per_gpu)} of weights on each GPU and room for {plan.kv_tokens:,} KV tokens per "
        f"replica at tensor parallelism {plan.tensor}: {requests} of {plan.context_length:,} tokens at a time"
    )
