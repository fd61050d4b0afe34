"""The Jobs that fetch, inspect, quantize, convert and remove models. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llm_operator import __version__
from llm_operator.api.quantization import WeightQuantization
from llm_operator.api.resource import LLMDeployment
from llm_operator.engines.registry import QUANTIZER
from llm_operator.manifests.artifacts import (
    ANNOTATION_INCOMPLETE,
    ANNOTATION_JOB_TEMPLATE,
    ANNOTATION_MADE_FOR,
    ANNOTATION_SOURCE,
    LABEL_ARTIFACT,
    LABEL_STAGE,
    QUANTIZE_VERSION,
    Artifact,
    digest_of,
    removal_name,
    verification_name,
)
from llm_operator.manifests.common import (
    JSON,
    LABEL_MANAGED_BY,
    LABEL_VERSION,
    MANAGER,
    PART_OF,
    carried_annotations,
    compact_json,
    owner_reference,
)
from llm_operator.manifests.model_volume import claim_labels, claim_volume, fetch_arguments, image_volume, same_node
from llm_operator.manifests.overlay import merged
from llm_operator.manifests.pod import node_selector, tolerations
from llm_operator.manifests.tools import (
    CONTAINER,
    ToolSettings,
    pod_security,
    restricted_container,
    tool_container,
    variables,
)
from llm_operator.manifests.trust import bundles_of, with_trust

ROOT = "/models"
SOURCE = "/source"
TOOLS = "/tools"
CALIBRATION = "/calibration"

FINAL_EXIT_CODES = (2, 3)
"""The model tools end with 3 where another try would change nothing, and argparse with 2."""
BACKOFF_LIMIT = 4
VERIFY_MIB_PER_SECOND = 100
"""A verification may wait; an engine that loads its weights from the same disk may not."""
LEAST_VERIFY_SECONDS = 3600
"""Also for a small model: the pod waits for room on its node."""
INSPECT_SECONDS = 120
RECOMMENDED: Mapping[str, str] = {
    "app.kubernetes.io/name": "llm-model-tools",
    "app.kubernetes.io/component": "model-tools",
    "app.kubernetes.io/part-of": PART_OF,
    LABEL_VERSION: __version__,
}
"""Labels of all Jobs. Many objects share a Job, so none is its instance."""
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class ClaimFacts:
    """A PersistentVolumeClaim, reduced to what a Job needs to know.

    Attributes:
        name: its name.
        uid: its identity; owner of the Jobs that fill it. Empty where claims may not be read.
        single_node: ReadWriteOnce only: pods that mount it must share a node.
        managed: the operator made it, by its label.
        labelled: its label allows the operator to keep models on it.
        deleting: it goes away, and its name is free after that.
        owner_uid: uid of the object that it goes with; None: it stays.
        bound: it has a volume.
        size: storage that it requests; empty: not known.
        storage_class: its StorageClass; None: it names none, and there was no default one.
    """

    name: str
    uid: str
    single_node: bool
    managed: bool = False
    labelled: bool = False
    deleting: bool = False
    owner_uid: str | None = None
    bound: bool = True
    size: str = ""
    storage_class: str | None = None

    @property
    def cache(self) -> bool:
        """Whether models may be kept on it."""
        return self.managed or self.labelled


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One Job to be made.

    Attributes:
        resource: the first object that needs it; placement and pull secrets are its own.
        artifact: what it makes.
        tools: the operator's settings.
        claim: claim that it writes to, or reads from when it only inspects; None for an image.
        source_claim: further claim that holds the original, when that is another one.
        source_directory: directory of the original on its volume.
        output_directory: directory to be made.
        memory_bytes: host memory that it will need; None: not known.
        source_in_cache: the original lies on `claim` itself.
        incomplete: what an earlier Job of this name left half-done, as its annotation; empty where nothing is known.
    """

    resource: LLMDeployment
    artifact: Artifact
    tools: ToolSettings
    claim: ClaimFacts | None = None
    source_claim: ClaimFacts | None = None
    source_directory: str = ""
    output_directory: str = ""
    memory_bytes: int | None = None
    source_in_cache: bool = True
    incomplete: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a Job is to compare with its hashes.

    Attributes:
        claim: the claim.
        directory: path on it.
        bytes: of its files, as far as known.
    """

    claim: ClaimFacts
    directory: str
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Parts:
    """What differs between the stages' pods."""

    containers: list[JSON]
    volumes: list[JSON]
    init: list[JSON] = field(default_factory=list)


