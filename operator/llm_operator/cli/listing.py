"""`kubectl llm list`: every object on one line."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

from llm_operator.cli.around import warn_without_operator
from llm_operator.cli.cluster import Cluster
from llm_operator.cli.errors import BadInputError, one_line
from llm_operator.cli.patience import Patience
from llm_operator.cli.pods import POD_LABEL, duration, is_ready, load_left, load_words, pod_of
from llm_operator.cli.screen import Redrawn, columns, writes_over
from llm_operator.cli.table import add_output, aligned, print_document
from llm_operator.cli.where import add_where, connected

JSON = dict[str, Any]

REFRESH_SECONDS = 2.0
MOST_ENGINES = 32
"""Most engines whose KV cache is read, all in parallel."""
ENGINES_SECONDS = 2.0
EXPENDABLE = ("KV", "TP", "ENGINE", "MODEL", "RESTARTS", "KV TOKENS")
"""Columns that a narrow terminal loses, the first one first."""


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("list", help="the LLMDeployments", description=__doc__, allow_abbrev=False)
    add_where(line, every=True)
    line.add_argument("-w", "--watch", action="store_true", help="go on, and show what changes, until Ctrl-C")
    add_output(line)


def run(chosen: argparse.Namespace) -> int:
    """Print them.

    Raises:
        BadInputError: no cluster, or it refuses.
    """
    if chosen.watch and chosen.output in ("json", "yaml"):
        raise BadInputError(
            [f"--watch and -o {chosen.output} exclude each other: kubectl get llmdep --watch -o has it"]
        )
    cluster, namespace = connected(chosen)
    if chosen.watch:
        warn_without_operator(cluster, "list")
        return _watch(cluster, namespace, chosen)
    found = cluster.objects(namespace)
    if chosen.output in ("json", "yaml"):
        print_document({"items": found}, chosen.output)
    else:
        print(_table(cluster, namespace, chosen, found))
    sys.stdout.flush()
    warn_without_operator(cluster, "list")
    return 0


def _table(cluster: Cluster, namespace: str | None, chosen: argparse.Namespace, found: list[JSON]) -> str:
    rows = _rows(cluster, namespace, chosen, found)
    if len(rows) == 1:
        return "No LLMDeployments" + (f" in namespace {namespace}." if namespace else ".")
    return _aligned(rows, chosen.output)


def _aligned(rows: list[list[str]], form: str) -> str:
    width = columns() - 1 if sys.stdout.isatty() and form == "table" else None
    return aligned(rows, width, whole=("NAMESPACE", "NAME"), expendable=EXPENDABLE)


def _rows(cluster: Cluster, namespace: str | None, chosen: argparse.Namespace, found: list[JSON]) -> list[list[str]]:
    pods = pods_by_object(cluster, namespace)
    used = used_tokens(cluster, found, pods)
    return lines(found, every=namespace is None, wide=chosen.output == "wide", pods=pods, used=used)


def _watch(cluster: Cluster, namespace: str | None, chosen: argparse.Namespace) -> int:
    """Draw the table again and again; where lines cannot be written over, print the lines that changed."""
    patience = Patience("list")
    screen = Redrawn(sys.stdout) if writes_over(sys.stdout) else None
    before: list[list[str]] = []
    while True:
        with patience:
            found = cluster.objects(namespace)
            if screen is not None:
                screen.draw(_table(cluster, namespace, chosen, found))
            else:
                rows = _rows(cluster, namespace, chosen, found)
                for row, line in zip(rows, _aligned(rows, chosen.output).split("\n"), strict=True):
                    if row not in before:
                        print(line, flush=True)
                before = rows
        time.sleep(REFRESH_SECONDS)


def pods_by_object(cluster: Cluster, namespace: str | None) -> dict[tuple[str, str], list[JSON]] | None:
    """The pods of all objects, by namespace and name; None: this user may not list them."""
    try:
        found = cluster.list("api/v1", "pods", namespace, POD_LABEL)
    except BadInputError:
        return None
    pods: dict[tuple[str, str], list[JSON]] = {}
    for pod in found:
        meta = pod["metadata"]
        pods.setdefault((meta["namespace"], meta["labels"][POD_LABEL]), []).append(pod)
    return pods


def used_tokens(
    cluster: Cluster, objects: list[JSON], pods: Mapping[tuple[str, str], list[JSON]] | None
) -> dict[tuple[str, str], float]:
    """Share of the KV cache in use, by namespace and name, of the objects whose engine answers in time."""
    serving = [
        body
        for body in objects
        if not _map(_map(body, "spec"), "engine").get("apiKey")
        and any(is_ready(pod) for pod in (pods or {}).get(_key(body), ()))
    ][:MOST_ENGINES]
    if not serving:
        return {}
    from llm_operator.cli.engine_now import METRICS_BYTES, quantities, read_metrics  # noqa: PLC0415
    from llm_operator.cli.serving import Serving  # noqa: PLC0415
    from llm_operator.cli.threads import Worker  # noqa: PLC0415

    found: dict[tuple[str, str], float] = {}

    def ask(body: JSON) -> None:
        try:
            sums = read_metrics(Serving(cluster, body, model="").metrics(METRICS_BYTES))
        except BadInputError:
            return  # the list says what it can; `status` says why
        share = quantities(sums, str(_map(_map(body, "spec"), "engine").get("type")))["kv_cache_usage_ratio"]
        if share is not None:
            found[_key(body)] = share

    workers = [Worker(lambda body=body: ask(body), "metrics") for body in serving]  # type: ignore[misc]
    end = time.monotonic() + ENGINES_SECONDS
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))
    return dict(found)


def lines(
    objects: list[JSON],
    *,
    every: bool,
    wide: bool,
    pods: Mapping[tuple[str, str], list[JSON]] | None = None,
    used: Mapping[tuple[str, str], float] | None = None,
) -> list[list[str]]:
    """The head, and one line per object."""
    head = ["NAME", "ENGINE", "MODEL", "TP", "KV", "READY", "KV TOKENS", "RESTARTS", "PROGRESS", "REASON"]
    rows = [[*(["NAMESPACE"] if every else []), *head, *(["MESSAGE"] if wide else [])]]
    for body in objects:
        meta, spec, status = body["metadata"], _map(body, "spec"), _map(body, "status")
        ready = condition(body, "Ready")
        own = [pod_of(pod) for pod in (pods or {}).get(_key(body), ())]
        rows.append(
            [
                *([meta["namespace"]] if every else []),
                meta["name"],
                str(_map(spec, "engine").get("type", "-")),
                model_of(spec),
                str(_map(status, "plan").get("tensor") or _map(spec, "parallelism").get("tensor") or "-"),
                str(_map(spec, "kvCache").get("quantization", "None")),
                f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}",
                kv_tokens(status, (used or {}).get(_key(body))),
                str(sum(pod["restarts"] for pod in own)) if pods is not None else "-",
                progress(body, own),
                str(ready.get("reason", "-")),
                *([one_line(str(ready.get("message", "")))] if wide else []),
            ]
        )
    return rows


def progress(body: JSON, pods: list[JSON]) -> str:
    """How far a stage is, or how long the engine's start will still take."""
    found = _map(_map(body, "status"), "progress")
    if found:
        left = found.get("secondsLeft")
        text = one_line(str(found.get("summary", "")))
        return f"{text}, {duration(left)} left" if isinstance(left, int) and "left" not in text else text
    return load_words(load_left(body, pods)) or "-"


def kv_tokens(status: Mapping[str, Any], used: float | None = None) -> str:
    """KV tokens in use and held, as the engine reports them; before it does, those of the plan."""
    measured, planned = (_map(status, part).get("kvTokens") for part in ("measured", "plan"))
    if measured is not None:
        return f"{measured:,}" if used is None else f"{round(used * measured):,}/{measured:,}"
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


def _key(body: JSON) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _map(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
