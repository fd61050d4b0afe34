"""`kubectl llm cache`: the models on PVCs and the objects that use them; removal of unused models."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from llm_operator.cli.cached_models import CachedModel, Inventory, bytes_of, inventory, prunable, source_text, totals
from llm_operator.cli.errors import BadInputError, one_line
from llm_operator.cli.screen import columns
from llm_operator.cli.table import add_output, aligned, print_document, size
from llm_operator.manifests.common import LABEL_MANAGED_BY, MANAGER
from llm_operator.manifests.tools import LABEL_STAGE
from llm_operator.pipeline.artifacts import ANNOTATION_REMOVE
from llm_operator.pipeline.retention import KEPT

if TYPE_CHECKING:
    from llm_operator.cli.cluster import Cluster

EXIT_DONE = 0
EXIT_DECLINED = 1
SHOWN_COMMIT = 12
"""Digits of a commit that a table shows."""
HEAD = ("NAMESPACE", "CLAIM", "DIRECTORY", "SOURCE", "REVISION", "SIZE", "STATE", "USED BY", "UNUSED SINCE")
EXPENDABLE = ("REVISION", "UNUSED SINCE", "DIRECTORY", "SOURCE")
"""Columns that a narrow terminal loses, in this order."""
SELECTOR = f"{LABEL_MANAGED_BY}={MANAGER},{LABEL_STAGE} in ({', '.join((*KEPT, 'remove'))})"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

_DESCRIPTION = "The models that Jobs of the model tools fetched, quantized or converted onto claims."
_PRUNE = """Ask the operator to remove the models that no LLMDeployment uses. Exit code: 0 done, or nothing to do; 1
declined; 2 bad input, or no cluster."""


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("cache", help="the models kept on claims", description=_DESCRIPTION, allow_abbrev=False)
    actions = line.add_subparsers(dest="action", required=True, metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    where = common.add_mutually_exclusive_group()
    where.add_argument("-n", "--namespace", metavar="NAMESPACE", help="default: the context's")
    where.add_argument("-A", "--all-namespaces", action="store_true", help="every namespace")
    common.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config, the pod's own")
    common.add_argument("--context", metavar="NAME", help="context in it; default: the current one")
    listing = actions.add_parser(
        "list", parents=[common], help="models, sizes, users", description=_DESCRIPTION, allow_abbrev=False
    )
    listing.add_argument("--unused", action="store_true", help="only those that no LLMDeployment uses")
    add_output(listing)
    prune = actions.add_parser(
        "prune", parents=[common], help="have the operator remove unused models", description=_PRUNE, allow_abbrev=False
    )
    prune.add_argument(
        "--older-than", type=age, metavar="AGE", help="only those unused for at least this long, such as 30d"
    )
    answer = prune.add_mutually_exclusive_group()
    answer.add_argument("--yes", action="store_true", help="do not ask")
    answer.add_argument("--dry-run", action="store_true", help="only say what would be done")


def age(text: str) -> timedelta:
    """A duration of the command line: a whole number and s, m, h, d or w.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a valid age: expected a number and s, m, h, d or w, such as 30d"
        )
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def run(chosen: argparse.Namespace) -> int:
    """List, or mark for removal.

    Raises:
        BadInputError: no cluster is configured, or stdin is not a terminal and --yes is missing.
    """
    # The client takes a second to import, which `plan` is spared.
    from llm_operator.cli.cluster import connect  # noqa: PLC0415

    cluster = connect(chosen.kubeconfig, chosen.context)
    namespace = None if chosen.all_namespaces else chosen.namespace or cluster.namespace
    jobs = cluster.jobs(namespace, SELECTOR)
    # The objects last: one that came meanwhile counts as a user.
    found = inventory(jobs, cluster.objects(namespace))
    for where, name, problem in found.unreadable:
        text = f"LLMDeployment {where}/{name} cannot be read, so the models that it uses are not known: {problem}"
        print(f"kubectl llm cache: {one_line(text)}", file=sys.stderr)
    return _list(chosen, found) if chosen.action == "list" else _prune(chosen, cluster, found)


def _list(chosen: argparse.Namespace, found: Inventory) -> int:
    models = [model for model in found.models if model.unused or not chosen.unused]
    if chosen.output in ("json", "yaml"):
        print_document(document(models), chosen.output)
    else:
        print(table(models, wide=chosen.output == "wide"))
    return EXIT_DONE