def model_job(request: JobRequest) -> JSON:
    """The Job for one artifact."""
    resource, artifact = request.resource, request.artifact
    carried = carried_annotations(resource)
    annotations = {
        **carried,
        ANNOTATION_SOURCE: compact_json(artifact.about),
        ANNOTATION_MADE_FOR: resource.metadata.name,
        ANNOTATION_JOB_TEMPLATE: template_digest(request),
    }
    if request.incomplete:
        annotations[ANNOTATION_INCOMPLETE] = request.incomplete
    # The claim owns what fills it: many objects share the Job, and it ends with the volume.
    owner = claim_owner(request.claim) if request.claim and request.claim.uid else owner_reference(resource)
    job: JSON = {
        "backoffLimit": BACKOFF_LIMIT,
        "podFailurePolicy": {
            "rules": _failure_rules(),
        },
        "template": job_template(request),
    }
    if artifact.stage == "inspect":
        # What cannot be inspected is served without a plan rather than not at all.
        job["activeDeadlineSeconds"] = INSPECT_SECONDS
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": artifact.job_name,
            "namespace": resource.metadata.namespace,
            "labels": _labels(request),
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": job,
    }


def job_template(request: JobRequest) -> JSON:
    """The pod template of the Job for one artifact."""
    builders = {"inspect": _inspect, "fetch": _fetch, "quantize": _quantize, "convert": _convert}
    resource, parts = request.resource, builders[request.artifact.stage](request)
    claims = _claims(request)
    spec: JSON = {
        **_pod(parts.containers, parts.volumes, pod_security(request.tools, writes=_may_give(request))),
        # Where the engine will run: a volume may be bound to the zone or node of its first pod.
        "tolerations": tolerations(resource.spec),
        "nodeSelector": node_selector(resource.spec),
    }
    if parts.init:
        spec["initContainers"] = parts.init
    if resource.spec.image_pull_secrets:
        spec["imagePullSecrets"] = [secret.to_json() for secret in resource.spec.image_pull_secrets]
    if claims and claims[0].single_node:
        spec["affinity"] = same_node(claims[0].name)
    bundles = bundles_of(resource.spec, request.tools)
    spec = with_trust(spec, bundles, (CONTAINER,), request.tools.image, request.tools.pull_policy)
    carried = carried_annotations(resource)
    pods = {"labels": _labels(request), **({"annotations": carried} if carried else {})}
    template: JSON = merged({"metadata": pods, "spec": spec}, resource.spec.tools.pod_template)
    return template


def template_digest(request: JobRequest) -> str:
    """Changes with everything that a Job's pods are made with: placement, images, pull secrets, overlay, settings.

    Not with the operator's version alone, nor with the memory that a plan requires, which comes and goes with facts.
    """
    template = job_template(replace(request, memory_bytes=None))
    labels = {name: value for name, value in template["metadata"]["labels"].items() if name != LABEL_VERSION}
    return digest_of({**template, "metadata": {**template["metadata"], "labels": labels}})


def _labels(request: JobRequest) -> JSON:
    labels = {
        **request.resource.carried.labels,
        LABEL_MANAGED_BY: MANAGER,
        LABEL_STAGE: request.artifact.stage,
        LABEL_ARTIFACT: request.artifact.digest,
        **RECOMMENDED,
    }
    return labels | claim_labels(*(claim.name for claim in _claims(request)))


def _claims(request: JobRequest) -> list[ClaimFacts]:
    return [claim for claim in (request.claim, request.source_claim) if claim is not None]


