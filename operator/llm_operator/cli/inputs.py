"""Models and GPUs as a command line gives them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_operator.api.resource import LLMDeployment
from llm_operator.cli.errors import BadInputError
from llm_operator.facts import Known
from llm_operator.foreign import UnreadableError, natural_number, read_file
from llm_operator.kube.hub import CONFIG, INDEX, SINGLE
from llm_operator.kube.hub_files import CONFIG_BYTES, INDEX_BYTES, fetch_facts
from llm_operator.models import (
    QUANTIZATION_BESIDE,
    ModelConfigError,
    ModelShape,
    UnknownModelError,
    completed,
    contradiction,
    header_length,
    parse_config_text,
    read_header,
    read_index,
    unknown_with_files,
)
from llm_operator.planning import GpuFacts, PlanInputError, UnknownGpuError, gpu_by_name, parse_gpu, parse_gpu_memory
from llm_operator.reconcile.planned import GPUS_PER_NODE, gpu_given

MOST_DIGITS = 30
# Facts that are not the caller's mistake; facts that are, even if a manifest and not a flag named the model.
UNKNOWN_MODEL = ("ModelUnknown", "WeightsContradictConfig")
NO_ANSWER = ("HubUnreachable", "HubError")
WRONG_MODEL = ("ModelUnsupported", "ModelNotFound", "RevisionNotFound")


@dataclass(frozen=True, slots=True)
class GpuArguments:
    """--gpu, --gpu-memory and --compute-capability."""

    gpu: str | None
    memory: str | None
    compute_capability: str | None


def whole(text: str) -> int:
    """A whole number of the command line.

    Raises:
        argparse.ArgumentTypeError: it is none, or one that no field can hold.
    """
    digits = text.removeprefix("-")
    if natural_number(digits, MOST_DIGITS) is None:
        shown = repr(text[:20]) + (f"..., {len(text):,} characters" if len(text) > 20 else "")
        raise argparse.ArgumentTypeError(f"{shown}: expected a whole number of at most {MOST_DIGITS} digits")
    return int(text)


def add_gpu(line: Any) -> None:
    """Declare --gpu, --gpu-memory and --compute-capability."""
    line.add_argument("--gpu", metavar="NAME[:COUNT]", help='GPU from the catalogue, such as "NVIDIA-RTX-A6000:2"')
    line.add_argument("--gpu-memory", metavar="BYTES[:COUNT]", help="any GPU by its memory, such as 48Gi:2")
    line.add_argument("--compute-capability", metavar="X.Y", help="with --gpu-memory, such as 9.0")


def one_config_for_several(config: str | None, resources: Sequence[LLMDeployment]) -> str | None:
    """What to say where the configuration that was given is taken for different models."""
    models = [resource.spec.model for resource in resources]
    sources = {repr((it.hugging_face, it.model_scope, it.persistent_volume_claim, it.image)) for it in models}
    if config is None or len(sources) < 2:
        return None
    return f"--config is taken for all {len(sources)} models of the manifests: give it with the manifests of one model"


def read_shape(config: str | None, resource: LLMDeployment) -> ModelShape | str:
    """The model's shape; a text if it cannot be known for a reason that is not the caller's mistake.

    Args:
        config: a path to config.json or to its folder, or a repository of the hub; None: what the manifest names.
        resource: the manifest.

    Raises:
        BadInputError: a configuration that was named cannot be used.
    """
    if config == "":
        raise BadInputError(["--config is empty: give config.json, its folder, or a repository such as org/model"])
    if config is not None and _is_path(config):
        return _shape_of_file(Path(config))
    source = resource.spec.model.hugging_face
    if config:
        facts = fetch_facts(config, None)
    elif source is not None:
        facts = fetch_facts(source.repository, source.revision)
    else:
        return "the model is on a volume or another hub: give its config.json with --config"
    if isinstance(facts, Known):
        return facts.value.shape
    if facts.reason in UNKNOWN_MODEL:
        return facts.message
    if facts.reason in NO_ANSWER:
        return f"{facts.message}; set HF_ENDPOINT to a mirror, or give config.json, or its folder, with --config"
    if config:
        raise BadInputError([f"there is no file or folder {config!r} here, and as a repository: {facts.message}"])
    if facts.reason in WRONG_MODEL:
        raise BadInputError([facts.message])
    return facts.message


def _is_path(config: str) -> bool:
    """Whether --config means a file or folder; else it is a repository. "org/model" may be both: what is there wins."""
    try:
        return Path(config).exists() or config.endswith(".json") or config.startswith((".", "/", "~")) or not config
    except (OSError, ValueError):  # a name that no file can have
        return False


def _shape_of_file(path: Path) -> ModelShape | str:
    path = path / CONFIG if path.is_dir() else path
    try:
        beside = path.with_name(QUANTIZATION_BESIDE) if path.name == CONFIG else path
        quantization = read_file(beside, CONFIG_BYTES) if beside != path and beside.exists() else None
        shape = parse_config_text(read_file(path, CONFIG_BYTES), quantization)
        stored = _weights_beside(path)
        shape = completed(shape, stored)
    except OSError as error:
        raise BadInputError([f"{path}: cannot be read: {error.strerror or error}"]) from error
    except UnreadableError as error:
        text = f"{path}: is larger than {CONFIG_BYTES} bytes, a config.json has some thousand"
        raise BadInputError([text]) from error
    except UnknownModelError as error:
        return f"{path}: {unknown_with_files(str(error), _weights_beside(path))}"
    except ModelConfigError as error:
        raise BadInputError([f"{path}: {error}"]) from error
    against = contradiction(shape, stored) if stored is not None else None
    return shape if against is None else f"{path.parent}: {against}"


def _weights_beside(config: Path) -> int | None:
    """Bytes of the weights in config.json's folder by their index or header; None if there are none."""
    index, single = config.with_name(INDEX), config.with_name(SINGLE)
    if config.name != CONFIG:
        return None
    if index.exists():
        try:
            return read_index(read_file(index, INDEX_BYTES)).total_bytes
        except UnreadableError as error:
            raise BadInputError([str(error)]) from error
    if not single.exists():
        return None
    with single.open("rb") as file:
        start = file.read(8)
        return read_header(start + file.read(header_length(start) - 8)).total_bytes


