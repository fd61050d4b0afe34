"""The operator's own settings, offline: from its Deployment as Helm or kubectl prints it, else the chart's defaults."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_operator.child_options import HANDED_ON, NAMESPACE_VARIABLE, add_child_options, tool_settings
from llm_operator.cli.errors import BadInputError
from llm_operator.cli.manifests import documents
from llm_operator.settings import ToolSettings

CONTAINER = "operator"
NAMESPACE = RELEASE = "llm-operator"
"""Of the `helm install` in README and docs/install.md."""
_PEERS = [
    {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
        "podSelector": {
            "matchLabels": {"app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/name": "llm-operator"}
        },
    }
]
CHART_DEFAULTS = ("--network-policies", f"--network-policy-from={json.dumps(_PEERS)}")
"""Arguments of the chart's defaults that differ from the operator's own."""
_WHERE = (
    "expected what `helm template` prints of the chart, or `kubectl get deployment llm-operator -o yaml` of the "
    "operator's namespace"
)


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """What is taken for the operator's settings, and sentences about what is not known of them."""

    tools: ToolSettings
    notes: tuple[str, ...] = ()


def add_settings(line: argparse.ArgumentParser) -> None:
    """Declare where the settings come from, and each one by itself."""
    group = line.add_argument_group("the operator's settings")
    group.add_argument(
        "--operator",
        metavar="FILE",
        help="a file with the operator's Deployment, as `helm template` or `kubectl get -o yaml` prints it; - is stdin",
    )
    group.add_argument(
        "--tools-env",
        action="append",
        default=[],
        type=_variable,
        metavar="NAME=VALUE",
        help=f"a variable of the operator that its tools get ({', '.join(HANDED_ON)}); repeatable",
    )
    add_child_options(line, defaults=False)


def operator_settings(chosen: argparse.Namespace) -> OperatorSettings:
    """The settings that the command line names.

    Raises:
        BadInputError: the file holds no Deployment of the operator, or one with arguments that it would refuse.
    """
    notes: tuple[str, ...] = ()
    arguments: Sequence[str] = CHART_DEFAULTS
    environment: Mapping[str, str] = {NAMESPACE_VARIABLE: NAMESPACE}
    if chosen.operator is None:
        notes = ("the operator's settings are the chart's defaults, unless options say otherwise: see --operator",)
    elif chosen.operator == "-" and "-" in chosen.filename:
        raise BadInputError(["-f - and --operator - both want standard input: give one of them a file"])
    else:
        arguments, environment, notes = _installed(chosen.operator)
    found = vars(_parsed(arguments, chosen.operator))
    given = {name: value for name, value in vars(chosen).items() if name in found and name != "namespace"}
    tools = tool_settings(argparse.Namespace(**found | given), {**environment, **dict(chosen.tools_env)})
    return OperatorSettings(tools, notes)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: expected NAME=VALUE, such as HF_ENDPOINT=https://hub.example")
    if name not in HANDED_ON:
        raise argparse.ArgumentTypeError(
            f"the operator does not hand on {name[:60]!r}: expected one of {', '.join(HANDED_ON)}"
        )
    return name, value


def _parsed(arguments: Sequence[str], source: str | None) -> argparse.Namespace:
    """The operator's arguments, as far as they decide what it makes."""
    line = argparse.ArgumentParser(prog="llm-operator", add_help=False, allow_abbrev=False, exit_on_error=False)
    line.add_argument("--namespace", action="append", default=[])
    add_child_options(line)
    try:
        return line.parse_known_args(arguments)[0]
    except argparse.ArgumentError as error:
        raise BadInputError([f"{source}: arguments of the operator: {error}"]) from error


def _installed(name: str) -> tuple[list[str], dict[str, str], tuple[str, ...]]:
    """Arguments and environment of the operator's container in a file, and what is not known of the latter."""
    read, problem = documents(name)
    if problem:
        raise BadInputError([problem])
    found = [pair for document in read for pair in _operators(document)]
    if len(found) != 1:
        holds = "no Deployment" if not found else f"{len(found)} Deployments"
        raise BadInputError([f"{name}: holds {holds} with a container named {CONTAINER}: {_WHERE}"])
    namespace, container = found[0]
    arguments = [str(argument) for argument in _list(container.get("args"))]
    variables = {str(one.get("name")): one for one in _maps(container.get("env"))}
    environment = {key: str(one["value"]) for key, one in variables.items() if one.get("value") is not None}
    environment[NAMESPACE_VARIABLE] = namespace
    secret = any(argument.startswith("--proxy-secret=") for argument in arguments)
    unknown = [key for key in HANDED_ON if key in variables and key not in environment]
    notes = (
        () if secret or not unknown else (f"not known: {', '.join(unknown)}, which the operator takes from elsewhere",)
    )
    return arguments, environment, notes


def _operators(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Namespace and container of every Deployment of the operator in a document."""
    whole = _map(document)
    # A List within a List is nothing that kubectl prints, and one may contain itself.
    for body in _maps(whole.get("items")) if whole.get("kind") == "List" else (whole,):
        if body.get("kind") != "Deployment":
            continue
        namespace = _map(body.get("metadata")).get("namespace") or NAMESPACE
        pod = _map(_map(_map(body.get("spec")).get("template")).get("spec"))
        for container in _maps(pod.get("containers")):
            if container.get("name") == CONTAINER:
                yield str(namespace), container


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _maps(value: Any) -> Iterator[Mapping[str, Any]]:
    return (one for one in _list(value) if isinstance(one, dict))