def _failure_rules() -> list[JSON]:
    """When a Job of the tools has failed."""
    final = {"containerName": CONTAINER, "operator": "In", "values": list(FINAL_EXIT_CODES)}
    return [
        {"action": "FailJob", "onExitCodes": final},
        # A drained node or a preempted pod is not a failure of the Job.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def _may_give(request: JobRequest) -> bool:
    """Whether the claim's files may be given to the Job's group: the operator's own, or one whose label says so."""
    return request.artifact.stage != "inspect" and request.claim is not None and request.claim.cache


def _pod(containers: list[JSON], volumes: list[JSON], security: JSON) -> JSON:
    """What every pod of the tools has in common."""
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security,
        "containers": containers,
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
    }


def claim_owner(claim: ClaimFacts) -> JSON:
    """The owner reference of a Job that fills a claim."""
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.name, "uid": claim.uid}


def _mount(name: str, path: str, *, read_only: bool = False) -> JSON:
    return {"name": name, "mountPath": path, "readOnly": read_only}


def _tool(request: JobRequest, arguments: Sequence[str], mounts: list[JSON]) -> JSON:
    container = tool_container(request.resource, request.tools, arguments)
    return {**container, "volumeMounts": [*mounts, _mount("tmp", "/tmp")]}  # noqa: S108


def _inspect(request: JobRequest) -> _Parts:
    model = request.resource.spec.model
    source = model.persistent_volume_claim or model.image
    if source is None:
        raise ValueError("only a model on a claim or in an image is inspected")
    arguments = ["inspect", "--root", ROOT, "--directory", source.path or "."]
    if model.image is not None:
        volume = image_volume("model", model.image)
    else:
        volume = claim_volume("model", source.claim_name, read_only=True)  # type: ignore[union-attr]
    return _Parts([_tool(request, arguments, [_mount("model", ROOT, read_only=True)])], [volume])


def _fetch(request: JobRequest) -> _Parts:
    arguments = ["fetch", "--root", ROOT, *fetch_arguments(request.resource, request.tools)]
    volume = claim_volume("model", _written(request).name, read_only=False)
    return _Parts([_tool(request, arguments, [_mount("model", ROOT)])], [volume])


def _written(request: JobRequest) -> ClaimFacts:
    if request.claim is None:
        raise ValueError(f"{request.artifact.job_name} writes to a claim, and none is given")
    return request.claim


def _source(request: JobRequest) -> tuple[str, JSON | None, JSON | None]:
    """Root of the original in the pod; its volume and mount where it is not the cache itself."""
    image = request.resource.spec.model.image
    if request.source_in_cache:
        return ROOT, None, None
    if request.source_claim is not None:
        volume = claim_volume("source", request.source_claim.name, read_only=True)
    elif image is not None:
        volume = image_volume("source", image)
    else:
        raise ValueError(f"{request.artifact.job_name} has no original to read")
    return SOURCE, volume, _mount("source", SOURCE, read_only=True)


def _foreign(request: JobRequest, image: str, arguments: list[str], extra: _Parts, resources: JSON) -> _Parts:
    """The tools in an engine's image: an init container copies them there."""
    root, source_volume, source_mount = _source(request)
    words = [*arguments[:1], "--root", root, "--output-root", ROOT, "--model", request.source_directory or "."]
    words += ["--output", request.output_directory, *arguments[1:]]
    container = {
        **_tool(request, words, []),
        "image": image,
        "command": ["python3", "-m", "llm_operator.modeltools"],
        "resources": resources,
    }
    # Code of the model's repository may run here, so the hub's token is not handed to it: the model is there already.
    container["env"] = [*variables(request.tools), {"name": "PYTHONPATH", "value": TOOLS}]
    mounts = [_mount("tools", TOOLS, read_only=True), _mount("tmp", "/tmp")]  # noqa: S108
    container["volumeMounts"] = [
        *_cache_mounts(request),
        *mounts,
        *([source_mount] if source_mount else []),
        *extra.containers,
    ]
    installer = {
        **_tool(request, ["install", TOOLS], []),
        "name": "install",
        "volumeMounts": [_mount("tools", TOOLS), _mount("tmp", "/tmp")],  # noqa: S108
    }
    installer["env"] = []
    volumes = [claim_volume("model", _written(request).name, read_only=False), {"name": "tools", "emptyDir": {}}]
    shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}
    container["volumeMounts"].append(_mount("shm", "/dev/shm"))  # noqa: S108 - torch's workers
    volumes += [*([source_volume] if source_volume else []), *extra.volumes, shm]
    return _Parts([container], volumes, [installer])


