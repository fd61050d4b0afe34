"""Kubernetes Events about transitions. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.status import Condition
from llm_operator.manifests.common import MANAGER

JSON = dict[str, Any]
EVENT_MESSAGE_LIMIT = 1024


def event_of(meta: JSON, condition: Condition, now: str) -> JSON:
    """The Event that reports a condition's change.

    Args:
        meta: metadata of the LLMDeployment.
        condition: the condition as it is now.
        now: RFC 3339 time in UTC.
    """
    bad = condition.type in ("Stalled", "Drifted", "Contested") or condition.status == "False"
    # The same news at the same time has the same name: a repeated write is refused, not doubled.
    news = f"{condition.type}{condition.status}{condition.reason}{condition.message}{now}"
    digest = hashlib.sha256(news.encode()).hexdigest()[:12]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.{digest}", "namespace": meta["namespace"]},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
        },
        "reason": condition.reason,
        "message": (condition.message or condition.reason)[:EVENT_MESSAGE_LIMIT],
        "type": "Warning" if bad else "Normal",
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": MANAGER,
    }
