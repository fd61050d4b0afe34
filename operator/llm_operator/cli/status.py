"""`kubectl llm status`: one object on one screen, with what the engine reports now and the next thing to do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from llm_operator.cli.cluster import Cluster
from llm_operator.cli.errors import BadInputError, one_line
from llm_operator.cli.listing import condition, model_of
from llm_operator.cli.pods import POD_LABEL, is_ready
from llm_operator.cli.table import aligned
from llm_operator.cli.where import add_where, connected
from llm_operator.foreign import read_json

JSON = dict[str, Any]

METRICS_BYTES = 4 << 20
_SHOWN = ("requests_running", "requests_waiting", "kv_cache_usage_ratio")


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("status", help="one object on one screen", description=__doc__, allow_abbrev=False)
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    add_where(line)
    line.add_argument("-o", "--output", choices=["table", "json", "yaml"], default="table", help="default table")


def run(chosen: argparse.Namespace) -> int:
    """Print it.

    Raises:
        BadInputError: no such object, or the cluster refuses.
    """
    cluster, namespace = connected(chosen)
    body = cluster.object(str(namespace), chosen.name)
    found = gathered(cluster, body)
    if chosen.output == "json":
        print(json.dumps(found, indent=2))
    elif chosen.output == "yaml":
        import yaml  # noqa: PLC0415

        print(yaml.safe_dump(found, sort_keys=False).rstrip())
    else:
        print(screen(body, found))
    return 0


def gathered(cluster: Cluster, body: JSON) -> JSON:
    """What the cluster knows around an object. A part that this user may not read is an error text of its own."""
    meta = body["metadata"]
    namespace, name = meta["namespace"], meta["name"]
    notes: list[str] = []

    def part(read: Any, otherwise: Any) -> Any:
        try:
            return read()
        except BadInputError as error:
            notes.append(str(error))
            return otherwise

    pods = part(lambda: cluster.list("api/v1", "pods", namespace, f"{POD_LABEL}={name}"), [])
    serves = any(is_ready(pod) for pod in pods)
    return {
        "name": name,
        "namespace": namespace,
        "conditions": (body.get("status") or {}).get("conditions") or [],
        "plan": (body.get("status") or {}).get("plan"),
        "measured": (body.get("status") or {}).get("measured"),
        "progress": (body.get("status") or {}).get("progress"),
        "pods": [pod_of(pod) for pod in pods],
        "now": part(lambda: engine_now(cluster, body), None) if serves else None,
        "operator": part(lambda: leader(cluster), None),
        "gpus": part(lambda: gpus(cluster, body), None),
        "notes": notes,
    }


def pod_of(pod: Mapping[str, Any]) -> JSON:
    """Node, GPUs, restarts and the last end of a pod's engine."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    engines = status.get("containerStatuses") or [{}]
    ended = (engines[0].get("lastState") or {}).get("terminated") or {}
    containers = spec.get("containers") or ()
    return {
        "name": pod["metadata"]["name"],
        "node": spec.get("nodeName"),
        "phase": status.get("phase"),
        "ready": is_ready(pod),
        "gpus": sum(_gpus_of(container) for container in containers),
        "restarts": sum(int(entry.get("restartCount", 0)) for entry in engines),
        "lastEnd": f"{ended.get('reason', 'Ended')}, exit code {ended.get('exitCode')}, {ended.get('finishedAt')}"
        if ended
        else None,
    }


def _gpus_of(container: Mapping[str, Any], resource: str = "nvidia.com/gpu") -> int:
    text = str(((container.get("resources") or {}).get("limits") or {}).get(resource, 0))
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def engine_now(cluster: Cluster, body: JSON) -> JSON:
    """Requests running and waiting, KV cache in use and mean time to first token, of one pod, since it started.

    Raises:
        BadInputError: the engine does not answer, or this user may not ask it.
    """
    meta = body["metadata"]
    if (body["spec"].get("engine") or {}).get("apiKey"):
        raise BadInputError(["the engine's metrics need its API key, which the API server's proxy does not pass on"])
    path = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}:http/proxy/metrics"
    text = cluster.text(path, f"read the metrics of {meta['name']}", METRICS_BYTES)
    sums: dict[str, float] = {}
    for line in text.split("\n"):
        name = line.split("{", 1)[0].split(" ", 1)[0]
        if line.startswith("#") or len(line) > 8192 or not name:
            continue
        try:
            sums[name] = sums.get(name, 0.0) + float(line.rsplit(" ", 1)[-1])
        except ValueError:
            continue
    names = read_json((resources.files("llm_operator.engines.data") / "metrics.json").read_bytes())
    known = names[str(body["spec"]["engine"]["type"])]
    found: JSON = {}
    for metric in _SHOWN:
        # The newest name that the engine has.
        values = [sums[entry["name"]] for entry in known[metric] if entry["name"] in sums]
        found[metric] = values[-1] if values else None
    for entry in known["time_to_first_token_seconds"]:
        count = sums.get(f"{entry['name']}_count", 0.0)
        if count:
            found["time_to_first_token_seconds_mean"] = sums.get(f"{entry['name']}_sum", 0.0) / count
    return found


