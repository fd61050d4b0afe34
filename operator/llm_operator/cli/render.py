"""`kubectl llm render`: every object that the operator would create, offline, as YAML."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from llm_operator.api.resource import LLMDeployment
from llm_operator.cli.errors import BadInputError, one_line
from llm_operator.cli.inputs import GpuArguments, add_gpu, given_gpu, gpu_of, one_config_for_several, read_shape
from llm_operator.cli.manifests import read_manifests
from llm_operator.cli.operator_settings import add_settings, operator_settings
from llm_operator.engines import RefusedError, check
from llm_operator.planning import GpuFacts, PlanInputError, plan
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.planned import outcome_of, request_from_spec, unknown_outcome, with_quantization
from llm_operator.reconcile.rehearsal import Rehearsal, rehearse
from llm_operator.settings import ToolSettings

JSON = dict[str, Any]

EXIT_DOES_NOT_FIT = 1
EXIT_LEFT_OUT = 2
_DESCRIPTION = """Print every object that the operator would create for some manifests, as if all its stages went well.
Nothing is read from a cluster, and from a hub only what --config names. What could not be checked is said on standard
error. Owner references are left out, because they hold the uid that the API server gives, and so is the
ControllerRevision that keeps the engine's pod template. What the operator makes depends on its own settings: those of
its Deployment with --operator, else the chart's defaults; single options replace them. Exit code: 0 rendered;
1 the plan says that something does not fit; 2 bad input, or an object that cannot be rendered; the others are
printed."""


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser(
        "render", help="every object that would be created", description=_DESCRIPTION, allow_abbrev=False
    )
    line.add_argument(
        "-f",
        "--filename",
        action="extend",
        nargs="+",
        default=[],
        metavar="FILE",
        required=True,
        help="manifests or directories; - is stdin",
    )
    line.add_argument("-n", "--namespace", metavar="NAMESPACE", help="of manifests that name none (default: default)")
    line.add_argument("--config", metavar="PATH|REPOSITORY", help="config.json, its folder, or a repository of the hub")
    add_gpu(line)
    add_settings(line)
    line.add_argument("-o", "--output", choices=["yaml", "json"], default="yaml", help="default yaml")


def run(chosen: argparse.Namespace) -> int:
    """Render everything that was given and print it.

    Raises:
        BadInputError: input that makes no sense, or no object of all can be rendered.
    """
    gpu = given_gpu(GpuArguments(chosen.gpu, chosen.gpu_memory, chosen.compute_capability))
    resources = read_manifests(chosen.filename, chosen.namespace)
    settings = operator_settings(chosen)
    shared = one_config_for_several(chosen.config, resources)
    notes: dict[str, None] = {} if shared is None else {shared: None}
    problems: list[str] = []
    objects: list[JSON] = []
    left_out: list[str] = []
    refused = False
    for resource in resources:
        name = resource.metadata.name
        try:
            outcome, found = _rendered(resource, chosen.config, gpu, settings.tools)
        except BadInputError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
            left_out.append(name)
            continue
        refused = refused or found.held
        objects += found.objects
        notes |= dict.fromkeys(f"{name}: {note}" for note in _notes(resource, outcome, found))
    if len(left_out) == len(resources):
        raise BadInputError(problems)
    if left_out:
        rest = len(resources) - len(left_out)
        problems.append(f"left out: {', '.join(left_out)}; the objects of {rest} other{'s' * (rest > 1)} are printed")
    _print(objects, chosen.output)
    for note in (*notes, *settings.notes, *problems):
        print(f"kubectl llm render: {one_line(note)}", file=sys.stderr)
    return EXIT_LEFT_OUT if left_out else EXIT_DOES_NOT_FIT if refused else 0


def _rendered(
    resource: LLMDeployment, config: str | None, gpu: GpuFacts | None, tools: ToolSettings
) -> tuple[PlanOutcome, Rehearsal]:
    """One object's plan, and what the operator would create for it.

    Raises:
        BadInputError: the spec cannot be served, or needs a plan that cannot be made.
    """
    outcome = _outcome(resource, config, gpu)
    found = rehearse(resource, outcome, tools)
    problems = [refusal.text for refusal in found.refusals]
    if found.refusals and outcome.verdict == "Unknown" and not any(outcome.message in problem for problem in problems):
        problems.append(outcome.message)
    if found.trouble is not None:
        problems.append(f"{found.trouble.reason}: {found.trouble.text}")
    if problems:
        raise BadInputError(problems)
    return outcome, found


def _outcome(resource: LLMDeployment, config: str | None, given: GpuFacts | None) -> PlanOutcome:
    """The plan, as far as it follows from what the command line names."""
    spec = resource.spec
    if config is None:
        text = "without config.json there is no plan, and arguments that follow from it are left out: give --config"
        return unknown_outcome(spec, "ModelNotInspected", text)
    shape = read_shape(config, resource)
    if isinstance(shape, str):
        return unknown_outcome(spec, "ModelUnknown", shape)
    gpu = given or gpu_of(resource)
    try:
        if isinstance(gpu, str):
            outcome = unknown_outcome(spec, "GPUUnknown", gpu, architecture=shape.architecture)
        else:
            request = request_from_spec(spec, shape, gpu)
            outcome = outcome_of(spec, request, plan(request))
    except RefusedError as refused:
        raise BadInputError([refusal.text for refusal in refused.refusals]) from refused
    except PlanInputError as error:
        # The engine's refusals name the field, as `kubectl llm plan` does.
        refusals = check(spec)
        raise BadInputError([refusal.text for refusal in refusals] or [str(error)]) from error
    return with_quantization(outcome, spec, shape, None if isinstance(gpu, str) else gpu)


def _notes(resource: LLMDeployment, outcome: PlanOutcome, found: Rehearsal) -> Iterator[str]:
    """What could not be checked, and what was taken for granted."""
    if found.held:
        yield f"nothing of the engine is created, because planPolicy is Enforce: {outcome.message}"
    elif outcome.verdict != "Fits":
        yield f"no plan: {outcome.message}" if outcome.verdict == "Unknown" else f"does not fit: {outcome.message}"
    for assumed in found.assumed:
        yield f"not checked: {assumed}"
    names = list(dict.fromkeys(name for body in found.objects for name in _references(body)))
    if names:
        yield f"not checked: that namespace {resource.metadata.namespace} has {', '.join(names)}"
    if resource.spec.model.image is not None:
        yield "not checked: the name of the Job that inspects the image ends with a hash that holds the object's uid"
    images = sorted({image for body in found.objects for image in _images(body)})
    if images:
        yield f"not checked: that the images exist: {', '.join(images)}"
    yield "not checked: free GPUs, quotas, Pod Security and admission policies, and whether these names are taken"


def _pods(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    template = (body.get("spec") or {}).get("template")
    if isinstance(template, dict):
        yield template["spec"]


def _containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from pod.get("initContainers") or ()
    yield from pod.get("containers") or ()


def _images(body: Mapping[str, Any]) -> Iterator[str]:
    for pod in _pods(body):
        yield from (str(container["image"]) for container in _containers(pod))


_NAMED = {
    "secretKeyRef": ("Secret", "name"),
    "configMapKeyRef": ("ConfigMap", "name"),
    "secretRef": ("Secret", "name"),
    "configMapRef": ("ConfigMap", "name"),
    "secret": ("Secret", "secretName"),
    "configMap": ("ConfigMap", "name"),
    "imagePullSecrets": ("Secret", "name"),
}
"""Fields of a pod that name another object: its kind, and the field below with its name."""
_CLASSES = {
    "storageClassName": "StorageClass",
    "serviceAccountName": "ServiceAccount",
    "priorityClassName": "PriorityClass",
    "runtimeClassName": "RuntimeClass",
}


def _references(value: Any) -> Iterator[str]:
    """Objects that a rendered one needs and that the operator does not create."""
    if isinstance(value, list):
        for entry in value:
            yield from _references(entry)
    if not isinstance(value, dict):
        return
    for field, entry in value.items():
        kind, name = _NAMED.get(field, ("", ""))
        for holder in entry if isinstance(entry, list) else [entry]:
            if (
                kind
                and isinstance(holder, dict)
                and holder.get(name)
                and not ("key" in holder and holder.get("optional"))
            ):
                key = f" with the key {holder['key']}" if "key" in holder else ""
                yield f"{kind} {holder[name]}{key}"
        if field in _CLASSES and isinstance(entry, str):
            yield f"{_CLASSES[field]} {entry}"
        yield from _references(entry)


class _Plain(yaml.SafeDumper):
    """Writes equal objects out each time, without aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """A text of several lines as it is read."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Plain.add_representer(str, _Plain.represent_str)


def _print(objects: Sequence[JSON], form: str) -> None:
    if form == "json":
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=2))
        return
    for body in objects:
        print("---\n" + yaml.dump(body, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=1 << 16), end="")
