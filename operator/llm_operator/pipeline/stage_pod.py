"""Containers and volumes of the Job that makes an artifact; what differs between the stages. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from llm_operator.api.model import ModelSpec
from llm_operator.api.quantization import WeightQuantization
from llm_operator.api.resource import LLMDeployment
from llm_operator.engines.registry import QUANTIZER
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.common import (
    JSON,
)
from llm_operator.manifests.model_volume import claim_volume, fetch_arguments, image_volume
from llm_operator.manifests.tools import (
    tool_container,
    variables,
)
from llm_operator.pipeline.artifacts import (
    QUANTIZE_VERSION,
)
from llm_operator.pipeline.request import JobRequest
from llm_operator.pipeline.tool_pod import ROOT, mount

SOURCE = "/source"

TOOLS = "/tools"

CALIBRATION = "/calibration"

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Parts:
    """What differs between the stages' pods."""

    containers: list[JSON]
    volumes: list[JSON]
    init: list[JSON] = field(default_factory=list)


def _model(request: JobRequest) -> ModelSpec:
    return request.model or request.resource.spec.model


def _tool(request: JobRequest, arguments: Sequence[str], mounts: list[JSON]) -> JSON:
    container = tool_container(_model(request), request.tools, arguments)
    return {**container, "volumeMounts": [*mounts, mount("tmp", "/tmp")]}  # noqa: S108


def inspect_parts(request: JobRequest) -> Parts:
    """Read config.json and the names of the files where they are."""
    model = request.resource.spec.model
    source = model.persistent_volume_claim or model.image
    if source is None:
        raise ValueError("only a model on a claim or in an image is inspected")
    arguments = ["inspect", "--root", ROOT, "--directory", source.path or "."]
    if model.image is not None:
        volume = image_volume("model", model.image)
    else:
        volume = claim_volume("model", source.claim_name, read_only=True)  # type: ignore[union-attr]
    return Parts([_tool(request, arguments, [mount("model", ROOT, read_only=True)])], [volume])


def fetch_parts(request: JobRequest) -> Parts:
    """Fetch a hub's model into the cache."""
    arguments = ["fetch", "--root", ROOT, *fetch_arguments(_model(request), request.tools)]
    volume = claim_volume("model", _written(request).name, read_only=False)
    return Parts([_tool(request, arguments, [mount("model", ROOT)])], [volume])


def _written(request: JobRequest) -> ClaimFacts:
    if request.claim is None:
        raise ValueError(f"{request.artifact.job_name} writes to a claim, and none is given")
    return request.claim


def _source(request: JobRequest) -> tuple[str, JSON | None, JSON | None]:
    """Root of the original in the pod; its volume and mount if it is not the cache itself."""
    image = request.resource.spec.model.image
    if request.source_in_cache:
        return ROOT, None, None
    if request.source_claim is not None:
        volume = claim_volume("source", request.source_claim.name, read_only=True)
    elif image is not None:
        volume = image_volume("source", image)
    else:
        raise ValueError(f"{request.artifact.job_name} has no original to read")
    return SOURCE, volume, mount("source", SOURCE, read_only=True)


def _foreign(request: JobRequest, image: str, arguments: list[str], extra: Parts, resources: JSON) -> Parts:
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
    mounts = [mount("tools", TOOLS, read_only=True), mount("tmp", "/tmp")]  # noqa: S108
    container["volumeMounts"] = [
        *_cache_mounts(request),
        *mounts,
        *([source_mount] if source_mount else []),
        *extra.containers,
    ]
    installer = {
        **_tool(request, ["install", TOOLS], []),
        "name": "install",
        "volumeMounts": [mount("tools", TOOLS), mount("tmp", "/tmp")],  # noqa: S108
    }
    installer["env"] = []
    volumes = [claim_volume("model", _written(request).name, read_only=False), {"name": "tools", "emptyDir": {}}]
    shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}
    container["volumeMounts"].append(mount("shm", "/dev/shm"))  # noqa: S108 - torch's workers
    volumes += [*([source_volume] if source_volume else []), *extra.volumes, shm]
    return Parts([container], volumes, [installer])


def _cache_mounts(request: JobRequest) -> list[JSON]:
    """The cache as the code of a repository gets it: writable where the result goes, beside the original.

    Other models of the claim are out of its reach, and the original cannot be changed. Where the original lies
    elsewhere, the result's folder may not be there yet, which the kubelet would then make for itself: there the tool
    gets the whole claim.
    """
    folder, original = posixpath.dirname(request.output_directory), request.source_directory
    if not request.source_in_cache or not folder or posixpath.dirname(original) != folder or ":" in original:
        return [mount("model", ROOT)]
    return [
        {**mount("model", f"{ROOT}/{folder}"), "subPath": folder},
        {**mount("model", f"{ROOT}/{original}", read_only=True), "subPath": original},
    ]


def quantize_parts(request: JobRequest) -> Parts:
    """Quantize the weights on a GPU."""
    recipe = request.resource.spec.weight_quantization
    if recipe is None:
        raise ValueError("the object has no weightQuantization")
    image = recipe.image or request.tools.quantize_image
    resources = _gpu_resources(request, recipe)
    text_mount, text_volume, text_words = _calibration(recipe)
    arguments = ["quantize", *quantize_arguments(request.resource, recipe), *text_words]
    return _foreign(request, image, arguments, Parts(text_mount, text_volume), resources)


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
    return [mount("calibration", CALIBRATION, read_only=True)], [volume], ["--text", path]


def _gpu_resources(request: JobRequest, recipe: WeightQuantization) -> JSON:
    gpu = {request.resource.spec.gpu.resource_name: "1"}
    requests, limits = dict(recipe.resources.requests or {}), dict(recipe.resources.limits or {})
    if "memory" not in requests and "memory" not in limits and request.memory_bytes is not None:
        # The whole model lies in host memory while it is quantized (engines.md: 20.4 GB for one of 15.5 GB).
        requests["memory"] = f"{-(-request.memory_bytes // _GIB)}Gi"
    return {"requests": {**requests, **gpu}, "limits": {**limits, **gpu}}


def convert_parts(request: JobRequest) -> Parts:
    """Convert the weights to a workspace of TurboMind on a GPU."""
    spec = request.resource.spec
    version = spec.engine.version or QUANTIZE_VERSION
    quantized = spec.weight_quantization
    words = ["convert", "--tensor", str(spec.parallelism.tensor or 1), "--tool-version", version]
    words += ["--model-format", "awq" if quantized or spec.model.format == "AWQ" else "hf"]
    words += ["--group-size", str(quantized.group_size if quantized else 128)]
    words += ["--trust-remote-code"] if spec.model.trust_remote_code else []
    gpu = {spec.gpu.resource_name: "1"}
    image = spec.engine.image or QUANTIZER.default_image(version)
    return _foreign(request, image, words, Parts([], []), {"requests": dict(gpu), "limits": dict(gpu)})
