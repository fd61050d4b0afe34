"""What a pod waits for that has not started, as far as nothing is known to be wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from llm_operator.live.pods import Pod

EVICTED = ": request in spec.resources what the pod needs, or free the node"


def waits_for(pods: Iterable[Pod]) -> str:
    """What the first pod that waits says of it; empty if none does.

    Args:
        pods: those of the current spec.
    """
    found = (_waits(pod) for pod in pods if not pod.deleting)
    return next((text for text in found if text), "")


def predecessor(pods: Iterable[Pod], current: Iterable[Pod]) -> str:
    """Which pod was ended before its time, when and why, if that is why there is a new one; empty if none was.

    Args:
        pods: all of the object.
        current: those of the current spec.
    """
    ended = [pod for pod in pods if pod.deleting and (pod.disrupted or pod.node_lost)]
    ended += [pod for pod in current if pod.phase == "Failed" and (pod.failure or pod.disrupted)]
    if not ended:
        return ""
    last = max(ended, key=lambda pod: (pod.ready_at or "", pod.name))
    if last.deleting and last.node_lost:
        return (
            f"pod {last.name} is being deleted and does not end, since its node does not answer: repair or delete the "
            "node"
        )
    why = f"{last.failure}: {last.failure_message or 'no message'}" if last.failure else last.disrupted
    at = f" at {last.ready_at}" if last.ready_at else ""
    remedy = EVICTED if last.failure == "Evicted" else ""
    return f"pod {last.name} was ended{at} ({why.strip().rstrip('.')}){remedy}"


def _waits(pod: Pod) -> str:
    unseen = f" ({pod.heard.unseen})" if pod.heard is not None and pod.heard.unseen else ""
    if pod.gated:
        return f"pod {pod.name} is held back by its scheduling gates: {pod.gated}"
    if pod.awaits == "Node" and pod.heard is not None:
        return (
            f"scheduler {pod.scheduler or 'default-scheduler'!r} has not said anything of pod {pod.name}: check that "
            f"it runs, or correct schedulerName in spec.podTemplate{unseen}"
        )
    if pod.mounts:
        names = ", ".join(what for _, what in pod.mounts)
        return (
            f"pod {pod.name} waits for its volumes and its network: {names}; each must exist and be mountable on the "
            f"node: kubectl describe pod {pod.name} shows which is not{unseen}"
        )
    if pod.awaits == "Start" and pod.heard is not None:
        return f"pod {pod.name} waits for the kubelet of its node{unseen}"
    return ""
