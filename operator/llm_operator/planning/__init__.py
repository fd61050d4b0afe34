"""Bytes and decisions: what will fit on which GPUs, as pure arithmetic. No clock, no network, no Kubernetes client.

Use::

    shape = models.parse_config(json.load(file))            # ModelConfigError: -> planning.unknown(str(error))
    gpu = planning.gpu_by_name("NVIDIA-RTX-A6000", count=2)  # or gpus_from_node(labels, allocatable), GpuFacts(...)
    request = PlanRequest(shape=shape, engine=spec.engine.type, version="0.18.0", gpu=gpu)
    result = planning.plan(request)                          # PlanResult(verdict, reasons, plan, counter_offers)
    planning.document({"name": result})                      # {"items": [{"name", "verdict", "reasons", "plan", ...}]}
    planning.compare(request)                                # a grid of TP x KV policy x weight format, the best marked

`plan` raises PlanInputError for a request that makes no sense (percent 0, negative sizes); what is sensible and does
not fit is a DoesNotFit with reasons and counter-offers. `result.plan.settings` says what the command line carries.
One percentage has one meaning for every engine: memory_percent is the share of what the weights leave free that the
KV cache gets. The engine's folder says how it becomes a flag.
"""

from llm_operator.memory.types import (
    DEFAULT_MEMORY_PERCENT,
    EngineSettings,
    GpuFacts,
    KVQuantization,
    Overhead,
    PlanInputError,
    PlanRequest,
    Term,
    WeightQuantization,
    gib,
)
from llm_operator.planning.compare import ComparedPlan, compare
from llm_operator.planning.document import document, plan_document, result_document
from llm_operator.planning.gpus import (
    UnknownGpuError,
    corrected,
    gpu_by_name,
    gpu_node_selectors,
    gpus_from_node,
    known_gpus,
    parse_gpu,
    parse_gpu_memory,
    parse_quantity,
)
from llm_operator.planning.learning import calibration_text, learned_from, read_calibration
from llm_operator.planning.planner import plan, unknown
from llm_operator.planning.quantizing import QuantizationNeeds, quantization_needs, quantization_problems
from llm_operator.planning.types import CounterOffer, Plan, PlanResult, Verdict

__all__ = [
    "DEFAULT_MEMORY_PERCENT",
    "ComparedPlan",
    "CounterOffer",
    "EngineSettings",
    "GpuFacts",
    "KVQuantization",
    "Overhead",
    "Plan",
    "PlanInputError",
    "PlanRequest",
    "PlanResult",
    "QuantizationNeeds",
    "Term",
    "UnknownGpuError",
    "Verdict",
    "WeightQuantization",
    "calibration_text",
    "compare",
    "corrected",
    "document",
    "gib",
    "gpu_by_name",
    "gpu_node_selectors",
    "gpus_from_node",
    "known_gpus",
    "learned_from",
    "parse_gpu",
    "parse_gpu_memory",
    "parse_quantity",
    "plan",
    "plan_document",
    "quantization_needs",
    "quantization_problems",
    "read_calibration",
    "result_document",
    "unknown",
]
