"""`status` of an LLMDeployment: what the operator found and did."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llm_operator.api.base import WHOLE, ApiModel, KeyedBy

ConditionType = Literal[
    "Ready",
    "Reconciling",
    "Stalled",
    "Planned",
    "ModelCached",
    "WeightsQuantized",
    "Available",
    "Healthy",
    "WebUIReady",
    "Exposed",
    "ModelDamaged",
    "Drifted",
    "Contested",
]
ConditionStatus = Literal["True", "False", "Unknown"]

# A pattern and no `format: date-time`: metav1.Time writes whole seconds, and the API server's idea of that format
# (leap seconds, offsets) is wider than what Python reads back.
TIME_PATTERN = r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z$"

Count = Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE]
# Not WHOLE: the scale subresource refuses 3.0 in what it points at.
ScaledCount = Annotated[int, Field(ge=0, le=2**31 - 1)]
Amount = Annotated[int, Field(ge=0, le=2**53 - 1), WHOLE]
Text = Annotated[str, Field(max_length=1024)]
Message = Annotated[str, Field(max_length=32_768)]


class Condition(ApiModel):
    """One observation of the object, as in metav1.Condition."""

    type: Annotated[str, Field(min_length=1, max_length=316)] = Field(description="Ready, Reconciling, Stalled, ...")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    observed_generation: Amount = Field(description="Generation that this condition is about.")
    last_transition_time: Annotated[str, Field(max_length=20, pattern=TIME_PATTERN)] = Field(
        description="When status last changed (RFC 3339, UTC, whole seconds)."
    )
    reason: Annotated[
        str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ] = Field(description="Short CamelCase reason.")
    message: Message = Field(description="What is wrong, what was expected, and what to do.")


class EngineStatus(ApiModel):
    """The engine as it runs."""

    type: Text = Field(description="LMDeploy or VLLM.")
    backend: Text | None = Field(default=None, description="LMDeploy's backend.")
    version: Text = Field(description="Engine version that determines image and flags.")
    image: Text = Field(description="Image of the engine's container.")
    args: Annotated[list[Annotated[str, Field(max_length=2048)]], Field(max_length=256)] = Field(
        default_factory=list,
        description="Command line after the engine's own command.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class ModelStatus(ApiModel):
    """The model as its files describe it."""

    architecture: Text | None = Field(default=None, description="First entry of architectures in config.json.")
    parameters: Amount | None = Field(default=None, description="Number of parameters.")
    weight_bytes: Amount | None = Field(default=None, description="Size of the weights as served, in bytes.")
    format: Text | None = Field(default=None, description="Format of the weights.")
    resolved_revision: Text | None = Field(default=None, description="Commit that the revision resolves to.")


class PlanStatus(ApiModel):
    """What will happen, in numbers; bytes and tokens are for one GPU and one replica."""

    tensor: Count = Field(description="Tensor parallelism.")
    gpus_per_replica: Count = Field(description="GPUs that one replica takes.")
    gpu_memory_bytes: Amount | None = Field(default=None, description="Memory of one GPU, in bytes.")
    weight_bytes_per_gpu: Amount | None = Field(default=None, description="Weights on one GPU, in bytes.")
    kv_bytes_per_token: Amount | None = Field(default=None, description="KV cache of one token on one GPU, in bytes.")
    kv_tokens: Amount | None = Field(default=None, description="Tokens the KV cache will likely hold.")
    kv_tokens_low: Amount | None = Field(default=None, description="Lower bound of the tokens it holds.")
    max_concurrent_requests: Amount | None = Field(
        default=None, description="Concurrent requests of the full context length."
    )
    context_length: Amount | None = Field(default=None, description="Longest prompt plus answer, in tokens.")
    explanation: Message | None = Field(default=None, description="The formulas with their inputs.")


class MeasuredStatus(ApiModel):
    """What the running engine reports."""

    kv_tokens: Amount | None = Field(default=None, description="Tokens the KV cache holds.")
    seconds_to_ready: Count | None = Field(
        default=None, description="Seconds from the start of the container to Ready."
    )
    pod_uid: Text | None = Field(default=None, alias="podUID", description="UID of the pod that reported it.")


class CacheStatus(ApiModel):
    """Where the served model lies on the cache's claim."""

    claim_name: Text = Field(description="PersistentVolumeClaim that holds it.")
    directory: Text = Field(description="Directory on the claim.")
    bytes: Amount | None = Field(default=None, description="Size of its files, in bytes.")


class QuantizationStatus(ApiModel):
    """How the weights were quantized, and what it cost in quality."""

    recipe: Text = Field(description="The recipe that was used, with the actual number of samples.")
    tool_version: Text | None = Field(default=None, description="Version of LMDeploy that quantized the weights.")
    perplexity_original: Text | None = Field(default=None, description="Perplexity of the original.")
    perplexity_quantized: Text | None = Field(default=None, description="Perplexity of the quantized model.")
    perplexity_increase_percent: Text | None = Field(default=None, description="Increase, in percent.")
    agreement_percent: Count | None = Field(
        default=None, description="Tokens of golden prompts on which both agree, in percent."
    )
    warning: Text | None = Field(
        default=None, description="What is wrong with the quality: it exceeds the limit, or was not measured."
    )


class WebUIStatus(ApiModel):
    """The chat page."""

    endpoint: Text = Field(description="URL of the page in the cluster.")


class ProgressStatus(ApiModel):
    """How far a stage before serving is; absent when none runs."""

    stage: Text = Field(description="Fetching, Quantizing, ...")
    summary: Text = Field(description="Summary of the progress, for a column.")
    percent: Count | None = Field(default=None, description="Progress, in percent.")
    bytes: Amount | None = Field(default=None, description="Bytes read or written so far.")
    total_bytes: Amount | None = Field(default=None, description="Total bytes.")
    bytes_per_second: Amount | None = Field(default=None, description="Current rate, in bytes per second.")
    seconds_left: Amount | None = Field(default=None, description="Time left at this rate, in seconds.")
    detail: Text | None = Field(default=None, description="What the stage is working on.")


class LLMDeploymentStatus(ApiModel):
    """The state of an LLMDeployment."""

    observed_generation: Amount = Field(description="Generation last reconciled.")
    conditions: Annotated[list[Condition], Field(max_length=16), KeyedBy("type")] = Field(
        description="Conditions in the sense of kstatus.",
    )
    replicas: ScaledCount = Field(default=0, description="Pods that exist.")
    ready_replicas: Count = Field(default=0, description="Ready pods, of this spec and of earlier ones.")
    selector: Text | None = Field(default=None, description="Label selector of the pods, for the scale subresource.")
    endpoint: Text | None = Field(default=None, description="Base URL of the OpenAI-compatible API in the cluster.")
    web_ui: WebUIStatus | None = Field(default=None, alias="webUI", description="The chat page.")
    engine: EngineStatus | None = Field(default=None, description="The engine as it runs.")
    model: ModelStatus | None = Field(default=None, description="The model as its files describe it.")
    cache: CacheStatus | None = Field(default=None, description="The model in the cache.")
    quantization: QuantizationStatus | None = Field(default=None, description="Result of the weight quantization.")
    progress: ProgressStatus | None = Field(default=None, description="The stage before serving that runs now.")
    plan: PlanStatus | None = Field(default=None, description="The plan in numbers.")
    measured: MeasuredStatus | None = Field(default=None, description="What the running engine reports.")
