"""Requests that the planner's tests share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm_operator.models import ModelShape, parse_config
from llm_operator.planning import GpuFacts, PlanRequest, gpu_by_name
from tests.support.engine_names import Backend, Engine

CONFIGS = Path(__file__).parents[1] / "unit" / "models" / "configs"
VERSIONS = {Engine.LMDEPLOY: "0.18.0", Engine.VLLM: "0.33.0"}
GIB = 1 << 30


def config(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CONFIGS / f"{name}.json").read_text())
    return found


def shape(name: str) -> ModelShape:
    return parse_config(config(name))


def card(gibibytes: float, count: int = 1, capability: tuple[int, int] | None = (8, 6)) -> GpuFacts:
    return GpuFacts(f"GPU of {gibibytes} GiB", int(gibibytes * GIB), capability, count)


def request(
    model: str = "internlm2_5-7b-chat",
    engine: Engine = Engine.LMDEPLOY,
    backend: Backend = Backend.TURBOMIND,
    gpu: GpuFacts | None = None,
    **more: Any,
) -> PlanRequest:
    gpu = gpu_by_name("NVIDIA-RTX-A6000", 2) if gpu is None else gpu
    return PlanRequest(shape(model), engine, VERSIONS[engine], gpu, backend, **more)


ENGINES = [(Engine.LMDEPLOY, Backend.TURBOMIND), (Engine.LMDEPLOY, Backend.PYTORCH), (Engine.VLLM, Backend.TURBOMIND)]