def _cache_mounts(request: JobRequest) -> list[JSON]:
    """The cache as the code of a repository gets it: writable where the result goes, beside the original.

    Other models of the claim are out of its reach, and the original cannot be changed. Where the original lies
    elsewhere, the result's folder may not be there yet, which the kubelet would then make for itself: there the tool
    gets the whole claim.
    """
    folder, original = posixpath.dirname(request.output_directory), request.source_directory
    if not request.source_in_cache or not folder or posixpath.dirname(original) != folder or ":" in original:
        return [_mount("model", ROOT)]
    return [
        {**_mount("model", f"{ROOT}/{folder}"), "subPath": folder},
        {**_mount("model", f"{ROOT}/{original}", read_only=True), "subPath": original},
    ]


def _quantize(request: JobRequest) -> _Parts:
    recipe = request.resource.spec.weight_quantization
    if recipe is None:
        raise ValueError("the object has no weightQuantization")
    image = recipe.image or request.tools.quantize_image
    resources = _gpu_resources(request, recipe)
    text_mount, text_volume, text_words = _calibration(recipe)
    arguments = ["quantize", *quantize_arguments(request.resource, recipe), *text_words]
    return _foreign(request, image, arguments, _Parts(text_mount, text_volume), resources)


def quantize_arguments(resource: LLMDeployment, recipe: WeightQuantization) -> list[str]:
    """The recipe as the model tools take it."""
    calibration, quality = recipe.calibration, recipe.quality
    words = ["--bits", str(recipe.bits), "--group-size", str(recipe.group_size), "--dataset", calibration.dataset]
    words += ["--samples", str(calibration.samples), "--sequence-length", str(calibration.sequence_length)]
    words += ["--batch-size", str(calibration.batch_size), "--tool-version", QUANTIZE_VERSION]
    words += ["--search-scale"] if calibration.search_scale else []
    words += ["--trust-remote-code"] if resource.spec.model.trust_remote_code else []
    if quality.evaluate:
        words.append("--evaluate")
    if quality.max_perplexity_increase_percent is not None:
        words += ["--max-perplexity-increase-percent", str(quality.max_perplexity_increase_percent)]
        words += ["--quality-policy", quality.policy]
    return words


def _calibration(recipe: WeightQuantization) -> tuple[list[JSON], list[JSON], list[str]]:
    """Mounts, volumes and arguments of the user's own calibration text."""
    text = recipe.calibration.text
    if text is None:
        return [], [], []
    if text.config_map is not None:
        item = {"key": text.config_map.key, "path": "text"}
        volume: JSON = {"name": "calibration", "configMap": {"name": text.config_map.name, "items": [item]}}
        path = f"{CALIBRATION}/text"
    else:
        claim = text.persistent_volume_claim
        volume = claim_volume("calibration", claim.claim_name, read_only=True)  # type: ignore[union-attr]
        path = f"{CALIBRATION}/{claim.path}"  # type: ignore[union-attr]
    return [_mount("calibration", CALIBRATION, read_only=True)], [volume], ["--text", path]


