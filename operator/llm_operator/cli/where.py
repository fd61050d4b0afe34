"""Options of every command that talks to a cluster."""

from __future__ import annotations

import argparse
from typing import Any

from llm_operator.cli.cluster import Cluster, connect


def add_where(line: Any, *, every: bool = False) -> None:
    """Declare -n, --kubeconfig and --context, and -A where a command can take every namespace."""
    group = line.add_mutually_exclusive_group()
    group.add_argument("-n", "--namespace", metavar="NAMESPACE", help="default: the context's")
    if every:
        group.add_argument("-A", "--all-namespaces", action="store_true", help="every namespace")
    line.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config, the pod's own")
    line.add_argument("--context", metavar="NAME", help="context in it; default: the current one")


def connected(chosen: argparse.Namespace) -> tuple[Cluster, str | None]:
    """The cluster and the namespace; None: every namespace.

    Raises:
        BadInputError: there is no cluster to talk to.
    """
    cluster = connect(chosen.kubeconfig, chosen.context)
    every = getattr(chosen, "all_namespaces", False)
    return cluster, None if every else chosen.namespace or cluster.namespace
