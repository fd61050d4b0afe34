"""What spec.model.format and spec.model.trustRemoteCode say beside what config.json says, in words for people."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from llm_operator.memory.types import PlanRequest

NOT_SAID = ("Auto", "HF")
"""Formats that say nothing of a quantization; no engine gets them on its command line."""


def found(request: PlanRequest) -> str:
    """Return what config.json says of the checkpoint's quantization."""
    own = request.shape.quantization
    return "has no quantization_config" if own is None else f"says {own.named or own.method}"


def contradicted(request: PlanRequest, engine: str, consequence: str = "does not start with that") -> str:
    """Return that the engine does not start with this model.format, and what to do."""
    return (
        f"model.format is {request.weight_format}, but config.json {found(request)}: {engine} {request.version}"
        f" {consequence}. Set model.format to Auto, or name a repository whose weights are {request.weight_format}"
    )


def overruled(request: PlanRequest, engine: str) -> str:
    """Return that the engine goes by config.json and not by model.format."""
    own = request.shape.quantization
    serves = "loads the weights as they are, in 16 bit" if own is None else "goes by config.json"
    return f"model.format {request.weight_format} changes nothing: config.json {found(request)}, and {engine} {serves}"


@cache
def _classes() -> dict[str, frozenset[str]]:
    content = (files("llm_operator.memory") / "model_types.json").read_text()
    # The package's own data.
    return {name: frozenset(types) for name, types in json.loads(content).items()}  # noqa: TID251


def needs_code(request: PlanRequest, *sources: str) -> bool:
    """Return whether config.json can only be read with code of its repository.

    It names its own configuration class (auto_map), and none of `sources`, "transformers" or "vllm", has one for
    its model_type (memory/model_types.json: transformers 5.20.2, and vLLM 0.20.2 to 0.33.0). Older releases of them
    have fewer.
    """
    name = request.shape.own_code
    return bool(name) and not any(name in _classes()[source] for source in sources)


def code_needed(request: PlanRequest, engine: str, consequence: str) -> str:
    """Return that the model needs code of its repository, and what to do."""
    return (
        f"config.json needs code of the model's repository (auto_map; model_type {request.shape.own_code[:60]}):"
        f" {engine} {consequence}. Read that code, then set model.trustRemoteCode to true"
    )
