"""`kubectl llm wait`: until an object serves, or cannot. Exit code: 0 Ready; 1 stalled; 2 bad input; 3 time is over."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from llm_operator.cli.around import warn_without_operator
from llm_operator.cli.cluster import Cluster
from llm_operator.cli.errors import BadInputError, one_line
from llm_operator.cli.listing import condition
from llm_operator.cli.patience import Patience
from llm_operator.cli.pods import POD_LABEL, load_left, load_words, pod_of
from llm_operator.cli.screen import Progress, bar, columns
from llm_operator.cli.where import add_where, connected

JSON = dict[str, Any]

POLL_SECONDS = 1.0


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("wait", help="until it serves, or cannot", description=__doc__, allow_abbrev=False)
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    line.add_argument(
        "--timeout",
        type=seconds,
        default=1800,
        metavar="DURATION",
        help="seconds, or such as 90s, 30m, 2h; default 30m",
    )
    add_where(line)


def seconds(text: str) -> int:
    """A duration of the command line: a whole number of seconds, or one of s, m or h, as kubectl takes it.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,6})([smh]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, or such as 30m")
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def run(chosen: argparse.Namespace) -> int:
    """Say each change on a line until it ends; on a terminal a bar below shows how far the present stage is.

    Raises:
        BadInputError: no such object, or the cluster refuses.
    """
    cluster, namespace = connected(chosen)
    with Progress() as progress:
        return _wait(cluster, str(namespace), chosen, progress)


def _wait(cluster: Cluster, namespace: str, chosen: argparse.Namespace, progress: Progress) -> int:
    end = time.monotonic() + chosen.timeout
    said = ""
    patience = Patience("wait")
    body: JSON | None = None
    warned = False
    while True:
        with patience:
            body = cluster.object(namespace, chosen.name)
            text = _words(body, bar_below=progress.on)
            if text != said:
                progress.clear()
                print(f"{chosen.name}: {one_line(text)}", flush=True)
                said = text
            if progress.on:
                progress.show(_bar(cluster, body))
        code = _code(body) if body is not None else None
        if code is not None:
            return code
        if body is not None and not warned:
            progress.clear()
            warn_without_operator(cluster, "wait")
            warned = True
        if time.monotonic() >= end:
            progress.clear()
            print(f"kubectl llm wait: not ready after {chosen.timeout:,} s", file=sys.stderr)
            return 3
        time.sleep(POLL_SECONDS)


def _code(body: JSON) -> int | None:
    """The exit code; None: keep waiting."""
    ready, stalled = condition(body, "Ready"), condition(body, "Stalled")
    if (body.get("status") or {}).get("observedGeneration") != body["metadata"].get("generation"):
        return None
    if ready.get("status") == "True":
        return 0
    if stalled.get("status") == "True":
        print(f"kubectl llm wait: stalled; see kubectl llm explain {stalled.get('reason')}", file=sys.stderr)
        return 1
    return None


def _words(body: JSON, *, bar_below: bool) -> str:
    ready, progress = condition(body, "Ready"), _progress(body)
    words = progress.get("summary") if progress and not bar_below else None
    words = words or ready.get("message") or "the operator has not seen it yet"
    return f"{ready.get('reason', 'NoStatus')}: {words}"


def _bar(cluster: Cluster, body: JSON) -> str:
    """One line: stage, bar, and what is left."""
    progress = _progress(body)
    if progress:
        summary = one_line(str(progress.get("summary") or progress.get("stage")))
        percent = progress.get("percent")
        if not isinstance(percent, int):
            return summary
        return f"{bar(percent / 100, min(30, columns() - len(summary) - 4))} {summary}"
    try:
        raw = cluster.list("api/v1", "pods", body["metadata"]["namespace"], f"{POD_LABEL}={body['metadata']['name']}")
    except BadInputError:
        return ""
    left = load_left(body, [pod_of(pod) for pod in raw])
    took = ((body.get("status") or {}).get("measured") or {}).get("secondsToReady")
    words = load_words(left)
    if words is None or left is None or not took:
        return ""
    return f"{bar(min(1.0, max(0.0, 1 - left / took)), min(30, columns() - len(words) - 12))} Loading {words}"


def _progress(body: JSON) -> Mapping[str, Any]:
    found = (body.get("status") or {}).get("progress")
    return found if isinstance(found, dict) else {}
