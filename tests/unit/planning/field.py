"""Public starts of vLLM with logged numbers (data/field_plans.json), as requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm_operator.memory.types import Draft
from llm_operator.models import parse_config
from llm_operator.planning import GpuFacts, KVQuantization, PlanRequest
from llm_operator.planning.kv_cache import Allocation, allocate
from llm_operator.planning.runtime import default_batch
from tests.support.engine_names import Engine
from tests.support.planning import GIB, config

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "field_plans.json").read_text())
FIELD_CONFIGS = Path(__file__).parents[1] / "models" / "field"


def asked(row: dict[str, Any]) -> PlanRequest:
    """The start as a request, sized by utilization where the report tells it."""
    own = row["config"]
    if isinstance(own, str):
        values = json.loads((FIELD_CONFIGS / f"{own}.json").read_text())
    else:
        values = (config(row["base"]) if row["base"] else {}) | own
    major, minor = row["compute_capability"]
    return PlanRequest(
        shape=parse_config(values),
        engine=Engine.VLLM,
        version=row["planned_version"],
        gpu=GpuFacts(row["product"], row["memory_bytes"], (major, minor), row["tensor"]),
        tensor=row["tensor"],
        kv_quantization=KVQuantization.FP8 if "FP8 KV" in row["note"] else KVQuantization.NONE,
        gpu_memory_utilization=row["utilization"],
        context_length=row["context_length"],
        max_concurrent_sequences=row["sequences"],
        max_batched_tokens=row["batched_tokens"],
        enforce_eager=row["eager"],
        prefix_caching=row.get("prefix_caching", True),
        draft=Draft(row["draft"], own_layer=True, other_model=False) if row.get("draft") else None,
        expert_kernels=row.get("expert_kernels", ""),
        deprecated_weights=True,  # the releases of the reports did not yet refuse them
    )


def held(row: dict[str, Any]) -> Allocation:
    """What the planner makes of the bytes that the engine said it had for its cache."""
    given = asked(row)
    context = row["context_length"] or given.shape.context_length
    return allocate(given, row["tensor"], int(row["available_gib"] * GIB), context, default_batch(given).tokens)
