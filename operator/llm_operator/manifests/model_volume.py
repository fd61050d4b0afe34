"""Where the engine finds the model in its pod: volume, mount, and the init container that fills it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Self

from llm_operator.api.model import ImageSource, ModelSpec
from llm_operator.api.resource import LLMDeployment
from llm_operator.engines.common import MODEL_MOUNT
from llm_operator.manifests.common import JSON
from llm_operator.manifests.model_source import LABEL_CLAIM, claim_label, from_hub, source_claim
from llm_operator.manifests.tools import tool_container
from llm_operator.settings import ToolSettings

VOLUME = "model"
SCRATCH = "scratch"
BESIDE_MOUNT = "/artifacts"
"""Folder of the engine's container with what is mounted beside the model."""
FETCHER = "fetch"
"""Name of the init container that fetches."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A prepared directory that the engine's pod has beside the model, such as an adapter or a draft model.

    Attributes:
        name: what it is called in the pod.
        claim_name: claim that holds it.
        directory: directory on that claim.
        single_node: the claim can be mounted on one node at a time (ReadWriteOnce).
    """

    name: str
    claim_name: str
    directory: str
    single_node: bool = False

    @property
    def path(self) -> str:
        """Where the engine's container has it."""
        return f"{BESIDE_MOUNT}/{self.name}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The result of the stages before serving.

    Attributes:
        claim_name: claim that holds the served model; None if it lies elsewhere.
        directory: directory on that claim.
        revision: commit of the hub that was fetched.
        bytes: size of the files.
        format: format of the weights where a stage made them, such as AWQ.
        single_node: the claim can be mounted on one node at a time (ReadWriteOnce).
        quantization: status.quantization, where the weights were quantized.
        beside: what is mounted beside the model.
    """

    claim_name: str | None = None
    directory: str = ""
    revision: str | None = None
    bytes: int | None = None
    format: str | None = None
    single_node: bool = False
    quantization: Mapping[str, str | int] = field(default_factory=lambda: MappingProxyType({}))
    beside: tuple[Mount, ...] = ()

    def to_json(self) -> JSON:
        """Its text on the pod template, which outlives the Jobs."""
        body = {**asdict(replace(self, quantization={})), "quantization": dict(self.quantization)}
        if not self.beside:
            del body["beside"]
        return body

    @classmethod
    def from_json(cls, body: JSON) -> Self:
        """Back from that text; fields of other versions of the operator are left out."""
        return cls(
            **{**_known(cls, body), "beside": tuple(Mount(**_known(Mount, one)) for one in body.get("beside", ()))}
        )

    @property
    def claims(self) -> tuple[tuple[str, bool], ...]:
        """Claims of everything prepared, each with whether it can be mounted on one node at a time only."""
        own = [(self.claim_name, self.single_node)] if self.claim_name is not None else []
        return tuple(dict.fromkeys([*own, *((one.claim_name, one.single_node) for one in self.beside)]))


def _known(cls: type, body: JSON) -> JSON:
    """What a JSON object says of a type's fields."""
    known = {entry.name for entry in fields(cls)}
    return {name: value for name, value in body.items() if name in known}


def model_name(resource: LLMDeployment) -> str:
    """Last part of the model's name: the directory in the pod, from which older LMDeploys guess a chat template."""
    model = resource.spec.model
    hub = model.hugging_face or model.model_scope
    return hub.repository.rsplit("/", 1)[-1] if hub is not None else "model"


def model_path(resource: LLMDeployment, prepared: Prepared, tools: ToolSettings) -> str | None:
    """Absolute path of what a stage or an init container provides; None if spec.model alone says what to load."""
    if prepared.claim_name is not None or (from_hub(resource) and tools.enabled):
        return f"{MODEL_MOUNT}/{model_name(resource)}"
    return None


