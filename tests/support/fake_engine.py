"""A third engine that does not exist, to see that an engine is a folder and a row: nothing else may have to know it.

`known()` adds its row to the table and its name to the API's types, for a while. `python -m tests.support.fake_engine`
is the operator with it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from llm_operator.api.model import Backend, EngineSpec, EngineType
from llm_operator.api.resource import LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import EngineRun, KVAllocation, PlanFlags, RenderRequest, common
from llm_operator.engines.capacity import Capacity, Read
from llm_operator.engines.log_form import LogForm
from llm_operator.engines.metrics import MetricName
from llm_operator.engines.registry import ENGINES
from llm_operator.engines.signature import sign
from llm_operator.engines.table import Capabilities, OptionTable
from llm_operator.memory.budget import Budget, Estimate, Rank, block_inputs, share_of, share_term
from llm_operator.memory.engine import Change, EngineMemory
from llm_operator.memory.kv_cache import Allocation, bytes_per_token, state_size
from llm_operator.memory.overheads import Batch, Runtime
from llm_operator.memory.types import MIB, Adapters, Draft, EngineSettings, Overhead, PlanRequest, Term
from llm_operator.memory.weights import even_share
from llm_operator.models import CheckpointQuantization, StateLayers, Tensor
from llm_operator.problems import Problem

NAME = "FakeEngine"
BLOCK = 48
CONTEXT = 777 * MIB
BUFFERS = 333 * MIB
OPTIONS = {
    "versions": ["1.0.0", "1.2.0"],
    "options": [
        {
            "first": "1.0.0",
            "last": "1.2.0",
            "entry": {"names": ["--fake-option"], "takes": "1", "type": "int", "choices": None},
        }
    ],
}


class FakeMemory(EngineMemory):
    """Round numbers that no real engine has."""

    block_tokens = BLOCK

    def too_old(self, request: PlanRequest) -> str | None:
        return None

    def refusals(self, request: PlanRequest, quantization: CheckpointQuantization | None) -> Iterator[str]:
        if quantization is not None:
            yield "FakeEngine reads no quantized weights"

    def holds_wide_zeros(self, request: PlanRequest) -> bool:
        return False

    def local_size(self, piece: Tensor, request: PlanRequest, tensor: int) -> tuple[int, int]:
        return even_share(piece, request, tensor)

    def state_bytes(self, layers: StateLayers, request: PlanRequest, tensor: int) -> int:
        return state_size(layers, tensor, kept=layers.kernel, recurrent_bytes=4)

    def allocate(self, request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
        block = bytes_per_token(self, request, tensor) * BLOCK
        return Allocation(max(budget, 0) // block, block, max(budget, 0) // block * BLOCK)

    def blocks_per_request(self, request: PlanRequest, tensor: int, context: int, batched_tokens: int) -> int:
        return -(-context // BLOCK)

    def default_batch(self, request: PlanRequest) -> Batch:
        return Batch(request.max_concurrent_sequences or 64, request.max_batched_tokens or 4096)

    def runtime(self, request: PlanRequest, tensor: int, batch: Batch) -> Runtime:
        return Runtime(
            (Overhead("fake context", CONTEXT, CONTEXT, "made up"),),
            (Overhead("fake buffers", BUFFERS, BUFFERS, "made up"),),
        )

    def budget(self, rank: Rank) -> Budget:
        return share_of(rank, rank.free, rank.free_low)

    def settings(self, found: Estimate) -> EngineSettings:
        return EngineSettings(found.tensor, found.context, ratio_percent=found.percent)

    def cache_term(self, found: Estimate) -> Term:
        return share_term(found, "made up")

    def tokens_term(self, found: Estimate) -> Term:
        formula = "fake blocks * fake tokens"
        return Term("kvTokens", found.likely.tokens, "tokens", formula, block_inputs(found), "made up")


class FakeEngine:
    """The row."""

    name = NAME
    title = "Fake engine"
    port = 9999
    chat_template_file = "fake.txt"
    owned_variables: Mapping[str, str] = {"FAKE_KEY": "spec.engine.apiKey says it"}
    modes_off: Mapping[str, str] = {"FAKE_DEBUG": "no"}
    set_variables = frozenset({"FAKE_QUIET"})
    max_sequences_option = "--fake-sequences"
    image_name = "fake-engine"
    total_share_option: str | None = None
    share_option = "--fake-share"
    context_option = "--fake-context"
    log = LogForm(steps=(("Pretending", re.compile(r"pretending: {1,4}(\d{1,3})%")),))
    metrics: Mapping[str, tuple[MetricName, ...]] = {
        "requests_running": (MetricName("fake:running", "gauge", "1.0.0"),),
        "generation_tokens": (MetricName("fake:tokens_total", "counter", "1.0.0"),),
    }
    metrics_need_key = False
    signatures = (sign(r"fake death of (\w+)", "EngineDied", "the fake died of {0}", "choose a real engine"),)

    def __init__(self, folder: Path) -> None:
        source = folder / "options.json"
        source.write_text(json.dumps(OPTIONS))
        self.options = OptionTable(source)

    def default_image(self, version: str) -> str:
        return f"fake-engine:v{version}"

    def serves(self, version: str) -> bool:
        return True

    def backend(self, spec: LLMDeploymentSpec, table: Capabilities, architecture: str | None) -> Backend | None:
        return None

    def check(self, spec: LLMDeploymentSpec, table: Capabilities) -> tuple[Problem, ...]:
        return common.check_environment(spec, self.owned_variables)

    def render(self, request: RenderRequest, table: Capabilities) -> EngineRun:
        spec = request.spec
        context = ("--fake-context", str(spec.context_length)) if spec.context_length else ()
        share = ("--share", str(request.kv.ratio_percent))
        return EngineRun(
            type=NAME,
            version=table.version,
            backend=None,
            image=spec.engine.image or self.default_image(table.version),
            command=("fake-serve",),
            args=(common.model_path(request), "--ranks", str(request.tensor), *share, *context),
            env=common.environment(spec, [{"name": "FAKE_QUIET", "value": "1"}]),
            port=self.port,
            port_name=common.PORT_NAME,
            health_path="/fake-health",
            metrics_need_key=False,
            startup_period_seconds=common.STARTUP_PERIOD_SECONDS,
            startup_failure_threshold=common.startup_failure_threshold(spec),
            pre_stop_sleep_seconds=common.PRE_STOP_SLEEP_SECONDS,
            termination_grace_period_seconds=60,
            shared_memory_bytes=common.shared_memory_bytes(spec, request.tensor),
            gpus=request.tensor,
            served_name=spec.model.names(request.name)[0],
            cache_path=common.CACHE_PATH,
        )

    def memory(self, backend: str | None) -> EngineMemory:
        return FakeMemory()

    def taking_over(self, request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
        version = self.options.newest
        change = {"engine.type": NAME, "engine.version": version}
        yield change, replace(request, engine=NAME, version=version, backend=None)

    def batched_tokens(self, spec: LLMDeploymentSpec, model_context: int) -> int | None:
        return None

    def adapters(self, spec: LLMDeploymentSpec) -> Adapters | None:
        return None

    def draft(self, spec: LLMDeploymentSpec) -> Draft | None:
        return None

    def plan_flags(self, spec: LLMDeploymentSpec) -> PlanFlags:
        return PlanFlags()

    def share_of_total(self, spec: LLMDeploymentSpec) -> float | None:
        return None

    def without_plan(self, spec: LLMDeploymentSpec) -> KVAllocation:
        return KVAllocation(ratio_percent=spec.kv_cache.memory_percent)

    def needs_architecture(self, spec: LLMDeploymentSpec) -> bool:
        return False

    def capacity(self, backend: str | None, kv_bytes_per_token: int | None) -> Capacity:
        answer = (yield Read("/fake-capacity")) or ""
        return int(answer) if answer.isdigit() else None


def _api(*names: str) -> None:
    """Have the API's types take exactly these engines."""
    EngineSpec.model_fields["type"].annotation = Literal[names]  # type: ignore[assignment]
    for model in (EngineSpec, LLMDeploymentSpec, LLMDeployment):
        model.model_rebuild(force=True)


@contextmanager
def known() -> Iterator[FakeEngine]:
    """The operator knows the engine."""
    with tempfile.TemporaryDirectory() as folder:
        engine = FakeEngine(Path(folder))
        real = get_args(EngineType)
        ENGINES[NAME] = engine
        _api(*real, NAME)
        try:
            yield engine
        finally:
            del ENGINES[NAME]
            _api(*real)


def in_crd(crd: dict[str, Any]) -> dict[str, Any]:
    """The CRD with the engine among its types."""
    for version in crd["spec"]["versions"]:
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        spec["engine"]["properties"]["type"]["enum"].append(NAME)
    return crd


if __name__ == "__main__":
    from llm_operator.__main__ import main

    with known():
        main()
