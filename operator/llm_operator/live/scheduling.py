"""Why the scheduler finds no node for a pod: its message, with what the pod requires and what the nodes have. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_operator.live.claims import ClaimFacts
from llm_operator.problems import Problem

_MISSING_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')

_ENDING_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" is being deleted')

_UNBOUND = "unbound immediate PersistentVolumeClaims"

_SELECTOR = re.compile(r"node affinity/selector|node\(s\) didn't match Pod's node affinity")

_INSUFFICIENT = re.compile(r"Insufficient (\S+/\S+?)[,.]?(?:\s|$)")

_TAINT = "untolerated taint"

_GONE = re.compile(r"\. not found$")
"""Left over by the scheduler where it names a claim (kube-scheduler 1.36)."""

MOST_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """What a pod asks of a node.

    Attributes:
        selector: labels that the node must have.
        amounts: extended resources of all containers together, by name.
        claims: the claims that it mounts, as far as they were looked at.
        nodes: what the nodes have instead of the GPU that was requested; empty if one has it, or it is not known.
    """

    selector: Mapping[str, str] = field(default_factory=dict)
    amounts: Mapping[str, int] = field(default_factory=dict)
    claims: tuple[ClaimFacts, ...] = ()
    nodes: str = ""


ANYTHING = Asked()


def asked_by(pod: Mapping[str, Any] | None, nodes: str = "", claims: tuple[ClaimFacts, ...] = ()) -> Asked:
    """What the pods of a template's spec require; None if there is none."""
    spec = pod or {}
    amounts: dict[str, int] = {}
    for container in spec.get("containers") or ():
        limits = (container.get("resources") or {}).get("limits") or {}
        for name, amount in limits.items():
            if "/" in name and str(amount).isdigit():
                amounts[name] = amounts.get(name, 0) + int(amount)
    return Asked(dict(spec.get("nodeSelector") or {}), amounts, claims, nodes)


def unschedulable(message: str, asked: Asked = ANYTHING) -> Problem:
    """Why a pod has no node.

    Args:
        message: the scheduler's.
        asked: what the pod requires.
    """
    missing = _MISSING_CLAIM.search(message)
    if missing:
        text = f"PersistentVolumeClaim {missing[1]!r} does not exist in this namespace: create it, or name another one"
        return Problem("ClaimMissing", text, "Warning")
    ending = _ENDING_CLAIM.search(message)
    if ending:
        text = f"PersistentVolumeClaim {ending[1]!r} is being deleted: waiting until it is gone"
        return Problem("ClaimTerminating", text, "Warning")
    if _UNBOUND in message:
        return Problem("ClaimUnbound", _unbound(asked.claims), "Warning")
    text = f"The pod cannot be scheduled: {_GONE.sub('', message)}"
    return Problem("Unschedulable", text, "Warning", "; ".join(_remedies(message, asked)))


def _remedies(message: str, asked: Asked) -> list[str]:
    found = []
    if _SELECTOR.search(message) and asked.selector:
        labels = [f"{name}={value}" for name, value in sorted(asked.selector.items())]
        more = f" and {len(labels) - MOST_SHOWN} more" if len(labels) > MOST_SHOWN else ""
        found.append(f"it requires a node with {', '.join(labels[:MOST_SHOWN])}{more}")
    if asked.nodes:
        found.append(asked.nodes)
    short = _INSUFFICIENT.search(message)
    if short and asked.amounts.get(short[1]):
        found.append(f"it requests {asked.amounts[short[1]]:,} {short[1]} of one node")
    if _TAINT in message:
        found.append("a taint is passed with spec.tolerations")
    return found


def _unbound(claims: tuple[ClaimFacts, ...]) -> str:
    waiting = [claim for claim in claims if not claim.bound]
    if not waiting:
        return (
            "a PersistentVolumeClaim of the pod has no volume: `kubectl describe pvc` says why; one without a "
            "StorageClass needs a default StorageClass in the cluster, or cache.storageClassName"
        )
    return "; ".join(
        f"PersistentVolumeClaim {claim.name!r} has no volume: "
        + (
            f"StorageClass {claim.storage_class!r} has provided none yet; `kubectl describe pvc {claim.name}` says why"
            if claim.storage_class
            else "it names no StorageClass, and the cluster has no default one: create the claim again with a "
            "storageClassName, which is spec.cache.storageClassName for the claims that the operator creates"
        )
        for claim in waiting
    )
