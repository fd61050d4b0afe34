"""Bytes and decisions: what will fit on which GPUs, as pure arithmetic. No clock, no network, no Kubernetes client.

Use::

    shape = models.parse_config(json.load(file))            # ModelConfigError: -> planning.unknown(str(error))
    gpu = planning.gpu_by_name("NVIDIA-RTX-A6000", count=2)  # or gpus_from_node(labels, allocatable), GpuFacts(...)
    request = PlanRequest(shape=shape, engine=Engine.LMDEPLOY, version="0.18.0", gpu=gpu)
    result = planning.plan(request)                          # PlanResult(verdict, reasons, plan, counter_offers)
    planning.document({"name": result})                      # {"items": [{"name", "verdict", "reasons", "plan", ...}]}
    planning.compare(request)                                # a grid of TP x KV policy x weight format, the best marked

`plan` raises PlanInputError for a request that makes no sense (percent 0, negative sizes); what is sensible and does
not fit is a DoesNotFit with reasons and counter-offers. `result.plan.settings` says what the command line carries.
One percentage has one meaning for both engines: memory_percent is the share of what the weights leave free that the
KV cache gets. LMDeploy takes it as its ratio; for vLLM it becomes --kv-cache-memory-bytes, which that engine obeys
exactly, where its own utilization is a share of the total and is exceeded by graphs and sampler.
"""

from llm_operator.planning.types import (
    DEFAULT_MEMORY_PERCENT,
    Backend,
    CounterOffer,
    Engine,
    EngineSettings,
    GpuFacts,
    KVQuantization,
    Overhead,
    Plan,
    PlanInputError,
    PlanRequest,
    PlanResult,
    Term,
    Verdict,
    WeightQuantization,
)

# To come, with these signatures:
#   plan(request: PlanRequest) -> PlanResult
#   unknown(reason: str) -> PlanResult                       a model or GPU about which nothing is known
#   compare(request, tensors=None, kv_quantizations=None, weight_quantizations=None) -> tuple[ComparedPlan, ...]
#       ComparedPlan(tensor: int, kv_quantization, weight_quantization, result: PlanResult, best: bool)
#   document(results: Mapping[str, PlanResult]) -> dict      the JSON schema of `kubectl llm plan`
#   plan_document(plan: Plan) -> dict                        status.plan's fields in camelCase, explanation included
#   gpu_by_name(name: str, count: int = 1) -> GpuFacts       UnknownGpuError(.nearest: tuple[str, ...])
#   known_gpus() -> tuple[GpuFacts, ...]
#   parse_gpu("NVIDIA-RTX-A6000:2") -> GpuFacts              UnknownGpuError, PlanInputError
#   parse_gpu_memory("48Gi:2" | "51527024640:2", compute_capability: str | None) -> GpuFacts
#   gpus_from_node(labels, allocatable, resource="nvidia.com/gpu") -> GpuFacts | None

__all__ = [
    "DEFAULT_MEMORY_PERCENT",
    "Backend",
    "CounterOffer",
    "Engine",
    "EngineSettings",
    "GpuFacts",
    "KVQuantization",
    "Overhead",
    "Plan",
    "PlanInputError",
    "PlanRequest",
    "PlanResult",
    "Term",
    "Verdict",
    "WeightQuantization",
]
