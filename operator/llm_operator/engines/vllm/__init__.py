"""vLLM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from importlib import resources

from llm_operator.api.model import Backend
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import common
from llm_operator.engines.capacity import Capacity
from llm_operator.engines.metrics import MetricName, read_metrics
from llm_operator.engines.table import Capabilities, OptionTable
from llm_operator.engines.types import EngineRun, KVAllocation, PlanFlags, RenderRequest
from llm_operator.engines.vllm import adapters, batch, capacity, command, drafts, log, signatures
from llm_operator.engines.vllm.memory import VLLMMemory
from llm_operator.memory.engine import Change, EngineMemory
from llm_operator.memory.types import Adapters, Draft, PlanRequest
from llm_operator.problems import Problem

MEMORY = VLLMMemory()
FOLDER = resources.files(__name__)


class VLLM:
    """The row of vLLM; engines/interface.py says what each part is."""

    name = command.NAME
    title = "vLLM"
    options = OptionTable(FOLDER / "options.json")
    port = command.PORT
    chat_template_file = command.CHAT_TEMPLATE
    owned_variables = command.OWNED_VARIABLES
    modes_off = command.MODES_OFF
    set_variables = frozenset({"VLLM_NO_USAGE_STATS"})
    max_sequences_option = "--max-num-seqs"
    image_name = "vllm"
    total_share_option = command.UTILIZATION
    share_option = command.UTILIZATION
    context_option = "--max-model-len"
    log = log.FORM
    signatures = signatures.SIGNATURES
    metrics_need_key = False

    @cached_property
    def metrics(self) -> Mapping[str, tuple[MetricName, ...]]:
        """Names by quantity."""
        return read_metrics(FOLDER / "metrics.json")

    def default_image(self, version: str) -> str:
        """The project's published image of a version."""
        return command.default_image(version)

    def serves(self, version: str) -> bool:
        """Every known release."""
        return True

    def backend(self, spec: LLMDeploymentSpec, table: Capabilities, architecture: str | None) -> Backend | None:
        """None: vLLM has one."""
        return None

    def check(self, spec: LLMDeploymentSpec, table: Capabilities) -> tuple[Problem, ...]:
        """What vLLM of this version would refuse or do differently."""
        return command.check(spec, table)

    def render(self, request: RenderRequest, table: Capabilities) -> EngineRun:
        """The pod's part of vLLM."""
        return command.render(request, table)

    def memory(self, backend: str | None) -> EngineMemory:
        """Return its memory; it has one backend, so the request's says nothing."""
        return MEMORY

    def taking_over(self, request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
        """Yield the request with the newest vLLM."""
        version = self.options.newest
        change = {"engine.type": self.name, "engine.version": version}
        yield change, replace(request, engine=self.name, version=version)

    def batched_tokens(self, spec: LLMDeploymentSpec, model_context: int) -> int | None:
        """Return --max-num-batched-tokens of extraArgs, or the whole prompt that a batch without chunks must hold."""
        if not common.given(spec, batch.TOKENS) and batch.chunked_prefill_is_off(spec):
            return max(spec.context_length or model_context, batch.LEAST_DEFAULT_TOKENS)
        return batch.batched_tokens_given(spec) or None

    def adapters(self, spec: LLMDeploymentSpec) -> Adapters | None:
        """Return the slots that --enable-lora makes, as --max-loras and --max-lora-rank size them."""
        return adapters.adapters_given(spec)

    def draft(self, spec: LLMDeploymentSpec) -> Draft | None:
        """Return the draft of --speculative-config."""
        return drafts.draft_given(spec)

    def plan_flags(self, spec: LLMDeploymentSpec) -> PlanFlags:
        """Return what --enforce-eager and its like make of a plan."""
        return PlanFlags(
            enforce_eager=common.given(spec, "--enforce-eager"),
            hybrid_cache=not common.given(spec, "--disable-hybrid-kv-cache-manager"),
            deprecated_weights=common.given(spec, "--allow-deprecated-quantization"),
            expert_kernels=command.expert_kernels_given(spec),
        )

    def share_of_total(self, spec: LLMDeploymentSpec) -> float | None:
        """Return --gpu-memory-utilization of extraArgs."""
        return command.utilization_given(spec)

    def without_plan(self, spec: LLMDeploymentSpec) -> KVAllocation:
        """Return nothing: a share becomes bytes by a plan only, and bytes are rendered as the spec gives them."""
        return KVAllocation()

    def needs_architecture(self, spec: LLMDeploymentSpec) -> bool:
        """Return False: there is no backend to choose."""
        return False

    def capacity(self, backend: str | None, kv_bytes_per_token: int | None) -> Capacity:
        """Read the capacity."""
        return capacity.capacity(kv_bytes_per_token)
