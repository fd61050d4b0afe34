"""Manifests, model configurations and GPUs as a command line gives them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.resource import InvalidResource, LLMDeployment
from llm_operator.cli.errors import BadInputError
from llm_operator.kube.model_facts import fetch_facts
from llm_operator.models import ModelConfigError, ModelShape, parse_config_text
from llm_operator.planning import GpuFacts, PlanInputError, UnknownGpuError, gpu_by_name, parse_gpu, parse_gpu_memory
from llm_operator.reconcile.planned import gpu_given

# A configuration is a few kilobytes; more is some other file.
CONFIG_LIMIT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class GpuArguments:
    """--gpu, --gpu-memory and --compute-capability."""

    gpu: str | None
    memory: str | None
    compute_capability: str | None

    @property
    def given(self) -> bool:
        """Whether any of them says which GPU."""
        return self.gpu is not None or self.memory is not None


def read_manifests(names: Sequence[str]) -> list[LLMDeployment]:
    """All LLMDeployments of some files; other kinds are passed over.

    Args:
        names: paths; `-` is standard input.

    Raises:
        BadInputError: every file that cannot be read and every field that is wrong.
    """
    problems: list[str] = []
    found: list[LLMDeployment] = []
    for name in names:
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text()
            documents = [document for document in yaml.safe_load_all(text) if document is not None]
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{name}: cannot be read: {error}")
            continue
        except yaml.YAMLError as error:
            problems.append(f"{name}: is no YAML: {' '.join(str(error).split())}")
            continue
        for number, document in enumerate(documents, start=1):
            _take(document, f"{name}[{number}]", found, problems)
    if not found and not problems:
        problems.append(f"no {KIND} of {API_VERSION} in {', '.join(names)}")
    if problems:
        raise BadInputError(problems)
    return found


def _take(document: Any, where: str, found: list[LLMDeployment], problems: list[str]) -> None:
    if not isinstance(document, dict):
        problems.append(f"{where}: is a {type(document).__name__}, expected an object with apiVersion and kind")
        return
    if document.get("kind") == "List" and isinstance(document.get("items"), list):
        for index, item in enumerate(document["items"]):
            _take(item, f"{where}.items[{index}]", found, problems)
        return
    if document.get("kind") != KIND:
        return
    if document.get("apiVersion") != API_VERSION:
        problems.append(f"{where}: apiVersion is {document.get('apiVersion')!r}, expected {API_VERSION!r}")
        return
    try:
        found.append(LLMDeployment.parse(document))
    except InvalidResource as invalid:
        problems += [f"{where}: {field}: {message}" for field, message in invalid.errors]


def read_shape(config: str | None, resource: LLMDeployment) -> ModelShape | str:
    """The model's shape; a text where nothing can be known of it, which is no mistake of the caller.

    Args:
        config: a path to config.json or to its folder, or a repository of the hub; None: what the manifest names.
        resource: the manifest.

    Raises:
        BadInputError: a configuration that was named cannot be used.
    """
    if config is not None and (Path(config).exists() or config.endswith(".json")):
        return _shape_of_file(Path(config))
    source = resource.spec.model.hugging_face
    repository, revision = (
        (config, None) if config else (source.repository, source.revision) if source else (None, None)
    )
    if repository is None:
        return "the model is on a volume or another hub: give its config.json with --config"
    facts = fetch_facts(repository, revision)
    if facts.shape is not None:
        return facts.shape
    if config is not None or facts.reason in ("ModelUnknown", "ModelNotFound", "RevisionNotFound"):
        raise BadInputError([facts.message])
    return facts.message


def _shape_of_file(path: Path) -> ModelShape:
    path = path / "config.json" if path.is_dir() else path
    try:
        if path.stat().st_size > CONFIG_LIMIT_BYTES:
            raise BadInputError([f"{path}: has {path.stat().st_size} bytes, a config.json has some thousand"])
        return parse_config_text(path.read_bytes())
    except OSError as error:
        raise BadInputError([f"{path}: cannot be read: {error.strerror}"]) from error
    except ModelConfigError as error:
        raise BadInputError([f"{path}: {error}"]) from error


def gpu_of(arguments: GpuArguments, resource: LLMDeployment) -> GpuFacts | str:
    """The GPU to plan for: from the command line, else from spec.gpu; a text where neither says.

    Raises:
        BadInputError: an unknown name (the nearest are offered), or a size that is none.
    """
    try:
        if arguments.memory is not None:
            return parse_gpu_memory(arguments.memory, arguments.compute_capability)
        if arguments.gpu is not None:
            return parse_gpu(arguments.gpu)
        given = gpu_given(resource.spec.gpu)
        if given is not None:
            return given
        product = resource.spec.gpu.product
        if product is not None:
            return gpu_by_name(product, count=8)
    except (UnknownGpuError, PlanInputError) as error:
        raise BadInputError([str(error)]) from error
    return "which GPU is not known: give --gpu or --gpu-memory, or set spec.gpu.product"
