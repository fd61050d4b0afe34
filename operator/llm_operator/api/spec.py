"""`spec` of an LLMDeployment: what the user asks for."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from llm_operator.api.base import ApiModel, Name, PositiveQuantity, Quantity, cel, rules
from llm_operator.api.model import EngineSpec, ModelSpec

KVQuantization = Literal["None", "Int8", "Int4", "FP8"]
PlanPolicy = Literal["Enforce", "Warn"]

QualifiedName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=316,
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    ),
]
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]


class Parallelism(ApiModel):
    """How one replica is spread over GPUs."""

    tensor: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="Tensor parallelism: GPUs per replica. Default: the smallest that fits."
    )


class KVCache(ApiModel):
    """The KV cache: its number format and its share of the GPU memory."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.memory) || !has(self.memoryPercent)",
                "memory and memoryPercent exclude each other: give a size or a share",
                ".memory",
            )
        )
    )

    quantization: KVQuantization = Field(default="None", description="Number format of the KV cache (quant policy).")
    memory_percent: Annotated[int, Field(ge=1, le=99)] | None = Field(
        default=None, description="KV cache in percent of the GPU memory that the weights leave free. Default: 80."
    )
    memory: PositiveQuantity | None = Field(
        default=None, description="KV cache per GPU in bytes, such as 20Gi. VLLM only."
    )
    prefix_caching: bool = Field(default=True, description="Keep the KV cache of common prompt prefixes.")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.memory is not None and self.memory_percent is not None:
            raise ValueError("memory and memoryPercent exclude each other: give a size or a share")
        return self


class GpuSpec(ApiModel):
    """Which GPUs to use."""

    resource_name: QualifiedName = Field(
        default="nvidia.com/gpu", description="Extended resource that counts the GPUs."
    )
    product: LabelValue | None = Field(
        default=None, description="Run only on this product: value of the node label nvidia.com/gpu.product."
    )
    memory: PositiveQuantity | None = Field(
        default=None, description="Memory of one GPU, for the plan. Default: what the nodes' labels say."
    )


class Toleration(ApiModel):
    """A node taint that the pods tolerate, as in a pod."""

    key: Annotated[str, Field(max_length=316)] | None = Field(default=None, description="Key of the taint.")
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="Exists or Equal.")
    value: LabelValue | None = Field(default=None, description="Value of the taint, with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(default=None, description="Effect.")
    toleration_seconds: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)] | None = Field(
        default=None, description="Seconds to stay on a node with a NoExecute taint."
    )


ResourceMap = Annotated[dict[QualifiedName, Quantity], Field(max_length=16)]


class Resources(ApiModel):
    """CPU, memory and ephemeral storage of the engine's container. GPUs come from parallelism."""

    requests: ResourceMap | None = Field(default=None, description="Guaranteed amounts, such as cpu and memory.")
    limits: ResourceMap | None = Field(default=None, description="Upper bounds, such as memory.")


class LocalReference(ApiModel):
    """An object of the same namespace."""

    name: Name = Field(description="Name of the object.")


class LLMDeploymentSpec(ApiModel):
    """One model, served by one engine, in some number of replicas."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.kvCache) || !has(self.kvCache.memory) || self.engine.type == 'VLLM'",
                "kvCache.memory is a size that only VLLM takes; LMDeploy takes kvCache.memoryPercent",
                ".kvCache.memory",
            ),
            cel(
                "!has(self.kvCache) || !has(self.kvCache.quantization) || self.kvCache.quantization != 'FP8'"
                " || self.engine.type == 'VLLM' || (has(self.engine.backend) && self.engine.backend == 'PyTorch')",
                "TurboMind takes no FP8 KV cache: use Int8 or Int4, or engine.backend PyTorch",
                ".kvCache.quantization",
            ),
        )
    )

    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="Number of replicas; 0 stops serving."
    )
    model: ModelSpec = Field(description="What to serve.")
    engine: EngineSpec = Field(description="With which engine.")
    parallelism: Parallelism = Field(default_factory=Parallelism, description="How one replica is spread over GPUs.")
    kv_cache: KVCache = Field(default_factory=KVCache, description="Format and share of the KV cache.")
    context_length: Annotated[int, Field(ge=1, le=16_777_216)] | None = Field(
        default=None, description="Longest prompt plus answer, in tokens. Default: the model's, cut to what fits."
    )
    max_concurrent_sequences: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        default=None, description="Most requests in one batch. Default: the engine's."
    )
    gpu: GpuSpec = Field(default_factory=GpuSpec, description="Which GPUs to use.")
    plan_policy: PlanPolicy = Field(
        default="Enforce", description="Enforce: no GPU pod for a plan that cannot work. Warn: say so and proceed."
    )
    startup_timeout_seconds: Annotated[int, Field(ge=30, le=86_400)] = Field(
        default=1800, description="Time an engine has to load the model, in seconds, before it is restarted."
    )
    drain_timeout_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        default=120, description="Time running requests have to finish when a pod is stopped, in seconds."
    )
    shared_memory: PositiveQuantity | None = Field(
        default=None, description="Size of /dev/shm. Default: 2Gi, 8Gi with tensor parallelism."
    )
    resources: Resources = Field(default_factory=Resources, description="CPU and memory of the engine's container.")
    node_selector: Annotated[dict[QualifiedName, LabelValue], Field(max_length=32)] = Field(
        default_factory=dict, description="Node labels that the pods need."
    )
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = Field(
        default_factory=list,
        description="Node taints that the pods tolerate.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    priority_class_name: Name | None = Field(default=None, description="PriorityClass of the pods.")
    runtime_class_name: Name | None = Field(default=None, description="RuntimeClass of the pods, such as nvidia.")
    service_account_name: Name | None = Field(
        default=None, description="ServiceAccount of the pods. Default: the namespace's, its token not mounted."
    )
    image_pull_secrets: Annotated[list[LocalReference], Field(max_length=16)] = Field(
        default_factory=list,
        description="Secrets for pulling the engine's image.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )

    @model_validator(mode="after")
    def _fits_engine(self) -> Self:
        engine = self.engine
        if self.kv_cache.memory is not None and engine.type != "VLLM":
            raise ValueError("kvCache.memory is a size that only VLLM takes; LMDeploy takes kvCache.memoryPercent")
        if self.kv_cache.quantization == "FP8" and engine.type == "LMDeploy" and engine.backend != "PyTorch":
            raise ValueError("TurboMind takes no FP8 KV cache: use Int8 or Int4, or engine.backend PyTorch")
        names = [secret.name for secret in self.image_pull_secrets]
        if len(set(names)) != len(names):
            raise ValueError("imagePullSecrets must not name a Secret twice")
        return self