def given_gpu(arguments: GpuArguments) -> GpuFacts | None:
    """The GPU of the command line; None if it gives none.

    Raises:
        BadInputError: an unknown name (the nearest are offered), a size that is none, or two GPUs at once.
    """
    problems: list[str] = []
    if arguments.memory is not None and arguments.gpu is not None:
        problems.append("--gpu and --gpu-memory exclude each other: name a GPU or give its memory")
    if arguments.compute_capability is not None and arguments.memory is None:
        problems.append("--compute-capability belongs to --gpu-memory; a GPU of the catalogue has its own")
    if problems:
        raise BadInputError(problems)
    try:
        if arguments.memory is not None:
            return parse_gpu_memory(arguments.memory, arguments.compute_capability)
        return parse_gpu(arguments.gpu) if arguments.gpu is not None else None
    except (UnknownGpuError, PlanInputError) as error:
        raise BadInputError([str(error)]) from error


def gpu_of(resource: LLMDeployment) -> GpuFacts | str:
    """The GPU that spec.gpu describes; a text if it does not say.

    Raises:
        BadInputError: a product that the catalogue lacks (the nearest are offered).
    """
    given = gpu_given(resource.spec.gpu)
    if given is not None:
        return given
    product = resource.spec.gpu.product
    if product is None:
        return "which GPU is not known: give --gpu or --gpu-memory, or set spec.gpu.product"
    try:
        return gpu_by_name(product, count=GPUS_PER_NODE)
    except UnknownGpuError as error:
        raise BadInputError([f"spec.gpu.product: {error}"]) from error