def leader(cluster: Cluster) -> JSON:
    """The operator that holds the Lease, and how old its last renewal is.

    Raises:
        BadInputError: this user may not list Leases.
    """
    leases = cluster.list("apis/coordination.k8s.io/v1", "leases", None)
    for lease in leases:
        spec = lease.get("spec") or {}
        if "llm-operator" not in lease["metadata"]["name"] or not spec.get("holderIdentity"):
            continue
        try:
            age = (datetime.now(UTC) - datetime.fromisoformat(str(spec["renewTime"]))).total_seconds()
        except (KeyError, ValueError, TypeError):
            continue
        alive = age <= 2 * float(spec.get("leaseDurationSeconds") or 15)
        return {"holder": spec["holderIdentity"], "secondsSinceRenewal": round(age), "running": alive}
    return {"holder": None, "secondsSinceRenewal": None, "running": False}


def gpus(cluster: Cluster, body: JSON) -> JSON:
    """GPUs of the object's resource that nodes offer, and that pods of every namespace hold.

    Raises:
        BadInputError: this user may not list nodes or pods of every namespace.
    """
    resource = str(((body["spec"].get("gpu") or {}).get("resourceName")) or "nvidia.com/gpu")
    nodes = cluster.list("api/v1", "nodes", None)
    offered = 0
    for node in nodes:
        text = str(((node.get("status") or {}).get("allocatable") or {}).get(resource, 0))
        offered += int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    held = 0
    for pod in cluster.list("api/v1", "pods", None):
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed") or not (pod.get("spec") or {}).get(
            "nodeName"
        ):
            continue
        held += sum(_gpus_of(container, resource) for container in pod["spec"].get("containers") or ())
    return {"resource": resource, "offered": offered, "held": held, "free": max(0, offered - held)}


def screen(body: JSON, found: JSON) -> str:
    """The same for people."""
    from llm_operator.reasons import explain  # noqa: PLC0415

    spec = body["spec"]
    lines = [f"{found['namespace']}/{found['name']}: {model_of(spec)} on {(spec.get('engine') or {}).get('type')}", ""]
    rows = [
        [entry["type"], entry["status"], entry["reason"], one_line(entry["message"])] for entry in found["conditions"]
    ]
    lines += [aligned(rows)] if rows else ["The operator has not written a status yet."]
    plan, measured = found["plan"] or {}, found["measured"] or {}
    if plan.get("kvTokens") is not None or measured.get("kvTokens") is not None:
        lines += ["", f"KV tokens: planned {_number(plan.get('kvTokens'))}, held {_number(measured.get('kvTokens'))}"]
    if measured.get("secondsToReady") is not None:
        lines.append(f"Seconds from the container's start to Ready, last time: {measured['secondsToReady']:,}")
    if found["progress"]:
        lines.append(f"Progress: {one_line(str(found['progress'].get('summary')))}")
    if found["now"]:
        lines.append(f"Now: {_now(found['now'], spec)}")
    for pod in found["pods"]:
        end = f"; last end: {pod['lastEnd']}" if pod["lastEnd"] else ""
        state = "ready" if pod["ready"] else str(pod["phase"]).lower()
        lines.append(
            f"Pod {pod['name']}: {state}, on {pod['node'] or 'no node'}, {pod['gpus']} GPU{'s' * (pod['gpus'] != 1)}, "
            f"{pod['restarts']} restart{'s' * (pod['restarts'] != 1)}{end}"
        )
    if found["gpus"]:
        lines.append("GPUs ({resource}): {offered} offered, {held} held by pods, {free} free".format(**found["gpus"]))
    if found["operator"]:
        lines.append(_operator(found["operator"]))
    lines += [f"Not read: {one_line(note)}" for note in found["notes"]]
    reason = condition(body, "Ready").get("reason", "")
    remedies = dict.fromkeys(entry.remedy for entry in explain(reason) if entry.remedy and "Ready" in entry.conditions)
    lines += ["", *(f"Next: {remedy}" for remedy in remedies)] if remedies else []
    return "\n".join(lines)


def _operator(found: Mapping[str, Any]) -> str:
    if found["holder"] is None:
        return "Operator: no Lease of an operator was found; it may run without leader election, or not at all"
    if found["running"]:
        return f"Operator: running ({found['holder']})"
    return f"Operator: NOT running; {found['holder']} renewed its Lease {found['secondsSinceRenewal']:,} s ago"


def _now(now: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    running, waiting, used = (now.get(name) for name in _SHOWN)
    parts = [f"{running or 0:,.0f} requests running, {waiting or 0:,.0f} waiting"]
    if used is not None:
        parts.append(f"KV cache {used:.0%} full")
    if now.get("time_to_first_token_seconds_mean") is not None:
        parts.append(f"first token after {now['time_to_first_token_seconds_mean']:.2f} s on average since the start")
    if waiting:
        most = spec.get("maxConcurrentSequences")
        limit = (
            "KV tokens" if (used or 0) > 0.9 else f"sequences (maxConcurrentSequences {most})" if most else "sequences"
        )
        parts.append(f"limited by {limit}")
    return "; ".join(parts)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "not known"
