"""`kubectl llm logs`: the last lines of an object's engines, also of the container before the last restart."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import urlencode

from llm_operator.cli.errors import BadInputError
from llm_operator.cli.pods import POD_LABEL
from llm_operator.cli.where import add_where, connected

LOG_BYTES = 16 << 20


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("logs", help="what its engines wrote", description=__doc__, allow_abbrev=False)
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    line.add_argument("--previous", action="store_true", help="of the container before the last restart")
    line.add_argument("--tail", type=int, default=200, metavar="LINES", help="default 200")
    add_where(line)


def run(chosen: argparse.Namespace) -> int:
    """Print them, pod by pod.

    Raises:
        BadInputError: no such object, it has no pods, or the cluster refuses.
    """
    cluster, namespace = connected(chosen)
    cluster.object(str(namespace), chosen.name)
    pods = cluster.list("api/v1", "pods", namespace, f"{POD_LABEL}={chosen.name}")
    if not pods:
        raise BadInputError([f"{chosen.name} has no pods; see kubectl llm status {chosen.name}"])
    for pod in pods:
        name = pod["metadata"]["name"]
        options = {"container": pod["spec"]["containers"][0]["name"], "tailLines": str(chosen.tail)}
        options |= {"previous": "true"} if chosen.previous else {}
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/log?{urlencode(options)}"
        text = cluster.text(path, f"read the log of {name}", LOG_BYTES)
        if len(pods) > 1:
            print(f"==> {name}")
        print(text, end="" if text.endswith("\n") or not text else "\n")
    return 0
