"""`llm-operator`: the operator's process."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import prometheus_client
import uvloop

from llm_operator import __version__
from llm_operator.api.base import NAME_PATTERN, ConfigMapKeyReference
from llm_operator.api.network import NetworkSpec
from llm_operator.api.overlay_owned import PREFIX
from llm_operator.api.propagation import Propagation
from llm_operator.engines import newest_version
from llm_operator.foreign import read_json
from llm_operator.image_names import reference
from llm_operator.kube.connection import NoClusterError
from llm_operator.kube.lease import LostLeadershipError
from llm_operator.kube.operator_process import OperatorProcess, Options
from llm_operator.kube.planner import ClusterPlanner
from llm_operator.kube.watches import WatchesFailedError
from llm_operator.manifests.tools import PROXY_VARIABLES, USER, NetworkSettings, ToolSettings
from llm_operator.modeltools import trust
from llm_operator.telemetry import logs

log = logging.getLogger("llm_operator")


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
    line.add_argument("--workers", type=_positive, default=8, help="reconciliations at a time (default 8)")
    line.add_argument("--metrics-port", type=_positive, default=8080, help="GET /metrics (default 8080)")
    line.add_argument(
        "--metrics-authentication",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="answer GET /metrics only to tokens of users who may get the URL /metrics; needs a ClusterRole",
    )
    line.add_argument("--health-port", type=_positive, default=8081, help="GET /healthz and /readyz (default 8081)")
    line.add_argument("--bind-address", default="0.0.0.0", help="address of both ports (default 0.0.0.0)")  # noqa: S104
    line.add_argument("--leader-elect", action=argparse.BooleanOptionalAction, default=True, help="lead by Lease")
    line.add_argument("--lease-name", default="llm-operator", help="name of the Lease (default llm-operator)")
    line.add_argument("--lease-namespace", default=os.environ.get("POD_NAMESPACE", "default"), help="its namespace")
    line.add_argument("--relist-seconds", type=_positive, default=300, help="seconds between relists (default 300)")
    line.add_argument(
        "--engine-look-seconds",
        type=_positive,
        default=30,
        help="seconds between two looks at the metrics of an engine that serves (default 30)",
    )
    line.add_argument(
        "--plan-wait-seconds",
        type=_positive,
        default=60,
        help="how long a new object with planPolicy Enforce waits for a hub or nodes that do not answer (default 60)",
    )
    line.add_argument(
        "--gpu-inventory",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read GPU labels of the nodes; needs a ClusterRole",
    )
    _add_tools(line)
    _add_page(line)
    _add_trust(line)
    _add_network(line)
    line.add_argument(
        "--run-as-user",
        type=_user,
        default=USER,
        metavar="ID",
        help=f"user and group of engines and model tools (default {USER}); empty: the platform or the image says it",
    )
    _add_propagation(line)
    line.add_argument("--log-level", choices=["DEBUG", "INFO", "WARNING", "ERROR"], default="INFO")
    line.add_argument("--log-format", choices=["json", "text"], default="json")
    return line


HANDED_ON = ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT", *PROXY_VARIABLES)
"""Variables of the operator's own environment that its tools need to reach the same hub in the same way."""


def handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What the tools get of it as plain text: never a URL with a password, which everybody who sees a pod would see."""
    found = {name: environment[name] for name in HANDED_ON if environment.get(name)}
    for name in [name for name, value in found.items() if has_password(value)]:
        log.warning("%s has a password and is not handed on to Jobs: name a Secret with --proxy-secret", name)
        del found[name]
    return found


def has_password(url: str) -> bool:
    """Whether a proxy's or hub's address holds a user's name or password, with or without its scheme."""
    return any(
        "@" in part.partition("://")[2].partition("/")[0] or "@" in part.partition("/")[0] for part in url.split(",")
    )


def _add_tools(line: argparse.ArgumentParser) -> None:
    """What fetches, inspects and quantizes models."""
    group = line.add_argument_group("model tools")
    group.add_argument(
        "--model-tools-image",
        default=reference("model-tools", __version__),
        metavar="IMAGE",
        help="image that fetches and inspects models; empty: engines fetch for themselves, without a cache",
    )
    group.add_argument(
        "--quantize-image",
        default=reference("lmdeploy", newest_version("LMDeploy")),
        metavar="IMAGE",
        help="image with `lmdeploy lite` and the datasets package (images/lmdeploy)",
    )
    group.add_argument("--tools-pull-policy", choices=["IfNotPresent", "Always", "Never"], default="IfNotPresent")
    group.add_argument(
        "--inspect-models",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read config.json of models on claims and in images by a Job, to plan them",
    )
    group.add_argument(
        "--stall-seconds", type=_positive, default=60, help="begin a download again without a byte for so long"
    )
    group.add_argument(
        "--cache-retention-seconds",
        type=_not_negative,
        default=0,
        help="remove cached models that no object asks for after so long (default 0: keep them)",
    )


def _add_propagation(line: argparse.ArgumentParser) -> None:
    """What of an object's own metadata reaches its pods and Services."""
    group = line.add_argument_group("labels and annotations")
    for kind in ("label", "annotation"):
        group.add_argument(
            f"--propagate-{kind}",
            action="append",
            default=[],
            type=_name_or_prefix,
            metavar="NAME",
            help=f"hand this {kind} of an LLMDeployment on to its pods and Services; PREFIX* names several; repeatable",
        )


