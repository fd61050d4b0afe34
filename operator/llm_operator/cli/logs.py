"""`kubectl llm logs`: the last lines of an object's engines, also of the container before the last restart."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from llm_operator.cli.cluster import Cluster, RequestRefusedError
from llm_operator.cli.errors import BadInputError, one_line
from llm_operator.cli.pods import CONTAINER, POD_LABEL
from llm_operator.cli.screen import harmless
from llm_operator.cli.threads import Worker
from llm_operator.cli.where import add_where, connected
from llm_operator.foreign import natural_number

LOG_BYTES = 16 << 20
LINE_BYTES = 1 << 20
FOLLOW_SECONDS = 24 * 3600
MOST_LINES = 1_000_000
POLL_SECONDS = 0.2
LEVELS = ("debug", "info", "warning", "error")


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("logs", help="what its engines wrote", description=__doc__, allow_abbrev=False)
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    line.add_argument("-p", "--previous", action="store_true", help="of the container before the last restart")
    line.add_argument("-f", "--follow", action="store_true", help="go on with what is written, until Ctrl-C")
    line.add_argument(
        "--level", choices=LEVELS, default="debug", help="this and higher; a traceback belongs to its line's level"
    )
    line.add_argument("--tail", type=_count, default=200, metavar="LINES", help="read so many of each; default 200")
    add_where(line)


def _count(text: str) -> int:
    number = natural_number(text, 9)
    if number is None or number > MOST_LINES:
        raise argparse.ArgumentTypeError(f"{text[:20]!r}: expected a whole number up to {MOST_LINES:,}")
    return number


def run(chosen: argparse.Namespace) -> int:
    """Print them, pod by pod; followed, as they come, with the pod's name if there are several.

    Raises:
        BadInputError: no such object, it has no pods, or the cluster refuses.
    """
    if chosen.follow and chosen.previous:
        raise BadInputError(["--follow and --previous exclude each other: what has ended writes no more"])
    cluster, namespace = connected(chosen)
    cluster.object(str(namespace), chosen.name)
    pods = cluster.list("api/v1", "pods", namespace, f"{POD_LABEL}={chosen.name}")
    if not pods:
        raise BadInputError([f"{chosen.name} has no pods; see kubectl llm status {chosen.name}"])
    names = [pod["metadata"]["name"] for pod in pods]
    if chosen.follow:
        _follow(cluster, str(namespace), names, chosen)
        return 0
    _print(cluster, str(namespace), names, chosen)
    return 0


def _print(cluster: Cluster, namespace: str, pods: list[str], chosen: argparse.Namespace) -> None:
    """The logs of all pods that have one: some may not have started, or restarted, yet."""
    problems: list[str] = []
    for name in pods:
        try:
            text = cluster.text(_path(namespace, name, chosen), f"read the log of {name}", LOG_BYTES)
        except RequestRefusedError as error:
            if error.status != 400:
                raise
            problems.append(_without_log(name, error, chosen))
            continue
        if len(pods) > 1:
            print(f"==> {name}")
        for line in selected(text.splitlines(), chosen.level):
            print(shown(line))
    if len(problems) == len(pods):
        raise BadInputError(problems)
    for problem in problems:
        print(f"kubectl llm logs: {one_line(problem)}", file=sys.stderr)


def _without_log(pod: str, error: RequestRefusedError, chosen: argparse.Namespace) -> str:
    if chosen.previous and "previous terminated container" in error.said:
        return f"{pod} has not restarted: leave --previous out"
    return f"{pod} has no log yet: {error.said}"


def _path(namespace: str, pod: str, chosen: argparse.Namespace) -> str:
    options = {"container": CONTAINER, "tailLines": str(chosen.tail)}
    options |= {"previous": "true"} if chosen.previous else {}
    options |= {"follow": "true"} if chosen.follow else {}
    return f"/api/v1/namespaces/{namespace}/pods/{pod}/log?{urlencode(options)}"


def _follow(cluster: Cluster, namespace: str, pods: list[str], chosen: argparse.Namespace) -> None:
    def follow(pod: str, before: str) -> Callable[[], None]:
        def work() -> None:
            path = _path(namespace, pod, chosen)
            with cluster.open("GET", path, f"read the log of {pod}", read_seconds=FOLLOW_SECONDS) as answer:
                lines = (line.decode(errors="replace") for line in cluster.lines(answer, LINE_BYTES))
                for line in selected(lines, chosen.level):
                    print(f"{before}{shown(line)}", flush=True)

        return work

    workers = [Worker(follow(pod, f"{pod}: " if len(pods) > 1 else ""), pod) for pod in pods]
    while any(worker.alive for worker in workers):
        time.sleep(POLL_SECONDS)
    for worker in workers:
        if worker.error is not None:
            raise worker.error


def shown(line: str) -> str:
    """The line as it is; on a terminal without what could steer it."""
    return harmless(line) if sys.stdout.isatty() else line


def selected(lines: Iterable[str], level: str) -> Iterator[str]:
    """The lines of a level and higher; a line without a level has that of the line before."""
    if level == LEVELS[0]:
        yield from lines
        return
    from llm_operator.engines.death import level_of  # noqa: PLC0415 - 0.2 s

    least, current = LEVELS.index(level), LEVELS.index("info")
    for line in lines:
        found = level_of(line)
        current = LEVELS.index(found) if found is not None else current
        if current >= least:
            yield line
