"""`kubectl llm plan`: what will fit, before a GPU is requested, with the operator's own planner."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import yaml

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.model import Backend, EngineType
from llm_operator.api.resource import InvalidResource, LLMDeployment
from llm_operator.cli.errors import BadInputError, one_line
from llm_operator.cli.inputs import GpuArguments, add_gpu, given_gpu, gpu_of, one_config_for_several, read_shape, whole
from llm_operator.cli.manifests import read_manifests
from llm_operator.cli.table import add_output, aligned
from llm_operator.engines import RefusedError, check, engine_of
from llm_operator.engines.registry import ENGINES
from llm_operator.foreign import UnreadableError, read_file, read_json
from llm_operator.manifests.overlay import check_overlays
from llm_operator.memory.calibration import NOTHING_LEARNED, Calibration
from llm_operator.planning import (
    ComparedPlan,
    GpuFacts,
    PlanInputError,
    PlanRequest,
    PlanResult,
    Verdict,
    compare,
    plan,
    read_calibration,
    result_document,
    unknown,
)
from llm_operator.planning.learning import KEY, LONGEST
from llm_operator.reconcile.planned import request_from_spec

EXIT_FITS = 0
ENGINE_TYPES: tuple[str, ...] = get_args(EngineType)
EXIT_DOES_NOT_FIT = 1

# Flags for what is otherwise in a manifest.
SPEC_FLAGS = (
    "engine",
    "backend",
    "engine_version",
    "tensor",
    "kv",
    "memory_percent",
    "gpu_memory_utilization",
    "context_length",
)

WIDE = ("GPUS", "GPU MEMORY", "KV/GPU", "KV/TOKEN", "KV SHARE")
"""Columns of -o wide: GPUs per replica, memory of each, KV cache per GPU and per token, kvCache.memoryPercent."""

NOT_CHECKED = (
    "not checked without a cluster: free GPUs, quotas and policies, and whether the Secrets, claims, classes and "
    "images of the manifests exist: kubectl llm render -f lists them"
)

_DESCRIPTION = """Say in numbers what will fit. Exit code: 0 all fit, or nothing is known against them; 1 something does
not fit; 2 bad input."""


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("plan", help="what will fit, in numbers", description=_DESCRIPTION, allow_abbrev=False)
    line.add_argument(
        "-f", "--filename", action="extend", nargs="+", default=[], metavar="FILE", help="manifests; - is stdin"
    )
    line.add_argument("--config", metavar="PATH|REPOSITORY", help="config.json, its folder, or a repository of the hub")
    add_gpu(line)
    line.add_argument("--engine", choices=ENGINE_TYPES, help=f"without -f: the engine (default {ENGINE_TYPES[0]})")
    line.add_argument("--backend", choices=get_args(Backend), help="without -f: the engine's backend")
    line.add_argument("--engine-version", metavar="VERSION", help="without -f: engine version (default newest)")
    line.add_argument("--tensor", type=whole, metavar="N", help="without -f: tensor parallelism")
    line.add_argument("--kv", choices=["None", "Int8", "Int4", "FP8"], help="without -f: KV cache format")
    line.add_argument("--memory-percent", type=whole, metavar="P", help="without -f: KV cache share of the free memory")
    line.add_argument(
        "--gpu-memory-utilization",
        metavar="SHARE",
        help="without -f: share of the total, such as 0.9, if the engine has it",
    )
    line.add_argument("--context-length", type=whole, metavar="TOKENS", help="without -f: longest prompt plus answer")
    line.add_argument(
        "--calibration", metavar="FILE", help="what the operator measured: kubectl get configmap NAME -o json > FILE"
    )
    line.add_argument("--compare", action="store_true", help="a grid of TP x KV cache x weight format, the best marked")
    add_output(line)


def run(chosen: argparse.Namespace) -> int:
    """Plan everything that was given and print it.

    Raises:
        BadInputError: input that makes no sense.
    """
    problems: list[str] = []
    gpu: GpuFacts | None = None
    calibration = NOTHING_LEARNED
    try:
        calibration = _calibration(chosen.calibration) if chosen.calibration is not None else calibration
    except BadInputError as error:
        problems += error.problems
    resources: list[LLMDeployment] = []
    try:
        gpu = given_gpu(GpuArguments(chosen.gpu, chosen.gpu_memory, chosen.compute_capability))
    except BadInputError as error:
        problems += error.problems
    try:
        resources = _from_files(chosen) if chosen.filename else [_from_flags(chosen)]
    except BadInputError as error:
        problems += error.problems
    if problems:
        raise BadInputError(problems)
    note = one_config_for_several(chosen.config, resources)
    if note is not None:
        print(f"kubectl llm plan: {note}", file=sys.stderr)
    results, grids = _planned(chosen, resources, gpu, calibration)
    _print(chosen.output, results, grids)
    if chosen.filename:
        print(f"kubectl llm plan: {NOT_CHECKED}", file=sys.stderr)
    refused = any(result.verdict is Verdict.DOES_NOT_FIT for result in results.values())
    return EXIT_DOES_NOT_FIT if refused else EXIT_FITS


def _planned(
    chosen: argparse.Namespace, resources: Sequence[LLMDeployment], gpu: GpuFacts | None, calibration: Calibration
) -> tuple[dict[str, PlanResult], dict[str, tuple[ComparedPlan, ...]]]:
    results: dict[str, PlanResult] = {}
    grids: dict[str, tuple[ComparedPlan, ...]] = {}
    problems: list[str] = []
    for resource in resources:
        name = _unique(resource.metadata.name, results)
        of = f"{name}: " if chosen.filename else ""
        try:
            request = _request(resource, chosen.config, gpu)
            if isinstance(request, PlanRequest) and not chosen.filename:  # no flag says it
                request = replace(request, trust_remote_code=None)
            if isinstance(request, str):
                results[name] = unknown(request)
                continue
            request = replace(request, calibration=calibration)
            results[name] = plan(request)
            if chosen.compare:
                grids[name] = compare(request)
            if request.gpu.note:
                print(f"kubectl llm plan: {one_line(of + request.gpu.note)}", file=sys.stderr)
        except BadInputError as error:
            problems += [of + problem for problem in error.problems]
        except PlanInputError as error:
            problems.append(of + str(error))
    if problems:
        raise BadInputError(problems)
    return results, grids


def _request(resource: LLMDeployment, config: str | None, gpu: GpuFacts | None) -> PlanRequest | str:
    """What to plan; a text where too little is known."""
    refusals = (*check(resource.spec), *check_overlays(resource.spec))
    if refusals:
        raise BadInputError([refusal.text for refusal in refusals])
    card = gpu or gpu_of(resource)
    shape = read_shape(config, resource)
    if isinstance(shape, str):
        return shape
    if isinstance(card, str):
        return card
    try:
        return request_from_spec(resource.spec, shape, card)
    except RefusedError as refused:
        raise BadInputError([refusal.text for refusal in refused.refusals]) from refused


def _calibration(path: str) -> Calibration:
    """What a file holds: the operator's ConfigMap as kubectl prints it in JSON, or the text of its key alone."""
    try:
        content = read_file(Path(path), 2 * LONGEST)
        if not content.strip():
            raise PlanInputError("is empty; export it with kubectl get configmap NAME -o json")
        body = read_json(content, 2 * LONGEST)
        data = body.get("data") if isinstance(body, dict) else None
        return read_calibration(data[KEY] if isinstance(data, dict) and isinstance(data.get(KEY), str) else content)
    except (OSError, UnreadableError, PlanInputError) as error:
        raise BadInputError([f"{path}: {getattr(error, 'strerror', None) or error}"]) from error


