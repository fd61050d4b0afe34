"""What the cluster knows around an object: its operator, GPUs, and events."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from llm_operator.cli.cluster import KIND, Cluster
from llm_operator.cli.errors import BadInputError
from llm_operator.cli.pods import duration, gpus_of, is_ready, seconds_since, whole

JSON = dict[str, Any]

GPU = "nvidia.com/gpu"
SHOWN_EVENTS = 5
OPERATOR_PODS = "app.kubernetes.io/name=llm-operator"
"""Label of the chart's pods."""


def leader(cluster: Cluster) -> JSON:
    """The operator that holds the Lease, and how old its last renewal is; if none has a holder, a pod of an operator.

    Returns:
        holder: who leads, or the pod that runs without an election; None: neither is there.
        elected: it holds the Lease.
        secondsSinceRenewal: of the Lease; None: none has a holder.
        running: an operator runs.

    Raises:
        BadInputError: this user may not list Leases, or pods.
    """
    found: list[JSON] = []
    for lease in cluster.list("apis/coordination.k8s.io/v1", "leases", None):
        spec = lease.get("spec") or {}
        if "llm-operator" not in lease["metadata"]["name"] or not spec.get("holderIdentity"):
            continue
        age = seconds_since(spec.get("renewTime"), datetime.now(UTC))
        if age is not None:
            alive = age <= 2 * float(spec.get("leaseDurationSeconds") or 15)
            holder = {"holder": spec["holderIdentity"], "elected": True}
            found.append({**holder, "secondsSinceRenewal": round(age), "running": alive})
    if found:
        return min(found, key=lambda entry: int(entry["secondsSinceRenewal"]))
    # A process that ends releases its Lease; one without an election never had it.
    pods = cluster.list("api/v1", "pods", None, OPERATOR_PODS)
    names = sorted(pod["metadata"]["name"] for pod in pods if is_ready(pod))
    return {"holder": next(iter(names), None), "elected": False, "secondsSinceRenewal": None, "running": bool(names)}


def warn_without_operator(cluster: Cluster, command: str) -> None:
    """Say on standard error that no operator runs, if none does; nothing if this user may not see whether one does."""
    try:
        found = leader(cluster)
    except BadInputError:
        return
    if not found["running"]:
        since = found["secondsSinceRenewal"]
        last = f" (the last sign of one is {duration(since)} old)" if since is not None else ""
        text = f"no operator runs in this cluster{last}: the status of objects may be old, and no change takes effect"
        print(f"kubectl llm {command}: {text}", file=sys.stderr)


def gpus(cluster: Cluster, resource: str = GPU) -> JSON:
    """GPUs that nodes offer, that pods of every namespace hold, and that all LLMDeployments want.

    Raises:
        BadInputError: this user may not list nodes, pods or objects of every namespace.
    """
    nodes = cluster.list("api/v1", "nodes", None)
    cordoned = {node["metadata"]["name"] for node in nodes if (node.get("spec") or {}).get("unschedulable")}
    held: dict[str, int] = {}
    waiting = 0
    for pod in cluster.list("api/v1", "pods", None):
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            continue
        node = (pod.get("spec") or {}).get("nodeName")
        if node:
            held[node] = held.get(node, 0) + gpus_of(pod, resource)
        else:
            waiting += gpus_of(pod, resource)
    offered = {node["metadata"]["name"]: _offered(node, resource) for node in nodes}
    unused = {name: max(0, count - held.get(name, 0)) for name, count in offered.items()}
    free = {name: count for name, count in unused.items() if name not in cordoned}
    return {
        "resource": resource,
        "offered": sum(offered.values()),
        "held": sum(held.values()),
        "free": sum(free.values()),
        "mostFreeOnOneNode": max(free.values(), default=0),
        "cordoned": sum(unused.values()) - sum(free.values()),
        "waitedFor": waiting,
        "wanted": sum(wanted(body, resource) for body in cluster.objects(None)),
    }


def _offered(node: Mapping[str, Any], resource: str) -> int:
    return whole(((node.get("status") or {}).get("allocatable") or {}).get(resource, 0))


def resource_of(body: Mapping[str, Any]) -> str:
    """The GPU resource that an object's pods request."""
    return str((body["spec"].get("gpu") or {}).get("resourceName") or GPU)


def wanted(body: Mapping[str, Any], resource: str) -> int:
    """GPUs that all replicas of an object need."""
    if resource_of(body) != resource:
        return 0
    plan = (body.get("status") or {}).get("plan") or {}
    tensor = plan.get("gpusPerReplica") or (body["spec"].get("parallelism") or {}).get("tensor") or 1
    replicas = body["spec"].get("replicas", 1)
    return replicas * tensor if isinstance(replicas, int) and isinstance(tensor, int) else 0


def _loads(event: JSON) -> bool:
    """Whether it says only that an engine does not answer before it has loaded, as every start does."""
    return event.get("reason") == "Unhealthy" and str(event.get("message")).startswith("Startup probe failed")


def warnings(cluster: Cluster, body: JSON, pods: Iterable[str]) -> list[JSON]:
    """The newest Warning events of an object and its pods, newest first; events are kept for an hour by default.

    Failed startup probes are left out: Loading, and a condition when it takes too long, say that better. So is what a
    condition says now. What several pods say is there once.

    Raises:
        BadInputError: this user may not list events.
    """
    meta = body["metadata"]
    about = {(KIND, meta["name"]), ("Deployment", meta["name"]), *(("Pod", pod) for pod in pods)}
    said = {entry.get("message") for entry in (body.get("status") or {}).get("conditions") or ()}
    options = urlencode({"fieldSelector": "type=Warning", "limit": "500"})
    path = f"/api/v1/namespaces/{meta['namespace']}/events?{options}"
    found: list[JSON] = []
    for event in cluster.get(path, "list events").get("items") or ():
        involved = event.get("involvedObject") or {}
        if (involved.get("kind"), involved.get("name")) not in about or _loads(event):
            continue
        if involved.get("kind") == KIND and event.get("message") in said:
            continue
        series = event.get("series") or {}
        found.append(
            {
                "reason": event.get("reason"),
                "message": str(event.get("message", "")),
                "count": series.get("count") or event.get("count") or 1,
                "last": series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime"),
                "about": f"{involved.get('kind')} {involved.get('name')}",
            }
        )
    newest: dict[tuple[str, str], list[JSON]] = {}
    for entry in sorted(found, key=lambda entry: str(entry["last"]), reverse=True):
        newest.setdefault((entry["reason"], entry["message"]), []).append(entry)
    return [{**same[0], "about": _abouts(same)} for same in newest.values()][:SHOWN_EVENTS]


def _abouts(events: Sequence[JSON]) -> str:
    others = len({event["about"] for event in events}) - 1
    return f"{events[0]['about']} and {others} other{'s' * (others > 1)}" if others else str(events[0]["about"])