def claim_volume(name: str, claim: str, *, read_only: bool) -> JSON:
    """A volume of a claim."""
    return {"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}


def image_volume(name: str, image: ImageSource) -> JSON:
    """A volume of an image's files."""
    return {"name": name, "image": {"reference": image.reference, "pullPolicy": image.pull_policy}}


def volume(resource: LLMDeployment, prepared: Prepared, tools: ToolSettings) -> JSON | None:
    """The volume with the model; None if the engine fetches it into its own cache."""
    model = resource.spec.model
    claim = prepared.claim_name or source_claim(resource)
    if claim is not None:
        return claim_volume(VOLUME, claim, read_only=True)
    if model.image is not None:
        return image_volume(VOLUME, model.image)
    return {"name": VOLUME, "emptyDir": {}} if tools.enabled else None


def volumes(resource: LLMDeployment, prepared: Prepared, tools: ToolSettings) -> list[JSON]:
    """The volumes with the model and with what is mounted beside it; one for each claim."""
    model = volume(resource, prepared, tools)
    found = [model] if model is not None else []
    for one in prepared.beside:
        if _volume_name(one, prepared) not in [entry["name"] for entry in found]:
            found.append(claim_volume(_volume_name(one, prepared), one.claim_name, read_only=True))
    return found


def mounts(resource: LLMDeployment, prepared: Prepared, tools: ToolSettings) -> list[JSON]:
    """Their mounts in the engine's container, read-only."""
    own = [mount(resource, prepared)] if volume(resource, prepared, tools) is not None else []
    beside = (
        {"name": _volume_name(one, prepared), "mountPath": one.path, "subPath": one.directory, "readOnly": True}
        for one in prepared.beside
    )
    return [*own, *beside]


def _volume_name(one: Mount, prepared: Prepared) -> str:
    """A claim has one volume in a pod, also if several directories of it are mounted."""
    if one.claim_name == prepared.claim_name:
        return VOLUME
    return f"{VOLUME}-{next(other.name for other in prepared.beside if other.claim_name == one.claim_name)}"


def mount(resource: LLMDeployment, prepared: Prepared) -> JSON:
    """Its mount in the engine's container, read-only."""
    if prepared.claim_name is not None:
        # Only the one directory: it stays what it is, even if it is renamed on the claim.
        path = f"{MODEL_MOUNT}/{model_name(resource)}"
        return {"name": VOLUME, "mountPath": path, "subPath": prepared.directory, "readOnly": True}
    return {"name": VOLUME, "mountPath": MODEL_MOUNT, "readOnly": True}


def fetcher(resource: LLMDeployment, prepared: Prepared, tools: ToolSettings) -> JSON | None:
    """The init container that fetches a hub's model into the pod's own volume; None if it is there already."""
    if prepared.claim_name is not None or not from_hub(resource) or not tools.enabled:
        return None
    model = resource.spec.model
    arguments = ["fetch", "--flat", f"{MODEL_MOUNT}/{model_name(resource)}", *fetch_arguments(model, tools)]
    mounts = [{"name": VOLUME, "mountPath": MODEL_MOUNT}, {"name": SCRATCH, "mountPath": "/tmp"}]  # noqa: S108
    return {**tool_container(model, tools, arguments), "name": FETCHER, "volumeMounts": mounts}


def fetch_arguments(model: ModelSpec, tools: ToolSettings) -> list[str]:
    """What to fetch, as the model tools take it."""
    hub = model.hugging_face or model.model_scope
    if hub is None:
        raise ValueError("only a model of a hub is fetched")
    source = "huggingFace" if model.hugging_face is not None else "modelScope"
    words = ["--source", source, "--repository", hub.repository, "--stall-seconds", str(tools.stall_seconds)]
    return [*words, "--revision", hub.revision] if hub.revision else words


def claim_labels(*claims: str | None) -> dict[str, str]:
    """The label of a pod that mounts a claim; the first given one counts."""
    return next(({LABEL_CLAIM: claim_label(claim)} for claim in claims if claim is not None), {})


def same_node(claim: str) -> JSON:
    """Affinity that places all pods with a claim on one node: a ReadWriteOnce volume is attached to one at a time.

    A pod that matches its own term may be the first one: the scheduler lets it in when no other pod matches.
    """
    term = {
        "labelSelector": {"matchLabels": {LABEL_CLAIM: claim_label(claim)}},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
