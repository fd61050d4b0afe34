"""How often a pod's container died since the pod was Ready last: what came before it is history. Pure.

The kubelet counts restarts over a pod's whole life, so three deaths in three months look like three deaths in a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

JSON = Mapping[str, Any]

FIRST_STATUS_SECONDS = 5.0
"""Within this time after the scheduler bound a pod, the kubelet writes that it is not Ready yet."""


@dataclass(frozen=True, slots=True)
class Life:
    """What is remembered of a pod from one look to the next.

    Attributes:
        uid: the pod's.
        container: the container that its restarts are of.
        restarts_when_ready: restarts that the container had when the pod was Ready last.
    """

    uid: str
    container: str
    restarts_when_ready: int


def restarts_when_ready(raw: JSON, container: JSON, before: Life | None) -> int:
    """Restarts of the container up to the time when the pod was Ready last; 0 if it never was.

    Args:
        raw: the live pod.
        container: the status of its telling container.
        before: what was remembered; None: the pod is seen for the first time, and its own times must tell.
    """
    restarts = int(container.get("restartCount", 0))
    conditions = {entry["type"]: entry for entry in (raw.get("status") or {}).get("conditions") or []}
    ready = conditions.get("Ready", {})
    if ready.get("status") == "True":
        return restarts
    if before is not None and (before.uid, before.container) == (raw["metadata"]["uid"], container.get("name", "")):
        return min(before.restarts_when_ready, restarts)
    since, bound = (
        _time(ready.get("lastTransitionTime")),
        _time(conditions.get("PodScheduled", {}).get("lastTransitionTime")),
    )
    if restarts == 0 or since is None or bound is None or (since - bound).total_seconds() <= FIRST_STATUS_SECONDS:
        return 0
    state, last = container.get("state") or {}, container.get("lastState") or {}
    began = _time((state.get("terminated") or last.get("terminated") or {}).get("startedAt"))
    # The first to die took the readiness with it; one that began later died as the second or a later one.
    return max(0, restarts - (1 if began is not None and began <= since else 2))


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
