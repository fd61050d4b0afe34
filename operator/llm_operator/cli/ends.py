"""How often the engines of an object ended and why, as far as its pods still show; pods that are gone show nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_operator.cli.pods import engine_status

JSON = dict[str, Any]


def reason_of(body: Mapping[str, Any], pod: Mapping[str, Any]) -> str | None:
    """The operator's reason for the last end of a pod's engine, as in `kubectl llm explain`; None: it has not ended.

    Args:
        body: the LLMDeployment.
        pod: as the API server lists it.
    """
    ended = (engine_status(pod).get("lastState") or {}).get("terminated")
    if not isinstance(ended, dict):
        return None
    if ended.get("reason") == "OOMKilled":
        return "HostMemoryExhausted"
    from llm_operator.engines.failures import diagnose  # noqa: PLC0415 - 0.2 s
    from llm_operator.engines.registry import ENGINES  # noqa: PLC0415

    engine = (body["spec"].get("engine") or {}).get("type")
    if engine not in ENGINES:
        return None
    return diagnose(engine, int(ended.get("exitCode", 0)), ended.get("signal"), str(ended.get("message") or "")).reason


def summary(pods: Sequence[JSON]) -> JSON | None:
    """Restarts of all pods together, since the oldest was created; None without pods.

    Args:
        pods: as pod_of() gives them.
    """
    created = [pod["created"] for pod in pods if pod["created"]]
    return {"count": sum(pod["restarts"] for pod in pods), "since": min(created)} if created else None
