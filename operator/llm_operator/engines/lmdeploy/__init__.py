"""LMDeploy, with its backends TurboMind and PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from importlib import resources

from llm_operator.api.model import Backend
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import common
from llm_operator.engines.arguments import whole_number
from llm_operator.engines.capacity import Capacity
from llm_operator.engines.lmdeploy import capacity, command, log, signatures
from llm_operator.engines.lmdeploy.memory import PyTorchMemory, TurboMindMemory
from llm_operator.engines.metrics import MetricName, read_metrics
from llm_operator.engines.table import Capabilities, OptionTable
from llm_operator.engines.types import EngineRun, KVAllocation, PlanFlags, RenderRequest
from llm_operator.memory.engine import Change, EngineMemory
from llm_operator.memory.types import Adapters, Draft, PlanInputError, PlanRequest
from llm_operator.problems import Problem

BACKENDS = {"TurboMind": TurboMindMemory(), "PyTorch": PyTorchMemory()}
DEFAULT_BACKEND = "TurboMind"
FOLDER = resources.files(__name__)


class LMDeploy:
    """The row of LMDeploy; engines/interface.py says what each part is."""

    name = command.NAME
    title = "LMDeploy"
    options = OptionTable(FOLDER / "options.json")
    port = command.PORT
    chat_template_file = command.CHAT_TEMPLATE
    owned_variables = command.OWNED_VARIABLES
    modes_off: Mapping[str, str] = {}
    set_variables: frozenset[str] = frozenset()
    max_sequences_option = "--max-batch-size"
    image_name = "lmdeploy"
    total_share_option: str | None = None
    share_option = "--cache-max-entry-count"
    context_option = "--session-len"
    log = log.FORM
    signatures = signatures.SIGNATURES
    metrics_need_key = True

    @cached_property
    def metrics(self) -> Mapping[str, tuple[MetricName, ...]]:
        """Names by quantity."""
        return read_metrics(FOLDER / "metrics.json")

    def default_image(self, version: str) -> str:
        """The project's published image of a version."""
        return command.default_image(version)

    def serves(self, version: str) -> bool:
        """Whether the release is safe to serve with."""
        return command.serves(version)

    def backend(self, spec: LLMDeploymentSpec, table: Capabilities, architecture: str | None) -> Backend | None:
        """TurboMind where it supports the model."""
        return command.resolve_backend(spec, table, architecture)

    def check(self, spec: LLMDeploymentSpec, table: Capabilities) -> tuple[Problem, ...]:
        """What LMDeploy of this version would refuse, ignore or do differently."""
        return command.check(spec, table, spec.engine.backend)

    def render(self, request: RenderRequest, table: Capabilities) -> EngineRun:
        """The pod's part of LMDeploy."""
        return command.render(request, table)

    def memory(self, backend: str | None) -> EngineMemory:
        """Return the memory of a backend."""
        found = BACKENDS.get(backend or DEFAULT_BACKEND)
        if found is None:
            raise PlanInputError(f"backend {backend!r} is not known; expected {' or '.join(BACKENDS)}")
        return found

    def taking_over(self, request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
        """Yield LMDeploy's backends, unless the request sizes the cache in a way that LMDeploy has no option for."""
        if request.kv_memory_bytes or request.gpu_memory_utilization is not None:
            return
        version = self.options.newest
        for backend in BACKENDS:
            change = {"engine.type": self.name, "engine.backend": backend, "engine.version": version}
            yield change, replace(request, engine=self.name, backend=backend, version=version)

    def batched_tokens(self, spec: LLMDeploymentSpec, model_context: int) -> int | None:
        """Return --max-prefill-token-num of extraArgs."""
        return whole_number(common.value_given(spec, "--max-prefill-token-num") or "") or None

    def adapters(self, spec: LLMDeploymentSpec) -> Adapters | None:
        """Return None: LMDeploy takes memory for the adapters that it loads, not for slots."""
        return None

    def draft(self, spec: LLMDeploymentSpec) -> Draft | None:
        """Return None: what LMDeploy takes for speculative decoding was not read."""
        return None

    def plan_flags(self, spec: LLMDeploymentSpec) -> PlanFlags:
        """Return the defaults: LMDeploy has no such options."""
        return PlanFlags()

    def share_of_total(self, spec: LLMDeploymentSpec) -> float | None:
        """Return None: LMDeploy takes a share of what the weights leave free."""
        return None

    def without_plan(self, spec: LLMDeploymentSpec) -> KVAllocation:
        """Return the share of the spec, which LMDeploy takes as it is."""
        return KVAllocation(ratio_percent=spec.kv_cache.memory_percent)

    def needs_architecture(self, spec: LLMDeploymentSpec) -> bool:
        """Return whether the backend has to be chosen, or may not support the model."""
        return spec.engine.backend != "PyTorch"

    def capacity(self, backend: str | None, kv_bytes_per_token: int | None) -> Capacity:
        """Read the capacity of a backend."""
        return capacity.capacity(backend, kv_bytes_per_token)
