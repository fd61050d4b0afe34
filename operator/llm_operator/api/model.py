"""`spec.model` and `spec.engine`: what to serve, and with which engine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llm_operator.api.base import (
    ApiModel,
    ConfigMapKeyReference,
    DataKey,
    KeyedBy,
    Name,
    Rule,
    SecretKeyReference,
    ShortText,
)

EngineType = Literal["LMDeploy", "VLLM"]
Backend = Literal["TurboMind", "PyTorch"]
Conversion = Literal["None", "TurboMind"]
ModelFormat = Literal["Auto", "HF", "AWQ", "GPTQ", "CompressedTensors", "FP8", "MXFP4"]

Repository = Annotated[
    str, Field(min_length=1, max_length=192, pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]*(/[A-Za-z0-9][-A-Za-z0-9._]*)?$")
]
Revision = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][-A-Za-z0-9._/]*$")]


# A process takes neither an argument nor a variable with a NUL; the pod would fail on the node.
NO_NUL = r"^[^\x00]*$"
Argument = Annotated[str, Field(min_length=1, max_length=2048, pattern=NO_NUL)]


class HubSource(ApiModel):
    """A repository on a model hub."""

    repository: Repository = Field(description="Repository on the hub, such as internlm/internlm2_5-7b-chat.")
    revision: Revision | None = Field(
        default=None, description="Branch, tag or commit. Default: the hub's default branch."
    )


def given_members(*members: object) -> int:
    """How many members of a union are present."""
    return sum(member is not None for member in members)


def _stays_inside(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/")


_INSIDE = Rule(
    "!self.path.startsWith('/') && !self.path.split('/').exists(part, part == '..')",
    "path must be relative to the root of the volume and must not contain '..'",
    lambda source: _stays_inside(source.path),
    ".path",
)
Directory = Annotated[str, Field(max_length=512, pattern=r"^[-A-Za-z0-9._/]*$")]
ImageReference = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9][-A-Za-z0-9._:/@]*$")]


class ClaimSource(ApiModel):
    """A directory on a PersistentVolumeClaim of the same namespace, mounted read-only."""

    RULES = (_INSIDE,)

    claim_name: Name = Field(description="PersistentVolumeClaim in the namespace of this object.")
    path: Directory = Field(
        default="", description="Directory inside the claim that holds config.json. Default: the root of the claim."
    )


class ImageSource(ApiModel):
    """A directory of a container image, mounted read-only as an image volume (Kubernetes 1.35, or its feature gate)."""

    RULES = (_INSIDE,)

    reference: ImageReference = Field(description="Image that contains the model's files.")
    path: Directory = Field(
        default="", description="Directory inside the image that holds config.json. Default: the root of the image."
    )
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="When the kubelet pulls the image."
    )


ServedName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][-A-Za-z0-9._/:]*$")]


class ModelSpec(ApiModel):
    """Which model to serve and under which name."""

    RULES = (
        Rule(
            "[has(self.huggingFace), has(self.modelScope), has(self.persistentVolumeClaim), has(self.image)]"
            ".filter(given, given).size() == 1",
            "exactly one of huggingFace, modelScope, persistentVolumeClaim and image must be given",
            lambda model: (
                given_members(model.hugging_face, model.model_scope, model.persistent_volume_claim, model.image) == 1
            ),
        ),
        Rule(
            "!has(self.credentials) || has(self.huggingFace) || has(self.modelScope)",
            "credentials belong to a hub; a model on a persistentVolumeClaim or in an image needs none",
            lambda model: model.credentials is None or given_members(model.hugging_face, model.model_scope) > 0,
            ".credentials",
        ),
        Rule(
            "!has(self.servedName) || !has(self.servedNames)",
            "servedName and servedNames exclude each other: the first of servedNames is the main name",
            lambda model: model.served_name is None or model.served_names is None,
            ".servedNames",
        ),
        Rule(
            "!has(self.servedNames) || self.servedNames.all(name, self.servedNames.exists_one(other, other == name))",
            "servedNames has a name twice: give each once",
            lambda model: len(set(model.served_names or ())) == len(model.served_names or ()),
            ".servedNames",
        ),
    )

    hugging_face: HubSource | None = Field(default=None, description="The model on the Hugging Face hub.")
    model_scope: HubSource | None = Field(default=None, description="The model on the ModelScope hub.")
    persistent_volume_claim: ClaimSource | None = Field(default=None, description="The model on a volume.")
    image: ImageSource | None = Field(default=None, description="The model in a container image.")
    credentials: SecretKeyReference | None = Field(
        default=None,
        description="Secret with the hub's token; needed for gated and private repositories. Read when a fetching "
        "Job or, without a cache, a pod starts.",
    )
    format: ModelFormat = Field(
        default="Auto",
        description="Format of the weights. Auto: what config.json says. Others are passed to the engine.",
    )
    trust_remote_code: bool = Field(
        default=False, description="Run Python code shipped in the model's repository. InternLM2 and 2.5 need it."
    )
    served_name: ServedName | None = Field(
        default=None, description="Name of the model in the API. Default: metadata.name."
    )
    served_names: Annotated[list[ServedName], Field(min_length=1, max_length=8)] | None = Field(
        default=None,
        description="Several names of the model in the API; the first is the main one. VLLM only, where more than one.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    chat_template: ConfigMapKeyReference | None = Field(
        default=None,
        description="Chat template in a ConfigMap: Jinja for VLLM, JSON for LMDeploy. Default: the model's own.",
    )

    def names(self, default: str) -> tuple[str, ...]:
        """All names of the model in the API, the main one first.

        Args:
            default: metadata.name.
        """
        return tuple(self.served_names or (self.served_name or default,))


class KeyReference(ApiModel):
    """A key of a Secret or ConfigMap of the same namespace, as an environment variable's value."""

    name: Name = Field(description="Name of the Secret or ConfigMap.")
    key: DataKey = Field(description="Key inside it.")
    optional: bool | None = Field(default=None, description="Start the pod even if the reference is missing.")


