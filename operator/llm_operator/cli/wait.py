"""`kubectl llm wait`: until an object serves, or cannot. Exit code: 0 Ready; 1 stalled; 2 bad input; 3 time is over."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from llm_operator.cli.cluster import Cluster
from llm_operator.cli.errors import one_line
from llm_operator.cli.listing import condition
from llm_operator.cli.where import add_where, connected

POLL_SECONDS = 1.0


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("wait", help="until it serves, or cannot", description=__doc__, allow_abbrev=False)
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    line.add_argument("--timeout", type=int, default=1800, metavar="SECONDS", help="default 1800")
    add_where(line)


def run(chosen: argparse.Namespace) -> int:
    """Say each change on a line until it ends.

    Raises:
        BadInputError: no such object, or the cluster refuses.
    """
    cluster, namespace = connected(chosen)
    return _wait(cluster, str(namespace), chosen)


def _wait(cluster: Cluster, namespace: str, chosen: argparse.Namespace) -> int:
    end = time.monotonic() + chosen.timeout
    said = ""
    while True:
        body = cluster.object(namespace, chosen.name)
        status = body.get("status") or {}
        seen = status.get("observedGeneration") == body["metadata"].get("generation")
        ready, stalled = condition(body, "Ready"), condition(body, "Stalled")
        progress = (status.get("progress") or {}).get("summary")
        words = progress or ready.get("message") or "the operator has not seen it yet"
        text = f"{ready.get('reason', 'NoStatus')}: {words}"
        if text != said:
            print(f"{chosen.name}: {one_line(text)}", flush=True)
            said = text
        if seen and ready.get("status") == "True":
            return 0
        if seen and stalled.get("status") == "True":
            print(f"kubectl llm wait: stalled; see kubectl llm explain {stalled.get('reason')}", file=sys.stderr)
            return 1
        if time.monotonic() >= end:
            print(f"kubectl llm wait: not ready after {chosen.timeout:,} s", file=sys.stderr)
            return 3
        time.sleep(POLL_SECONDS)
