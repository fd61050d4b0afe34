"""`kubectl llm list`: every object on one line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from llm_operator.cli.errors import one_line
from llm_operator.cli.table import aligned
from llm_operator.cli.where import add_where, connected

JSON = dict[str, Any]

MESSAGE_CHARACTERS = 80


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("list", help="the LLMDeployments", description=__doc__, allow_abbrev=False)
    add_where(line, every=True)
    line.add_argument(
        "-o", "--output", choices=["table", "wide", "json", "yaml"], default="table", help="default table"
    )


def run(chosen: argparse.Namespace) -> int:
    """Print them.

    Raises:
        BadInputError: no cluster, or it refuses.
    """
    cluster, namespace = connected(chosen)
    found = cluster.objects(namespace)
    if chosen.output == "json":
        print(json.dumps({"items": found}, indent=2))
    elif chosen.output == "yaml":
        import yaml  # noqa: PLC0415

        print(yaml.safe_dump({"items": found}, sort_keys=False).rstrip())
    elif not found:
        print("No LLMDeployments" + (f" in namespace {namespace}." if namespace else "."))
    else:
        print(table(found, every=namespace is None, wide=chosen.output == "wide"))
    return 0


def table(objects: list[JSON], *, every: bool, wide: bool) -> str:
    """One line per object."""
    head = ["NAME", "ENGINE", "MODEL", "TP", "KV", "READY", "KV TOKENS", "PROGRESS", "REASON"]
    rows = [[*(["NAMESPACE"] if every else []), *head, *(["MESSAGE"] if wide else [])]]
    for body in objects:
        meta, spec, status = body["metadata"], _map(body, "spec"), _map(body, "status")
        ready = condition(body, "Ready")
        message = one_line(str(ready.get("message", "")))
        rows.append(
            [
                *([meta["namespace"]] if every else []),
                meta["name"],
                str(_map(spec, "engine").get("type", "-")),
                model_of(spec),
                str(_map(status, "plan").get("tensor") or _map(spec, "parallelism").get("tensor") or "-"),
                str(_map(spec, "kvCache").get("quantization", "None")),
                f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}",
                kv_tokens(status),
                str(_map(status, "progress").get("summary", "-")),
                str(ready.get("reason", "-")),
                *([message] if wide else []),
            ]
        )
    return aligned(rows)


def kv_tokens(status: Mapping[str, Any]) -> str:
    """KV tokens that the engine reports; before it does, those of the plan."""
    measured, planned = (_map(status, part).get("kvTokens") for part in ("measured", "plan"))
    if measured is not None:
        return f"{measured:,}"
    return f"~{planned:,}" if planned is not None else "-"


def model_of(spec: Mapping[str, Any]) -> str:
    """The model's source in a word."""
    model = _map(spec, "model")
    for source, field in (("huggingFace", "repository"), ("modelScope", "repository"), ("image", "reference")):
        if source in model:
            return str(_map(model, source).get(field, source))
    claim = _map(model, "persistentVolumeClaim")
    return f"pvc:{claim.get('claimName')}/{claim.get('path', '')}".rstrip("/") if claim else "-"


def condition(body: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition of an object; empty if it has none of that type."""
    for entry in _map(body, "status").get("conditions") or ():
        if entry.get("type") == kind:
            return dict(entry)
    return {}


def _map(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
