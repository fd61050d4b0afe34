"""`llm-operator`: the operator's process."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import prometheus_client

from llm_operator import __version__
from llm_operator.child_options import NAMESPACE_VARIABLE, add_child_options, positive, tool_settings
from llm_operator.kube.connection import NoClusterError
from llm_operator.kube.event_loop import new_event_loop
from llm_operator.kube.lease import LostLeadershipError
from llm_operator.kube.operator_process import OperatorProcess, Options
from llm_operator.kube.plan_source import PlanSource
from llm_operator.kube.vital_signs import Paces
from llm_operator.kube.watches import WatchesFailedError
from llm_operator.modeltools import trust
from llm_operator.telemetry import logs

log = logging.getLogger("llm_operator")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(prog="llm-operator", description=__doc__, allow_abbrev=False)
    line.add_argument("--version", action="version", version=__version__)
    where = line.add_mutually_exclusive_group()
    where.add_argument(
        "--namespace", action="append", default=[], metavar="NAME", help="serve this namespace; repeatable"
    )
    where.add_argument("--all-namespaces", action="store_true", help="serve every namespace (default)")
    line.add_argument("--workers", type=positive, default=8, help="reconciliations at a time (default 8)")
    line.add_argument("--metrics-port", type=positive, default=8080, help="GET /metrics (default 8080)")
    line.add_argument(
        "--metrics-authentication",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="answer GET /metrics only to tokens of users who may get the URL /metrics; needs a ClusterRole",
    )
    line.add_argument("--health-port", type=positive, default=8081, help="GET /healthz and /readyz (default 8081)")
    line.add_argument("--bind-address", default="0.0.0.0", help="address of both ports (default 0.0.0.0)")  # noqa: S104
    line.add_argument("--leader-elect", action=argparse.BooleanOptionalAction, default=True, help="lead by Lease")
    line.add_argument("--lease-name", default="llm-operator", help="name of the Lease (default llm-operator)")
    line.add_argument("--lease-namespace", default=os.environ.get(NAMESPACE_VARIABLE, "default"), help="its namespace")
    line.add_argument(
        "--learned-config-map",
        default="",
        metavar="NAME",
        help="ConfigMap in the Lease's namespace for what engines measured (default: it is not kept)",
    )
    line.add_argument("--relist-seconds", type=positive, default=300, help="seconds between relists (default 300)")
    line.add_argument(
        "--engine-look-seconds",
        type=positive,
        default=30,
        help="seconds between two looks at the metrics of an engine that serves (default 30)",
    )
    line.add_argument(
        "--engine-silent-seconds",
        type=positive,
        default=300,
        help="how long requests may run without a token, or a queue grow over a full KV cache (default 300)",
    )
    line.add_argument(
        "--plan-wait-seconds",
        type=positive,
        default=60,
        help="how long a new object with planPolicy Enforce waits for a hub or nodes that do not answer (default 60)",
    )
    line.add_argument(
        "--gpu-inventory",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read GPU labels of the nodes; needs a ClusterRole",
    )
    line.add_argument(
        "--ca-bundle", type=Path, metavar="FILE", help="certificates (PEM) that the operator trusts beside public roots"
    )
    add_child_options(line)
    line.add_argument("--log-level", choices=["DEBUG", "INFO", "WARNING", "ERROR"], default="INFO")
    line.add_argument("--log-format", choices=["json", "text"], default="json")
    return line


def trust_also(bundle: Path) -> None:
    """Let every client of this process that asks hubs trust further certificates; the API server has its own CA.

    Raises:
        BundleError: it cannot be used.
    """
    file = Path(tempfile.mkdtemp(prefix="llm-operator-")) / "ca.crt"
    trust.write(file, [(f"--ca-bundle {bundle}", bundle)])
    os.environ.update(dict.fromkeys(trust.VARIABLES, str(file)))


def main(argv: Sequence[str] | None = None) -> None:
    """Run until SIGTERM; the exit code is 0 then, 1 where leadership was lost or there is no cluster."""
    chosen = parser().parse_args(argv)
    logs.configure(chosen.log_level, chosen.log_format)
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    if chosen.ca_bundle is not None:
        try:
            trust_also(chosen.ca_bundle)
        except (trust.BundleError, OSError) as error:
            sys.exit(f"llm-operator: {error}")
    options = Options(
        namespaces=tuple(dict.fromkeys(chosen.namespace)),
        workers=chosen.workers,
        metrics_port=chosen.metrics_port,
        health_port=chosen.health_port,
        metrics_authentication=chosen.metrics_authentication,
        host=chosen.bind_address,
        leader_elect=chosen.leader_elect,
        lease_name=chosen.lease_name,
        lease_namespace=chosen.lease_namespace,
        relist_seconds=float(chosen.relist_seconds),
        plan_wait_seconds=float(chosen.plan_wait_seconds),
        gpu_inventory=chosen.gpu_inventory,
        learned_name=chosen.learned_config_map,
        tools=tool_settings(chosen),
        paces=Paces(float(chosen.engine_look_seconds), float(chosen.engine_silent_seconds)),
    )

    # Nothing that was imported will ever be garbage, and most of the rest goes without the collector: looking for
    # cycles at every 700th new object, the default, takes a twentieth of all instructions.
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)

    async def run() -> None:
        await OperatorProcess(options, PlanSource.make).run()

    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run())
    except (LostLeadershipError, NoClusterError, WatchesFailedError, OSError) as error:
        log.critical("the operator ends: %s", error)
        sys.exit(1)
    except Exception as error:
        log.critical("the operator ends: %s: %s", type(error).__name__, error, exc_info=error)
        sys.exit(1)


if __name__ == "__main__":
    main()
