"""What an engine is to the rest of the operator; a folder of engines/ has the answers, registry.py a row for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from llm_operator.api.model import Backend
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines.capacity import Capacity
from llm_operator.engines.log_form import LogForm
from llm_operator.engines.metrics import MetricName
from llm_operator.engines.signature import Signature
from llm_operator.engines.table import Capabilities, OptionTable
from llm_operator.engines.types import EngineRun, KVAllocation, PlanFlags, RenderRequest
from llm_operator.memory.engine import Change, EngineMemory
from llm_operator.memory.types import Adapters, Draft, PlanRequest
from llm_operator.problems import Problem


class Engine(Protocol):
    """One engine: an object without state."""

    @property
    def name(self) -> str:
        """As in spec.engine.type."""
        ...

    @property
    def title(self) -> str:
        """For people."""
        ...

    # The command line and the pod.

    @property
    def options(self) -> OptionTable:
        """The options of its versions."""
        ...

    @property
    def port(self) -> int:
        """TCP port of the OpenAI-compatible API in the pod."""
        ...

    @property
    def chat_template_file(self) -> str:
        """Name under which the pod has the file of spec.model.chatTemplate."""
        ...

    @property
    def owned_variables(self) -> Mapping[str, str]:
        """Environment variables that the user may not set, each with the reason."""
        ...

    @property
    def set_variables(self) -> frozenset[str]:
        """Environment variables that the operator sets and spec.engine.env may replace."""
        ...

    @property
    def modes_off(self) -> Mapping[str, str]:
        """Return what switches each mode off that opens more than the serving API: by variable, its value."""
        ...

    @property
    def max_sequences_option(self) -> str:
        """The option that limits how many requests run at a time."""
        ...

    @property
    def context_option(self) -> str:
        """The option for the longest prompt plus answer."""
        ...

    @property
    def share_option(self) -> str:
        """The option whose share of the GPU's memory sizes the KV cache."""
        ...

    @property
    def image_name(self) -> str:
        """How the last part of its images' names begins, so that their tags tell the version."""
        ...

    def default_image(self, version: str) -> str:
        """Return the image of a version for specs without one."""
        ...

    def serves(self, version: str) -> bool:
        """Return whether the operator offers this version."""
        ...

    def backend(self, spec: LLMDeploymentSpec, table: Capabilities, architecture: str | None) -> Backend | None:
        """Return the backend that a spec comes to; None if the engine has one only.

        Raises:
            RefusedError: the backend does not support the architecture.
        """
        ...

    def check(self, spec: LLMDeploymentSpec, table: Capabilities) -> tuple[Problem, ...]:
        """Return what the engine would refuse, ignore or do differently."""
        ...

    def render(self, request: RenderRequest, table: Capabilities) -> EngineRun:
        """Return everything about a pod that depends on the engine.

        Raises:
            RefusedError: the engine would refuse or misread it; says why.
        """
        ...

    # Planning.

    def memory(self, backend: str | None) -> EngineMemory:
        """Return how it spends the memory of a GPU. backend: one of the engine's; None: the default, or the only one.

        Raises:
            PlanInputError: it has no such backend.
        """
        ...

    def taking_over(self, request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
        """Yield the change that serves another engine's request with this one, and the request with it."""
        ...

    def batched_tokens(self, spec: LLMDeploymentSpec, model_context: int) -> int | None:
        """Return the prefill tokens of one step if extraArgs settle them; the buffers of a plan grow with them.

        model_context: the model's longest context in tokens.
        """
        ...

    def adapters(self, spec: LLMDeploymentSpec) -> Adapters | None:
        """Return the room for LoRA adapters that extraArgs make the engine set aside at its start; None: none."""
        ...

    def draft(self, spec: LLMDeploymentSpec) -> Draft | None:
        """Return what proposes tokens by extraArgs, as far as memory goes; None: nothing does."""
        ...

    def plan_flags(self, spec: LLMDeploymentSpec) -> PlanFlags:
        """Return what extraArgs switch on or off of what a plan depends on."""
        ...

    @property
    def total_share_option(self) -> str | None:
        """The option for a share of the GPU's memory, weights and cache together; None: it has none."""
        ...

    def share_of_total(self, spec: LLMDeploymentSpec) -> float | None:
        """Return the share of the GPU's memory that extraArgs give the engine, weights and cache together."""
        ...

    def without_plan(self, spec: LLMDeploymentSpec) -> KVAllocation:
        """Return the size of the KV cache as far as the spec alone settles it."""
        ...

    def needs_architecture(self, spec: LLMDeploymentSpec) -> bool:
        """Return whether the command line depends on the model's architecture."""
        ...

    # What runs.

    @property
    def log(self) -> LogForm:
        """What its log looks like."""
        ...

    @property
    def metrics(self) -> Mapping[str, tuple[MetricName, ...]]:
        """Names of its metrics by quantity."""
        ...

    @property
    def metrics_need_key(self) -> bool:
        """Whether an API key guards its metrics."""
        ...

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """What it alone prints when it dies."""
        ...

    def capacity(self, backend: str | None, kv_bytes_per_token: int | None) -> Capacity:
        """Read how many tokens the KV cache of a running replica holds.

        Args:
            backend: as it was rendered.
            kv_bytes_per_token: of one GPU, from the plan.
        """
        ...