def _prune(chosen: argparse.Namespace, cluster: Cluster, found: Inventory) -> int:
    due = prunable(found, now=datetime.now(UTC), older_than=chosen.older_than)
    asked = [model for model in due if model.to_be_removed]
    models = [model for model in due if not model.to_be_removed]
    if asked:
        print(f"The removal of {_amount(asked)} was requested before.")
    if not models:
        since = " for that long" if chosen.older_than is not None else ""
        print(f"Nothing {'more ' if asked else ''}to remove: no {'other ' if asked else ''}model is unused{since}.")
        return EXIT_DONE
    print(table(models))
    if chosen.dry_run:
        print(f"\nWould request the removal of {_amount(models)}. Nothing was changed.")
        return EXIT_DONE
    if not chosen.yes and not _agreed(f"\nRemove {_amount(models)}? [y/N] "):
        print("Nothing was changed.")
        return EXIT_DECLINED
    done = [model for model in models if _mark(cluster, model)]
    from llm_operator.cli.around import warn_without_operator  # noqa: PLC0415 - imports the client

    text = f"Requested the removal of {_amount(done)}: the operator removes the files as soon as no pod mounts them."
    print(f"\n{text}", flush=True)
    warn_without_operator(cluster, "cache")
    return EXIT_DONE


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise BadInputError(["stdin is not a terminal: confirm with --yes, or preview with --dry-run"])
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _mark(cluster: Cluster, model: CachedModel) -> bool:
    if cluster.annotate_job(model.namespace, model.job, model.resource_version, {ANNOTATION_REMOVE: "true"}):
        return True
    print(
        f"kubectl llm cache: Job {model.namespace}/{model.job} has changed meanwhile and was left alone",
        file=sys.stderr,
    )
    return False


def _amount(models: Sequence[CachedModel]) -> str:
    count = len({model.place for model in models})
    return f"{count} model{'' if count == 1 else 's'}, {size(bytes_of(models))}"


def table(models: Sequence[CachedModel], *, wide: bool = False) -> str:
    """One line per model, then one per claim; wide: with whole commits and the Jobs, and never cut."""
    if not models:
        return "No models."
    rows = [[*HEAD, *(["JOB"] if wide else [])], *(_row(model, wide=wide) for model in models)]
    width = columns() - 1 if sys.stdout.isatty() and not wide else None
    lines = [aligned(rows, width, whole=("NAMESPACE", "CLAIM"), expendable=EXPENDABLE)]
    sums = [
        f"{total.namespace}/{total.claim}: {total.models} model{'' if total.models == 1 else 's'}, {size(total.bytes)}"
        + (f"; {total.unused_models} unused, {size(total.unused_bytes)}" if total.unused_models else "")
        for total in totals(models)
    ]
    return "\n".join([*lines, *([""] if sums else []), *sums])


def _row(model: CachedModel, *, wide: bool) -> list[str]:
    state = f"{model.state}: {model.reason}" if model.reason else model.message or model.state
    if model.to_be_removed:
        state = f"{state}, to be removed{' once unused' if model.used_by else ''}"
    return [
        model.namespace,
        model.claim or "-",
        model.directory or "-",
        source_text(model.source),
        (model.revision or "-")[: None if wide else SHOWN_COMMIT],
        size(model.bytes),
        state,
        ", ".join(model.used_by) or "-",
        model.unused_since or "-",
        *([model.job] if wide else []),
    ]


def document(models: Sequence[CachedModel]) -> dict[str, Any]:
    """The same for programs; sizes in bytes."""
    return {
        "items": [
            {
                "namespace": model.namespace,
                "claim": model.claim,
                "directory": model.directory or None,
                "source": dict(model.source),
                "revision": model.revision,
                "bytes": model.bytes,
                "state": model.state,
                "reason": model.reason,
                "message": model.message,
                "usedBy": list(model.used_by),
                "unusedSince": model.unused_since,
                "removalRequested": model.to_be_removed,
                "job": model.job,
            }
            for model in models
        ],
        "claims": [
            {
                "namespace": total.namespace,
                "claim": total.claim,
                "models": total.models,
                "bytes": total.bytes,
                "unusedModels": total.unused_models,
                "unusedBytes": total.unused_bytes,
            }
            for total in totals(models)
        ],
    }