def _name_or_prefix(text: str) -> str:
    if len(text) > 317 or not re.fullmatch(r"[A-Za-z0-9][-A-Za-z0-9_./]*\*?", text):
        raise argparse.ArgumentTypeError(f"expected a name such as example.com/team or a prefix with *, got {text!r}")
    if text.startswith(PREFIX):
        raise argparse.ArgumentTypeError(f"{PREFIX} is the operator's own: it is never handed on")
    return text


def _add_trust(line: argparse.ArgumentParser) -> None:
    """Certificates and proxies on the way to the hubs."""
    group = line.add_argument_group("way to the hubs")
    group.add_argument(
        "--ca-bundle", type=Path, metavar="FILE", help="certificates (PEM) that the operator trusts beside public roots"
    )
    group.add_argument(
        "--tools-ca-bundle",
        type=_config_map_key,
        metavar="CONFIGMAP/KEY",
        help="the same for model tools: a ConfigMap that each namespace with LLMDeployments has",
    )
    group.add_argument(
        "--proxy-secret",
        default="",
        type=_secret_name,
        metavar="NAME",
        help="Secret of each namespace with the keys HTTPS_PROXY, HTTP_PROXY and NO_PROXY, for the model tools",
    )


def _config_map_key(text: str) -> ConfigMapKeyReference:
    name, _, key = text.partition("/")
    try:
        return ConfigMapKeyReference(name=name, key=key)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected CONFIGMAP/KEY such as corporate-ca/ca.crt, got {text!r}") from None


def _secret_name(text: str) -> str:
    if text and (len(text) > 253 or not re.fullmatch(NAME_PATTERN, text)):
        raise argparse.ArgumentTypeError(f"expected the name of a Secret, got {text!r}")
    return text


def trust_also(bundle: Path) -> None:
    """Let every client of this process that asks hubs trust further certificates; the API server has a CA of its own.

    Raises:
        BundleError: it cannot be used.
    """
    file = Path(tempfile.mkdtemp(prefix="llm-operator-")) / "ca.crt"
    trust.write(file, [(f"--ca-bundle {bundle}", bundle)])
    os.environ.update(dict.fromkeys(trust.VARIABLES, str(file)))


def _add_page(line: argparse.ArgumentParser) -> None:
    """The chat page that an object may ask for."""
    group = line.add_argument_group("chat page")
    group.add_argument(
        "--web-image",
        default=reference("web", __version__),
        metavar="IMAGE",
        help="image of the chat page (images/web)",
    )
    group.add_argument("--web-pull-policy", choices=["IfNotPresent", "Always", "Never"], default="IfNotPresent")


def _add_network(line: argparse.ArgumentParser) -> None:
    """The NetworkPolicies of objects."""
    group = line.add_argument_group("network policies")
    group.add_argument(
        "--network-policies",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="make NetworkPolicies for engines, chat pages and model tools; off: those that were made are removed",
    )
    group.add_argument(
        "--network-policy-from",
        type=_peers,
        default=(),
        metavar="JSON",
        help="who reaches every engine and page, as the list `from` of a NetworkPolicy: the operator, scrapers",
    )


def _peers(text: str) -> tuple[dict[str, Any], ...]:
    try:
        told = read_json(text)
        given = NetworkSpec.model_validate({"from": None if told == [] else told}, by_alias=True, by_name=False).from_
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not a list of peers of a NetworkPolicy: {error}") from None
    return tuple(peer.to_peer() for peer in given or ())


def _home(own: str, served: Sequence[str]) -> str:
    """The operator's own namespace, unless it serves only that."""
    return "" if set(served) == {own} else own


def _user(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:10]) < 2**31 or len(text) > 10:
        raise argparse.ArgumentTypeError(f"expected a user id from 1 to 2147483647, or nothing, got {text[:40]!r}")
    return int(text)


def tool_settings(chosen: argparse.Namespace) -> ToolSettings:
    """What the command line says of the model tools."""
    return ToolSettings(
        image=chosen.model_tools_image,
        quantize_image=chosen.quantize_image,
        pull_policy=chosen.tools_pull_policy,
        environment=handed_on(os.environ),
        engine_look_seconds=float(chosen.engine_look_seconds),
        ca_bundle=chosen.tools_ca_bundle,
        proxy_secret=chosen.proxy_secret,
        stall_seconds=chosen.stall_seconds,
        inspect=chosen.inspect_models,
        retention_seconds=chosen.cache_retention_seconds,
        web_image=chosen.web_image,
        web_pull_policy=chosen.web_pull_policy,
        home=_home(os.environ.get("POD_NAMESPACE", ""), chosen.namespace),
        user=chosen.run_as_user,
        network=NetworkSettings(chosen.network_policies, chosen.network_policy_from),
        propagation=Propagation(tuple(chosen.propagate_label), tuple(chosen.propagate_annotation)),
    )


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {number}")
    return number


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
        tools=tool_settings(chosen),
    )

    # Nothing that was imported will ever be garbage, and most of the rest goes without the collector: looking for
    # cycles at every 700th new object, the default, takes a twentieth of all instructions.
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)

    async def run() -> None:
        await OperatorProcess(options, ClusterPlanner.make).run()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
    except (LostLeadershipError, NoClusterError, WatchesFailedError, OSError) as error:
        log.critical("the operator ends: %s", error)
        sys.exit(1)
    except Exception as error:
        log.critical("the operator ends: %s: %s", type(error).__name__, error, exc_info=error)
        sys.exit(1)


if __name__ == "__main__":
    main()
