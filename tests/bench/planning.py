"""How long planning takes: one plan, one refusal with its counter-offers, a grid of 500.

    python -m tests.bench.planning        prints a table, exit code 1 where a limit is passed

Limits: one plan 5 ms, with counter-offers too; 500 plans of a comparison 1 s. Best of several runs, as the machine may
be busy with other things.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from llm_operator.planning import GpuFacts, KVQuantization, PlanRequest, WeightQuantization, compare, gpu_by_name, plan
from tests.support.engine_names import Backend, Engine
from tests.support.planning import shape

ONE_PLAN_SECONDS = 0.005
GRID_SECONDS = 1.0
RUNS = 20


def best(work: Callable[[], object], runs: int = RUNS) -> float:
    """Return the shortest of several runs, in seconds."""
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def grid() -> int:
    """Plan 500 combinations; return how many were planned."""
    models = [shape(name) for name in ("qwq-32b", "llama-3.3-70b", "qwen3-30b-a3b", "qwen2.5-72b-instruct", "phi-4")]
    gpu = gpu_by_name("NVIDIA-H100-80GB-HBM3", 8)
    weights = (None, WeightQuantization(), WeightQuantization(group_size=64))
    cells = 0
    for model in models:
        request = PlanRequest(model, Engine.LMDEPLOY, "0.18.0", gpu)
        cells += len(compare(request, tuple(range(1, 10)), tuple(KVQuantization), weights))
    return cells


def main() -> int:
    """Measure; return the exit code."""
    failed = False
    cases: list[tuple[str, PlanRequest]] = []
    for name, engine, backend in (
        ("TurboMind", Engine.LMDEPLOY, Backend.TURBOMIND),
        ("pytorch", Engine.LMDEPLOY, Backend.PYTORCH),
        ("vLLM", Engine.VLLM, Backend.TURBOMIND),
    ):
        version = "0.33.0" if engine is Engine.VLLM else "0.18.0"
        fits, small = gpu_by_name("NVIDIA-RTX-A6000", 2), GpuFacts("small", 24 << 30, (8, 6), 1)
        cases.append((f"{name}: QwQ-32B fits", PlanRequest(shape("qwq-32b"), engine, version, fits, backend)))
        cases.append((f"{name}: QwQ-32B refused", PlanRequest(shape("qwq-32b"), engine, version, small, backend)))
        model = shape("deepseek-v3" if engine is Engine.VLLM else "mixtral-8x22b")
        cases.append((f"{name}: {model.architecture} refused", PlanRequest(model, engine, version, small, backend)))
    for title, request in cases:
        seconds = best(partial(plan, request))
        failed |= seconds > ONE_PLAN_SECONDS
        print(f"{title:48} {seconds * 1000:8.2f} ms   limit {ONE_PLAN_SECONDS * 1000:.0f} ms")
    cells = grid()
    seconds = best(grid, 5) * 500 / cells
    failed |= seconds > GRID_SECONDS
    print(f"{'comparison, per 500 plans':48} {seconds * 1000:8.2f} ms   limit {GRID_SECONDS * 1000:.0f} ms")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
