"""`kubectl llm status`: one object on one screen, with what the engine reports now and the next thing to do."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from llm_operator.cli.around import gpus, leader, resource_of, warnings
from llm_operator.cli.cluster import Cluster
from llm_operator.cli.ends import reason_of, summary
from llm_operator.cli.errors import BadInputError
from llm_operator.cli.history import running_revision
from llm_operator.cli.pods import POD_LABEL, load_left, pod_of
from llm_operator.cli.table import add_output, print_document
from llm_operator.cli.where import add_where, connected

JSON = dict[str, Any]


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("status", help="one object on one screen", description=__doc__, allow_abbrev=False)
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    add_where(line)
    add_output(line)


def run(chosen: argparse.Namespace) -> int:
    """Print it.

    Raises:
        BadInputError: no such object, or the cluster refuses.
    """
    cluster, namespace = connected(chosen)
    body = cluster.object(str(namespace), chosen.name)
    found = gathered(cluster, body)
    if chosen.output in ("json", "yaml"):
        print_document(found, chosen.output)
    else:
        from llm_operator.cli.screen import columns  # noqa: PLC0415
        from llm_operator.cli.status_screen import screen  # noqa: PLC0415

        print(screen(body, found, columns() if sys.stdout.isatty() and chosen.output == "table" else None))
    return 0


def gathered(cluster: Cluster, body: JSON) -> JSON:
    """What the cluster knows around an object. A part that this user may not read becomes a note."""
    meta, status = body["metadata"], body.get("status") or {}
    namespace, name, resource = meta["namespace"], meta["name"], resource_of(body)
    notes: list[str] = []

    def part(read: Any, otherwise: Any) -> Any:
        try:
            return read()
        except BadInputError as error:
            notes.append(str(error))
            return otherwise

    raw = part(lambda: cluster.list("api/v1", "pods", namespace, f"{POD_LABEL}={name}"), [])
    pods = [_pod(body, pod, resource) for pod in raw]
    return {
        "name": name,
        "namespace": namespace,
        "conditions": status.get("conditions") or [],
        "plan": status.get("plan"),
        "measured": status.get("measured"),
        "progress": status.get("progress"),
        "loadSecondsLeft": load_left(body, pods),
        "revision": part(lambda: running_revision(cluster, namespace, name), ""),
        "pods": pods,
        "restarts": summary(pods),
        "now": part(lambda: _now(cluster, body), None) if any(pod["ready"] for pod in pods) else None,
        "warnings": part(lambda: warnings(cluster, body, [pod["name"] for pod in pods]), []),
        "operator": part(lambda: leader(cluster), None),
        "gpus": part(lambda: gpus(cluster, resource), None),
        "notes": notes,
    }


def _pod(body: JSON, raw: JSON, resource: str) -> JSON:
    """A pod, with the reason of its engine's last end in the operator's words."""
    pod = pod_of(raw, resource)
    end = pod["lastEnd"] and {**pod["lastEnd"], "explained": reason_of(body, raw)}
    return {**pod, "lastEnd": end}


def _now(cluster: Cluster, body: JSON) -> JSON:
    from llm_operator.cli.engine_now import engine_now  # noqa: PLC0415
    from llm_operator.cli.serving import Serving  # noqa: PLC0415

    return engine_now(Serving(cluster, body, model=""), body)