class EnvironmentSource(ApiModel):
    """Where an environment variable's value comes from."""

    RULES = (
        Rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "exactly one of secretKeyRef and configMapKeyRef must be given",
            lambda source: given_members(source.secret_key_ref, source.config_map_key_ref) == 1,
        ),
    )

    secret_key_ref: KeyReference | None = Field(default=None, description="Key of a Secret.")
    config_map_key_ref: KeyReference | None = Field(default=None, description="Key of a ConfigMap.")


class EnvironmentVariable(ApiModel):
    """One environment variable of the engine's container."""

    RULES = (
        Rule(
            "!(has(self.value) && has(self.valueFrom))",
            "value and valueFrom exclude each other",
            lambda variable: variable.value is None or variable.value_from is None,
        ),
    )

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Name of the variable."
    )
    value: Annotated[str, Field(max_length=4096, pattern=NO_NUL)] | None = Field(
        default=None, description="Literal value."
    )
    value_from: EnvironmentSource | None = Field(default=None, description="Reference to the value.")


class EngineSpec(ApiModel):
    """The engine and what is special about its command line."""

    RULES = (
        Rule(
            "!has(self.backend) || self.type == 'LMDeploy'",
            "only LMDeploy has backends to choose from: remove backend",
            lambda engine: engine.backend is None or engine.type == "LMDeploy",
            ".backend",
        ),
        Rule(
            "!has(self.conversion) || self.conversion == 'None'"
            " || (self.type == 'LMDeploy' && (!has(self.backend) || self.backend == 'TurboMind'))",
            "conversion is for LMDeploy's backend TurboMind",
            lambda engine: (
                engine.conversion == "None" or (engine.type == "LMDeploy" and engine.backend in (None, "TurboMind"))
            ),
            ".conversion",
        ),
    )

    type: EngineType = Field(description="LMDeploy or VLLM.")
    backend: Backend | None = Field(
        default=None, description="LMDeploy's backend. Default: TurboMind if it supports the model."
    )
    version: (
        Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?(\.post[0-9]+)?$")] | None
    ) = Field(
        default=None,
        description="Engine version, which determines image and flags. It is text: quote it in YAML, as in '0.18'. "
        "Default: the newest known version.",
    )
    image: ImageReference | None = Field(
        default=None,
        description="Image to use instead of the default of that version; it must contain the engine in that version.",
    )
    conversion: Conversion = Field(
        default="None",
        description="TurboMind: convert the weights to a TurboMind workspace first. LMDeploy up to 0.9.2.post1 only.",
    )
    extra_args: Annotated[list[Argument], Field(max_length=64)] = Field(
        default_factory=list,
        description="Additional arguments of the engine. Refused if a field of this spec sets the same.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    env: Annotated[list[EnvironmentVariable], Field(max_length=64), KeyedBy("name")] = Field(
        default_factory=list,
        description="Additional environment variables of the engine.",
    )
    api_key: SecretKeyReference | None = Field(
        default=None,
        description="Secret with the key that clients must send as a bearer token. Pods read it when they start: "
        "after a change of the Secret, run `kubectl llm restart`.",
    )


__all__ = [
    "Backend",
    "ClaimSource",
    "Conversion",
    "EngineSpec",
    "EngineType",
    "EnvironmentSource",
    "EnvironmentVariable",
    "HubSource",
    "ImageReference",
    "ImageSource",
    "KeyReference",
    "ModelFormat",
    "ModelSpec",
    "ShortText",
    "given_members",
]
