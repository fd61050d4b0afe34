"""`kubectl llm restart`: replace the pods of an object, as after a changed Secret."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from llm_operator.cli.around import warn_without_operator
from llm_operator.cli.cluster import OBJECTS, PLURAL
from llm_operator.cli.where import add_where, connected

ANNOTATION = "llm-operator.dev/restartedAt"
"""As in llm_operator.api.names, whose package takes half a second to import."""


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("restart", help="replace the pods", description=__doc__, allow_abbrev=False)
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    add_where(line)


def run(chosen: argparse.Namespace) -> int:
    """Annotate the object.

    Raises:
        BadInputError: no such object, or the cluster refuses.
    """
    cluster, namespace = connected(chosen)
    cluster.object(str(namespace), chosen.name)
    body = {"metadata": {"annotations": {ANNOTATION: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}}}
    path = f"/{OBJECTS}/namespaces/{namespace}/{PLURAL}/{chosen.name}"
    cluster.patch(path, body, f"annotate {chosen.name}")
    print(f"{chosen.name}: the operator replaces the pods; follow it with kubectl llm wait {chosen.name}", flush=True)
    warn_without_operator(cluster, "restart")
    return 0