def _from_files(chosen: argparse.Namespace) -> list[LLMDeployment]:
    """The manifests; a flag that says what a manifest says is refused, not passed over."""
    both = [name for name in SPEC_FLAGS if getattr(chosen, name) is not None]
    problems = [f"--{name.replace('_', '-')} and -f exclude each other: the manifest says it" for name in both]
    try:
        found = read_manifests(chosen.filename)
    except BadInputError as error:
        problems += error.problems
        found = []
    if problems:
        raise BadInputError(problems)
    return found


def _from_flags(chosen: argparse.Namespace) -> LLMDeployment:
    if chosen.config is None:
        raise BadInputError(["nothing to plan: give manifests with -f, or a model with --config"])
    share = chosen.gpu_memory_utilization
    kind = engine_of(chosen.engine or ENGINE_TYPES[0])
    if share is not None and kind.total_share_option is None:
        able = next(row for row in ENGINES.values() if row.total_share_option is not None)
        text = f"--gpu-memory-utilization is {able.title}'s: give --engine {able.name}, or --memory-percent"
        raise BadInputError([text])
    engine = {
        "type": kind.name,
        "backend": chosen.backend,
        "version": chosen.engine_version,
        "extraArgs": [f"{kind.total_share_option}={share}"] if share is not None else None,
    }
    spec = {
        # No flag says whether the repository's code may run, and older engines run it in any case.
        "model": {"huggingFace": {"repository": "given/by-flag"}, "trustRemoteCode": True},
        "engine": {key: value for key, value in engine.items() if value is not None},
        "parallelism": {"tensor": chosen.tensor} if chosen.tensor is not None else {},
        "kvCache": {
            key: value
            for key, value in (("quantization", chosen.kv), ("memoryPercent", chosen.memory_percent))
            if value is not None
        },
        **({"contextLength": chosen.context_length} if chosen.context_length is not None else {}),
    }
    try:
        return LLMDeployment.parse(
            {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "plan"}, "spec": spec}
        )
    except InvalidResource as invalid:
        raise BadInputError([f"{field}: {message}" for field, message in invalid.errors]) from invalid


