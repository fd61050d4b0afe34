"""Why the scheduler finds no node for a pod: its message, with what the pod requires and what the nodes have. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_operator.foreign import natural_number
from llm_operator.live.claims import ClaimFacts
from llm_operator.live.heard import WAITS_FOR_POD, Word
from llm_operator.live.pods import Pod
from llm_operator.problems import Problem

_MISSING_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')

_ENDING_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" is being deleted')

_NO_CLASS = re.compile(r'storageclass\S* "[^"]*" not found')

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
            number = natural_number(str(amount)) if "/" in name else None
            if number is not None:
                amounts[name] = amounts.get(name, 0) + number
    return Asked(dict(spec.get("nodeSelector") or {}), amounts, claims, nodes)


def unschedulable(message: str, asked: Asked = ANYTHING) -> Problem:
    """Why a pod has no node.

    Args:
        message: the scheduler's.
        asked: what the pod requires.
    """
    lost = _lost(asked.claims)
    if lost is not None:
        return lost
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


def not_scheduled(pod: Pod, asked: Asked) -> Problem | None:
    """Why a pod has no node, of which its condition says nothing; None if nothing is known.

    While a claim gets its volume on the node that the scheduler chose, the condition is silent for minutes.

    Args:
        pod: the pod.
        asked: what it requires.
    """
    if pod.heard is None:
        return None
    lost = _lost(asked.claims)
    if lost is not None:
        return lost
    if any(_fault_of(claim) for claim in asked.claims if not claim.bound):
        return Problem("ClaimUnbound", _unbound(asked.claims), "Warning")
    words = pod.heard.of("FailedScheduling")
    return unschedulable(words[0].message, asked) if words else None


def _lost(claims: tuple[ClaimFacts, ...]) -> Problem | None:
    """A claim whose volume is gone: no node takes a pod that mounts it."""
    claim = next((claim for claim in claims if claim.lost), None)
    if claim is None:
        return None
    again = (
        "the operator creates it and downloads the model again"
        if claim.managed
        else "create it again, with what is to be on it"
    )
    return Problem(
        "ClaimLost",
        f"PersistentVolumeClaim {claim.name!r} has lost its PersistentVolume, and all files with it",
        "Warning",
        f"restore the PersistentVolume from a backup, or `kubectl delete pvc {claim.name}`: {again}",
    )


def _fault_of(claim: ClaimFacts) -> Word | None:
    """What keeps a claim from getting a volume."""
    words = claim.heard.words if claim.heard is not None else ()
    return next((word for word in words if word.reason != WAITS_FOR_POD), None)


def _unbound(claims: tuple[ClaimFacts, ...]) -> str:
    waiting = [claim for claim in claims if not claim.bound and not _waits_for_pod(claim)]
    if not waiting:
        return (
            "a PersistentVolumeClaim of the pod has no volume: `kubectl describe pvc` says why; one without a "
            "StorageClass needs a default StorageClass in the cluster, or cache.storageClassName"
        )
    return "; ".join(f"PersistentVolumeClaim {claim.name!r} has no volume: {_why_unbound(claim)}" for claim in waiting)


def _waits_for_pod(claim: ClaimFacts) -> bool:
    return claim.heard is not None and bool(claim.heard.words) and _fault_of(claim) is None


def _why_unbound(claim: ClaimFacts) -> str:
    fault = _fault_of(claim)
    if claim.storage_class is None and (fault is None or fault.reason == "FailedBinding"):
        return (
            "it names no StorageClass, and the cluster has no default one: create the claim again with a "
            "storageClassName, which is spec.cache.storageClassName for the claims that the operator creates"
        )
    if not claim.storage_class and (fault is None or fault.reason == "FailedBinding"):
        return "it has the storageClassName '', and no PersistentVolume fits it: create one, or name a StorageClass"
    if fault is None:
        unseen = f" ({claim.heard.unseen})" if claim.heard is not None and claim.heard.unseen else ""
        return (
            f"StorageClass {claim.storage_class!r} has provided none yet; `kubectl describe pvc {claim.name}` says why"
            f"{unseen}"
        )
    if fault.reason == "ExternalProvisioning":
        return f"{fault.message}; check that the provisioner of StorageClass {claim.storage_class!r} runs"
    if _NO_CLASS.search(fault.message):
        return f"{fault.message}; create the StorageClass, or create the claim again with another storageClassName"
    return f"{fault.message}; correct the StorageClass or what it needs, or create a PersistentVolume for the claim"
