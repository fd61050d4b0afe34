"""What goes into an engine's command line and what comes out of it. Frozen, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llm_operator.api.model import Backend
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.problems import Problem


@dataclass(frozen=True, slots=True)
class PlanFlags:
    """What extraArgs switch on or off of what a plan depends on; the defaults are those without such options.

    Attributes:
        enforce_eager: no CUDA graphs are captured.
        hybrid_cache: layers with a window keep their window only.
        deprecated_weights: formats that the engine is about to drop are still read.
        expert_kernels: kernels of experts that the engine must take, as it names them; empty: it chooses.
    """

    enforce_eager: bool = False
    hybrid_cache: bool = True
    deprecated_weights: bool = False
    expert_kernels: str = ""


@dataclass(frozen=True, slots=True)
class KVAllocation:
    """How large the KV cache becomes, as the planner decided; None leaves the engine's default.

    Attributes:
        ratio_percent: LMDeploy `--cache-max-entry-count` times 100, 1..99: share of the memory that is free after the
            weights are loaded.
        kv_cache_memory_bytes: vLLM `--kv-cache-memory-bytes`: bytes per GPU.
        utilization_percent: vLLM `--gpu-memory-utilization` times 100, 1..99: share of the GPU's total memory.
            Beside kv_cache_memory_bytes it sizes nothing, but vLLM starts only where so much is free.
        max_sequences: vLLM `--max-num-seqs` on which the plan counts, where it is less than the engine's default for
            the card: buffers and graphs grow with it and would take the room beside the cache.
        max_batched_tokens: vLLM `--max-num-batched-tokens`, likewise.
    """

    ratio_percent: int | None = None
    kv_cache_memory_bytes: int | None = None
    utilization_percent: int | None = None
    max_sequences: int | None = None
    max_batched_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """One object with what was decided about it.

    Attributes:
        name: metadata.name; the served name where the spec gives none.
        namespace: metadata.namespace.
        spec: the validated spec.
        tensor: GPUs of one replica.
        backend: LMDeploy's backend when the caller has resolved it; None lets spec and architecture decide.
        context_length: longest prompt plus answer in tokens; None falls back to the spec, then to the engine's default.
        kv: size of the KV cache.
        architecture: first entry of `architectures` in config.json; None when it is not known.
        model_path: absolute path of the model in the pod; None: the engine fetches spec.model from its hub itself.
    """

    name: str
    namespace: str
    spec: LLMDeploymentSpec
    tensor: int
    backend: Backend | None = None
    context_length: int | None = None
    kv: KVAllocation = field(default_factory=KVAllocation)
    architecture: str | None = None
    model_path: str | None = None


@dataclass(frozen=True, slots=True)
class EngineRun:
    """Everything about a pod that depends on the engine.

    Attributes:
        type: LMDeploy or VLLM.
        version: engine version that decided image and flags.
        backend: LMDeploy's backend; None for vLLM.
        image: image reference.
        command: the container's command; empty if the image's entrypoint is the engine.
        args: the container's args. `$(NAME)` in them is the kubelet's to expand; every other `$` is doubled.
        env: environment variables as JSON of core/v1 EnvVar; no two share a name.
        port: TCP port of the OpenAI-compatible API.
        port_name: its name in the pod.
        health_path: answers 200 without a key once the engine serves.
        metrics_need_key: whether its metrics want the API key as a bearer token, when there is one.
        startup_period_seconds: between two startup probes.
        startup_failure_threshold: failed startup probes until the container is restarted; the product is at least
            spec.startupTimeoutSeconds.
        pre_stop_sleep_seconds: sleep before SIGTERM, so that endpoints stop sending first.
        termination_grace_period_seconds: bound on preStop and drain together.
        shared_memory_bytes: size of /dev/shm.
        gpus: GPUs of one replica.
        served_name: main name of the model in the API.
        cache_path: where a writable volume is mounted; HOME and every cache variable point into it.
    """

    type: str
    version: str
    backend: Backend | None
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[dict[str, Any], ...]
    port: int
    port_name: str
    health_path: str
    metrics_need_key: bool
    startup_period_seconds: int
    startup_failure_threshold: int
    pre_stop_sleep_seconds: int
    termination_grace_period_seconds: int
    shared_memory_bytes: int
    gpus: int
    served_name: str
    cache_path: str


class RefusedError(ValueError):
    """The spec cannot be rendered; `refusals` say why, at least one."""

    def __init__(self, refusals: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(one.text for one in refusals))
        self.refusals = refusals