def _unique(name: str, known: dict[str, PlanResult]) -> str:
    number, unique = 2, name
    while unique in known:
        unique, number = f"{name}-{number}", number + 1
    return unique


def _print(form: str, results: dict[str, PlanResult], grids: dict[str, tuple[ComparedPlan, ...]]) -> None:
    if form in ("table", "wide"):
        print(table(results, wide=form == "wide"))
        for name, grid in grids.items():
            print(f"\n{name}, compared:\n{grid_table(grid)}")
        return
    items = [result_document(name, result) for name, result in results.items()]
    for item in items:
        if item["name"] in grids:
            item["compare"] = [_grid_item(entry) for entry in grids[str(item["name"])]]
    body = {"items": items}
    print(json.dumps(body, indent=2) if form == "json" else yaml.safe_dump(body, sort_keys=False), end="\n")


def _grid_item(entry: ComparedPlan) -> dict[str, Any]:
    item = result_document("", entry.result)
    del item["name"], item["counterOffers"]
    return {
        "tensor": entry.tensor,
        "kvQuantization": str(entry.kv_quantization),
        "weights": _weights(entry),
        "best": entry.best,
        **item,
    }


def table(results: dict[str, PlanResult], *, wide: bool = False) -> str:
    """One line per object, then what speaks against it and what would fit.

    Args:
        results: by name.
        wide: with the GPUs and bytes behind the numbers.
    """
    head = ["NAME", "VERDICT", "TP", "WEIGHTS/GPU", "KV TOKENS", "AT LEAST", "REQUESTS", "CONTEXT"]
    rows = [[*head, *(WIDE if wide else ())]]
    notes: list[str] = []
    for name, result in results.items():
        rows.append([name, _verdict(result), *_numbers(result), *(_wide(result) if wide else ())])
        notes += [f"{name}: {reason}" for reason in result.reasons]
        for offer in result.counter_offers:
            changes = ", ".join(f"{path}: {json.dumps(value)}" for path, value in offer.change.items())
            numbers = f"{offer.plan.kv_tokens:,} KV tokens at TP {offer.plan.tensor}"
            notes.append(f"{name}: would fit with {changes} ({numbers})")
    return "\n".join([aligned(rows), *([""] if notes else []), *notes])


def grid_table(grid: Sequence[ComparedPlan]) -> str:
    """The compared plans, one a line, the best marked with a star."""
    rows = [["", "TP", "KV", "WEIGHTS", "VERDICT", "WEIGHTS/GPU", "KV TOKENS", "AT LEAST", "REQUESTS"]]
    for entry in grid:
        numbers = _numbers(entry.result)
        mark = "*" if entry.best else ""
        start = [mark, str(entry.tensor), str(entry.kv_quantization), _weights(entry)]
        rows.append([*start, _verdict(entry.result), *numbers[1:5]])
    return aligned(rows)


def _wide(result: PlanResult) -> list[str]:
    found = result.plan
    if found is None:
        return ["-"] * len(WIDE)
    return [
        str(found.gpus_per_replica),
        f"{found.gpu_memory_bytes / 2**30:,.2f} GiB",
        f"{found.kv_bytes_per_gpu / 2**30:,.2f} GiB",
        f"{found.kv_bytes_per_token:,} B",
        "-" if found.memory_percent is None else f"{found.memory_percent} %",
    ]


def _verdict(result: PlanResult) -> str:
    """The verdict; a plan that is not sure to hold one request of the context length is called tight."""
    tight = result.verdict is Verdict.FITS and result.plan and result.plan.kv_tokens_low < result.plan.context_length
    return f"{result.verdict} (tight)" if tight else str(result.verdict)


def _weights(entry: ComparedPlan) -> str:
    recipe = entry.weight_quantization
    return "as they are" if recipe is None else f"{recipe.method} {recipe.bits}-bit"


def _numbers(result: PlanResult) -> list[str]:
    found = result.plan
    if found is None:
        return ["-"] * 6
    return [
        str(found.tensor),
        f"{found.weight_bytes_per_gpu / 2**30:.2f} GiB",
        f"{found.kv_tokens:,}",
        f"{found.kv_tokens_low:,}",
        f"{found.max_concurrent_requests:,}",
        f"{found.context_length:,}",
    ]
