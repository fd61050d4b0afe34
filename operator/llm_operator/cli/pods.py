"""Pods as the API server lists them, reduced to what the commands show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from llm_operator.foreign import natural_number

JSON = dict[str, Any]

POD_LABEL = "llm-operator.dev/deployment"
"""As in llm_operator.manifests.common, which takes 0.2 s to import; a test holds them together."""
CONTAINER = "engine"
"""As in llm_operator.manifests.pod."""


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod serves."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)


def engine_status(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """The status of the engine's container: sidecars may stand before it."""
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((entry for entry in found if entry.get("name") == CONTAINER), {})


def whole(value: object) -> int:
    """A quantity of GPUs; 0 for anything else."""
    return natural_number(str(value), 8) or 0


def gpus_of(pod: Mapping[str, Any], resource: str = "nvidia.com/gpu") -> int:
    """GPUs that a pod's containers hold."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    return sum(whole(((one.get("resources") or {}).get("limits") or {}).get(resource, 0)) for one in containers)


def restarts_of(pod: Mapping[str, Any]) -> int:
    """Restarts of its engine since the pod was created."""
    return whole(engine_status(pod).get("restartCount", 0))


def pod_of(pod: Mapping[str, Any], resource: str = "nvidia.com/gpu") -> JSON:
    """Node, GPUs, restarts and the last end of a pod's engine."""
    status = pod.get("status") or {}
    engine = engine_status(pod)
    ended = (engine.get("lastState") or {}).get("terminated") or {}
    return {
        "name": pod["metadata"]["name"],
        "node": (pod.get("spec") or {}).get("nodeName"),
        "phase": status.get("phase"),
        "ready": is_ready(pod),
        "ending": "deletionTimestamp" in pod["metadata"],
        "gpus": gpus_of(pod, resource),
        "created": pod["metadata"].get("creationTimestamp"),
        "started": ((engine.get("state") or {}).get("running") or {}).get("startedAt"),
        "restarts": restarts_of(pod),
        "lastEnd": {name: ended.get(name) for name in ("reason", "exitCode", "finishedAt")} if ended else None,
    }


def seconds_since(moment: str | None, now: datetime) -> float | None:
    """Seconds since a time as the API server writes it; None: it is none."""
    try:
        return (now - datetime.fromisoformat(str(moment))).total_seconds() if moment else None
    except (ValueError, TypeError):  # not a time, or one without a zone
        return None


def load_left(body: Mapping[str, Any], pods: list[JSON], now: datetime | None = None) -> int | None:
    """Seconds until the pods that load now are ready, by how long the last start took; None: nothing is known.

    Args:
        body: the LLMDeployment.
        pods: its pods, as pod_of() gives them.
        now: the present time; None: the clock's.
    """
    took = ((body.get("status") or {}).get("measured") or {}).get("secondsToReady")
    loading = [pod["started"] for pod in pods if pod["started"] and not pod["ready"] and not pod["ending"]]
    if not isinstance(took, int) or not loading:
        return None
    ages = [seconds_since(started, now or datetime.now(UTC)) for started in loading]
    return max((round(took - age) for age in ages if age is not None), default=None)


def duration(seconds: float) -> str:
    """A time for people, in the two largest units."""
    whole_seconds = round(seconds)
    if whole_seconds < 60:
        return f"{whole_seconds} s"
    for size, unit, below, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole_seconds >= size:
            rest = whole_seconds % size // below
            return f"{whole_seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole_seconds} s"


def load_words(left: int | None) -> str | None:
    """How long a start will still take, for people."""
    if left is None:
        return None
    if left <= 0:
        return f"{duration(-left)} longer than the last start took"
    return f"about {duration(left)} left, by the last start"