def _gpu_resources(request: JobRequest, recipe: WeightQuantization) -> JSON:
    gpu = {request.resource.spec.gpu.resource_name: "1"}
    requests, limits = dict(recipe.resources.requests or {}), dict(recipe.resources.limits or {})
    if "memory" not in requests and "memory" not in limits and request.memory_bytes is not None:
        # The whole model lies in host memory while it is quantized (engines.md: 20.4 GB for one of 15.5 GB).
        requests["memory"] = f"{-(-request.memory_bytes // _GIB)}Gi"
    return {"requests": {**requests, **gpu}, "limits": {**limits, **gpu}}


def _convert(request: JobRequest) -> _Parts:
    spec = request.resource.spec
    version = spec.engine.version or QUANTIZE_VERSION
    quantized = spec.weight_quantization
    words = ["convert", "--tensor", str(spec.parallelism.tensor or 1), "--tool-version", version]
    words += ["--model-format", "awq" if quantized or spec.model.format == "AWQ" else "hf"]
    words += ["--group-size", str(quantized.group_size if quantized else 128)]
    words += ["--trust-remote-code"] if spec.model.trust_remote_code else []
    gpu = {spec.gpu.resource_name: "1"}
    image = spec.engine.image or QUANTIZER.default_image(version)
    return _foreign(request, image, words, _Parts([], []), {"requests": dict(gpu), "limits": dict(gpu)})


def verify_job(namespace: str, work: Verification, tools: ToolSettings, placement: Mapping[str, Any]) -> JSON:
    """The Job that compares one model on a claim with its hashes.

    It may write, to say on the claim that the directory is not what it was; it changes no file of the model.

    Args:
        namespace: the claim's.
        work: the claim, the directory and its size.
        tools: the operator's settings.
        placement: node selector, tolerations, affinity and pull secrets of the Job that made it.
    """
    arguments = [
        "verify",
        "--root",
        ROOT,
        "--directory",
        work.directory,
        "--mib-per-second",
        str(VERIFY_MIB_PER_SECOND),
    ]
    body = _volume_job(namespace, verification_name(work.claim.name, work.directory), work.claim, arguments, tools)
    body["metadata"]["annotations"] = {
        ANNOTATION_SOURCE: compact_json({"claimName": work.claim.name, "directory": work.directory})
    }
    body["spec"]["template"]["spec"] |= placement
    body["spec"]["activeDeadlineSeconds"] = LEAST_VERIFY_SECONDS + 2 * work.bytes // (VERIFY_MIB_PER_SECOND << 20)
    body["spec"]["podFailurePolicy"] = {"rules": _failure_rules()}
    return body


def remove_job(
    namespace: str, claim: ClaimFacts, directory: str, tools: ToolSettings, placement: Mapping[str, Any]
) -> JSON:
    """The Job that removes one model, or what was left half-done of one, from a claim.

    Args:
        namespace: the claim's.
        claim: the claim.
        directory: path on it; of what is half-done, the directory that is written before it is complete.
        tools: the operator's settings.
        placement: node selector, tolerations, affinity and pull secrets of the Job that made it.
    """
    arguments = ["remove", "--root", ROOT, "--directory", directory]
    body = _volume_job(namespace, removal_name(claim.name, directory), claim, arguments, tools)
    body["spec"]["template"]["spec"] |= placement
    return body


def _volume_job(namespace: str, name: str, claim: ClaimFacts, arguments: list[str], tools: ToolSettings) -> JSON:
    """A Job of the model tools that does something with what lies on a claim."""
    _, stage, digest = name.split("-")
    labels = {LABEL_MANAGED_BY: MANAGER, LABEL_STAGE: stage, LABEL_ARTIFACT: digest, **RECOMMENDED}
    labels |= claim_labels(claim.name)
    container = {
        **restricted_container(tools, arguments),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "volumeMounts": [_mount("model", ROOT), _mount("tmp", "/tmp")],  # noqa: S108
    }
    # The files are the Job's that made them, and so need no change of their owner.
    security = pod_security(tools, writes=False)
    pod = _pod([container], [claim_volume("model", claim.name, read_only=False)], security)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [claim_owner(claim)],
        },
        "spec": {"backoffLimit": 2, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
