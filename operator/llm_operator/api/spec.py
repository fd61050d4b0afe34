"""`spec` of an LLMDeployment: the desired state."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from llm_operator.api.base import (
    WHOLE,
    ApiModel,
    ConfigMapKeyReference,
    ExtendedResource,
    KeyedBy,
    LabelValue,
    Name,
    PositiveQuantity,
    QualifiedName,
    Rule,
    without_nulls,
)
from llm_operator.api.model import EngineSpec, ModelSpec
from llm_operator.api.model_cache import CacheSpec
from llm_operator.api.network import NetworkSpec
from llm_operator.api.overlay import EnginePodTemplate, ToolsSpec
from llm_operator.api.quantization import WeightQuantization
from llm_operator.api.resources import Resources
from llm_operator.api.service import ServiceSettings
from llm_operator.api.web import WebUI

KVQuantization = Literal["None", "Int8", "Int4", "FP8"]
PlanPolicy = Literal["Enforce", "Warn"]


class Parallelism(ApiModel):
    """How one replica is distributed over GPUs."""

    tensor: Annotated[int, Field(ge=1, le=64), WHOLE] | None = Field(
        default=None, description="Tensor parallelism: GPUs per replica. Default: the smallest that fits."
    )


class KVCache(ApiModel):
    """The KV cache: its number format and its share of the GPU memory."""

    RULES = (
        Rule(
            "!has(self.memory) || !has(self.memoryPercent)",
            "memory and memoryPercent exclude each other: give a size or a share",
            lambda cache: cache.memory is None or cache.memory_percent is None,
            ".memory",
        ),
    )

    quantization: KVQuantization = Field(default="None", description="Number format of the KV cache (quant policy).")
    memory_percent: Annotated[int, Field(ge=1, le=99), WHOLE] | None = Field(
        default=None, description="KV cache in percent of the GPU memory that the weights leave free. Default: 80."
    )
    memory: PositiveQuantity | None = Field(
        default=None, description="KV cache per GPU in bytes, such as 20Gi. VLLM only."
    )
    prefix_caching: bool = Field(default=True, description="Reuse the KV cache of common prompt prefixes.")


class GpuSpec(ApiModel):
    """Which GPUs to use."""

    resource_name: ExtendedResource = Field(
        default="nvidia.com/gpu", description="Extended resource that counts the GPUs."
    )
    product: LabelValue | None = Field(
        default=None, description="Run only on this product: value of the node label nvidia.com/gpu.product."
    )
    memory: PositiveQuantity | None = Field(
        default=None, description="Memory of one GPU, for the plan. Default: from the nodes' labels."
    )


class Toleration(ApiModel):
    """A node taint that the pods tolerate, as in a pod."""

    RULES = (
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "a toleration without a key tolerates every taint; that needs operator Exists",
            lambda toleration: toleration.key is not None or toleration.operator == "Exists",
        ),
        Rule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "operator Exists takes no value: leave value out or use Equal",
            lambda toleration: toleration.operator != "Exists" or not toleration.value,
            ".value",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds needs effect NoExecute",
            lambda toleration: toleration.toleration_seconds is None or toleration.effect == "NoExecute",
            ".tolerationSeconds",
        ),
    )

    key: QualifiedName | None = Field(
        default=None, description="Key of the taint. Without a key, Exists matches every taint."
    )
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="Exists or Equal.")
    value: LabelValue | None = Field(default=None, description="Value of the taint, with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(default=None, description="Effect.")
    toleration_seconds: Annotated[int, Field(ge=-(2**31), le=2**31 - 1), WHOLE] | None = Field(
        default=None, description="Seconds to stay on a node after a NoExecute taint is added."
    )


class LocalReference(ApiModel):
    """An object of the same namespace."""

    name: Name = Field(description="Name of the object.")


class LLMDeploymentSpec(ApiModel):
    """One model, served by one engine, in some number of replicas."""

    RULES = (
        Rule(
            "!has(self.kvCache) || !has(self.kvCache.memory) || self.engine.type == 'VLLM'",
            "kvCache.memory is a size that only VLLM takes; LMDeploy takes kvCache.memoryPercent",
            lambda spec: spec.kv_cache.memory is None or spec.engine.type == "VLLM",
            ".kvCache.memory",
        ),
        Rule(
            "!has(self.kvCache) || !has(self.kvCache.quantization) || self.kvCache.quantization != 'FP8'"
            " || self.engine.type == 'VLLM' || (has(self.engine.backend) && self.engine.backend == 'PyTorch')",
            "TurboMind takes no FP8 KV cache: use Int8 or Int4, or engine.backend PyTorch",
            lambda spec: (
                spec.kv_cache.quantization != "FP8" or spec.engine.type == "VLLM" or spec.engine.backend == "PyTorch"
            ),
            ".kvCache.quantization",
        ),
        Rule(
            "!has(self.weightQuantization) || has(self.cache)",
            "weightQuantization needs a cache that keeps its result: set cache.claimName or cache.size",
            lambda spec: spec.weight_quantization is None or spec.cache is not None,
            ".cache",
        ),
        Rule(
            "!has(self.weightQuantization) || !has(self.model.format) || self.model.format in ['Auto', 'HF']",
            "weightQuantization starts from 16-bit weights: remove model.format, or remove weightQuantization",
            lambda spec: spec.weight_quantization is None or spec.model.format in ("Auto", "HF"),
            ".weightQuantization",
        ),
        Rule(
            "!has(self.weightQuantization) || self.engine.type != 'LMDeploy'"
            " || !has(self.weightQuantization.groupSize) || self.weightQuantization.groupSize == 128",
            "LMDeploy serves AWQ in groups of 128 weights only: set weightQuantization.groupSize to 128, or use VLLM",
            lambda spec: (
                spec.weight_quantization is None
                or spec.engine.type != "LMDeploy"
                or spec.weight_quantization.group_size == 128
            ),
            ".weightQuantization.groupSize",
        ),
        Rule(
            "!has(self.priorityClassName) || !self.priorityClassName.startsWith('system-')",
            "classes that begin with system- are the cluster's own: name another PriorityClass",
            lambda spec: spec.priority_class_name is None or not spec.priority_class_name.startswith("system-"),
            ".priorityClassName",
        ),
        Rule(
            "!has(self.engine.conversion) || self.engine.conversion == 'None' || has(self.cache)",
            "engine.conversion needs a cache that keeps its result: set cache.claimName or cache.size",
            lambda spec: spec.engine.conversion == "None" or spec.cache is not None,
            ".cache",
        ),
    )

    # Not WHOLE: the scale subresource refuses 3.0 here (kube-apiserver 1.36.4: "accessor error ... float64").
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="Number of replicas; 0 stops serving."
    )
    model: ModelSpec = Field(description="The model to serve.")
    cache: CacheSpec | None = Field(
        default=None,
        description="Volume that keeps the model. Default: each pod has its own volume and fills it when it starts.",
    )
    engine: EngineSpec = Field(description="The engine that serves the model.")
    parallelism: Parallelism = Field(
        default_factory=Parallelism, description="How one replica is distributed over GPUs."
    )
    weight_quantization: WeightQuantization | None = Field(
        default=None, description="Quantize the weights before serving. Default: serve them as they are."
    )
    kv_cache: KVCache = Field(default_factory=KVCache, description="Format and share of the KV cache.")
    context_length: Annotated[int, Field(ge=1, le=16_777_216), WHOLE] | None = Field(
        default=None, description="Longest prompt plus answer, in tokens. Default: the model's, cut to what fits."
    )
    max_concurrent_sequences: Annotated[int, Field(ge=1, le=65_536), WHOLE] | None = Field(
        default=None, description="Maximum number of requests per batch. Default: the engine's."
    )
    gpu: GpuSpec = Field(default_factory=GpuSpec, description="Which GPUs to use.")
    revision_history_limit: Annotated[int, Field(ge=0, le=100), WHOLE] = Field(
        default=10,
        description="Number of old revisions to keep beside the one that runs: ControllerRevisions that hold pod "
        "template and plan of an engine, as `kubectl llm history` lists them.",
    )
    plan_policy: PlanPolicy = Field(
        default="Enforce",
        description="Enforce: create no GPU pod for a plan that cannot work. Warn: report it and continue.",
    )
    startup_timeout_seconds: Annotated[int, Field(ge=30, le=86_400), WHOLE] = Field(
        default=1800, description="How long an engine may take to load the model before it is restarted, in seconds."
    )
    drain_timeout_seconds: Annotated[int, Field(ge=0, le=86_400), WHOLE] = Field(
        default=120, description="How long running requests may take to finish when a pod stops, in seconds."
    )
    shared_memory: PositiveQuantity | None = Field(
        default=None, description="Size of /dev/shm. Default: 2Gi, 8Gi with tensor parallelism."
    )
    resources: Resources = Field(default_factory=Resources, description="CPU and memory of the engine's container.")
    node_selector: Annotated[dict[QualifiedName, LabelValue], Field(max_length=32), BeforeValidator(without_nulls)] = (
        Field(default_factory=dict, description="Node labels that the pods require.")
    )
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = Field(
        default_factory=list,
        description="Node taints that the pods tolerate.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    priority_class_name: Name | None = Field(default=None, description="PriorityClass of the pods.")
    runtime_class_name: Name | None = Field(default=None, description="RuntimeClass of the pods, such as nvidia.")
    service_account_name: Name | None = Field(
        default=None, description="ServiceAccount of the pods. Default: the namespace's."
    )
    automount_service_account_token: bool = Field(
        default=False, description="Mount the ServiceAccount's token into the pods."
    )
    image_pull_secrets: Annotated[list[LocalReference], Field(max_length=16), KeyedBy("name")] = Field(
        default_factory=list,
        description="Secrets for pulling the engine's image.",
    )
    web_ui: WebUI | None = Field(
        default=None, alias="webUI", description="A chat page in front of the engine. Default: none."
    )
    network: NetworkSpec = Field(
        default_factory=NetworkSpec, description="Who may reach the pods, if the operator creates NetworkPolicies."
    )
    ca_bundle: ConfigMapKeyReference | None = Field(
        default=None,
        description="Certificates (PEM) in a ConfigMap that the engine and the Jobs trust in addition to the public "
        "roots.",
    )
    service: ServiceSettings = Field(default_factory=ServiceSettings, description="The Service in front of the engine.")
    pod_template: EnginePodTemplate | None = Field(
        default=None,
        description="Merged into the engine's pod template as a strategic merge patch: labels, volumes, sidecars and "
        "others. See docs/pods.md.",
    )
    tools: ToolsSpec = Field(default_factory=ToolsSpec, description="The Jobs of the model tools.")
