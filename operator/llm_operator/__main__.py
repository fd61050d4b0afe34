"""`llm-operator`: the operator's process."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

import prometheus_client
import uvloop

from llm_operator import __version__
from llm_operator.kube.connection import NoClusterError
from llm_operator.kube.operator_process import LostLeadershipError, OperatorProcess, Options
from llm_operator.kube.planner import ClusterPlanner
from llm_operator.telemetry import logs


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(prog="llm-operator", description=__doc__, allow_abbrev=False)
    line.add_argument("--version", action="version", version=__version__)
    where = line.add_mutually_exclusive_group()
    where.add_argument(
        "--namespace", action="append", default=[], metavar="NAME", help="serve this namespace; repeatable"
    )
    where.add_argument("--all-namespaces", action="store_true", help="serve every namespace (default)")
    line.add_argument("--workers", type=_positive, default=8, help="reconciliations at a time (default 8)")
    line.add_argument("--metrics-port", type=_positive, default=8080, help="GET /metrics (default 8080)")
    line.add_argument("--health-port", type=_positive, default=8081, help="GET /healthz and /readyz (default 8081)")
    line.add_argument("--bind-address", default="0.0.0.0", help="address of both ports (default 0.0.0.0)")  # noqa: S104
    line.add_argument("--leader-elect", action=argparse.BooleanOptionalAction, default=True, help="lead by Lease")
    line.add_argument("--lease-name", default="llm-operator", help="name of the Lease (default llm-operator)")
    line.add_argument("--lease-namespace", default=os.environ.get("POD_NAMESPACE", "default"), help="its namespace")
    line.add_argument("--relist-seconds", type=_positive, default=300, help="seconds between relists (default 300)")
    line.add_argument(
        "--gpu-inventory",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read GPU labels of the nodes; needs a ClusterRole",
    )
    line.add_argument("--log-level", choices=["DEBUG", "INFO", "WARNING", "ERROR"], default="INFO")
    line.add_argument("--log-format", choices=["json", "text"], default="json")
    return line


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def main(argv: Sequence[str] | None = None) -> None:
    """Run until SIGTERM; the exit code is 0 then, 1 where leadership was lost or there is no cluster."""
    chosen = parser().parse_args(argv)
    logs.configure(chosen.log_level, chosen.log_format)
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    options = Options(
        namespaces=tuple(dict.fromkeys(chosen.namespace)),
        workers=chosen.workers,
        metrics_port=chosen.metrics_port,
        health_port=chosen.health_port,
        host=chosen.bind_address,
        leader_elect=chosen.leader_elect,
        lease_name=chosen.lease_name,
        lease_namespace=chosen.lease_namespace,
        relist_seconds=float(chosen.relist_seconds),
        gpu_inventory=chosen.gpu_inventory,
    )

    async def run() -> None:
        await OperatorProcess(options, ClusterPlanner.make).run()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
    except (LostLeadershipError, NoClusterError) as error:
        sys.exit(f"llm-operator: {error}")


if __name__ == "__main__":
    main()
