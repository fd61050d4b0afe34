"""Remedies that signatures of several engines name."""

from __future__ import annotations

from collections.abc import Mapping

from llm_operator.engines.log_form import Stage

SMALLER = "quantize the weights, raise parallelism.tensor, or use a GPU with more memory"
CACHE = "lower kvCache.memoryPercent or kvCache.memory, maxConcurrentSequences or contextLength"
COUNT = "check the device plugin, gpu.resourceName and parallelism.tensor"
OUT_OF_MEMORY = (
    "GPUOutOfMemory",
    "the GPU's memory was exhausted",
    f"{SMALLER}; where the weights had been loaded, lower kvCache.memoryPercent",
)
BY_STAGE: Mapping[Stage, str] = {
    "Loading": f"{SMALLER}: the weights do not fit beside what the engine needs",
    "Profiling": f"lower maxConcurrentSequences or contextLength; or {SMALLER}",
    "Capturing": "lower kvCache.memoryPercent, which leaves room for CUDA graphs",
    "Serving": f"{CACHE}; or {SMALLER}",
}
FORMAT = "set model.format to what config.json says, or leave it at Auto"
EARLIER = "see the first traceback of kubectl logs --previous, which has the cause"
AGREE = "make engine.image and engine.version agree, or correct engine.extraArgs"
ANOTHER = "use another engine.version; kubectl logs --previous shows where it failed"
