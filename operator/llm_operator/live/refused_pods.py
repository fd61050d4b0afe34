"""Why a Deployment has no pods, or keeps the old ones: its own conditions, with what to do. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_operator.live.children import Child
from llm_operator.problems import Problem


@dataclass(frozen=True, slots=True)
class Signature:
    """One way in which the API server refuses a pod.

    Attributes:
        pattern: found in the message of the condition ReplicaFailure (kube-apiserver 1.30 to 1.36, admission plugins).
        reason: of our condition.
        remedy: what to do.
    """

    pattern: re.Pattern[str]
    reason: str
    remedy: str


SIGNATURES = (
    Signature(
        re.compile(r"exceeded quota|failed quota|insufficient quota"),
        "QuotaExceeded",
        "raise the namespace's ResourceQuota, lower spec.replicas or parallelism.tensor, or set in spec.resources "
        "what the quota requires",
    ),
    Signature(
        re.compile(r"violates PodSecurity"),
        "PodSecurityViolated",
        "label the namespace for a Pod Security level that admits the pod, or change what the message names",
    ),
    Signature(
        re.compile(r'serviceaccount "[^"]*" not found|error looking up service account'),
        "ServiceAccountMissing",
        "create the ServiceAccount, or correct spec.serviceAccountName",
    ),
    Signature(
        re.compile(r"no PriorityClass with name"),
        "PriorityClassMissing",
        "create the PriorityClass, or correct spec.priorityClassName",
    ),
    Signature(
        re.compile(r"[Rr]untimeClass .*not found|pod rejected: RuntimeClass"),
        "RuntimeClassMissing",
        "create the RuntimeClass, or correct spec.runtimeClassName",
    ),
    Signature(
        re.compile(r"admission webhook .*denied|ValidatingAdmissionPolicy"),
        "AdmissionDenied",
        "change what the policy names, or ask its owner for an exception",
    ),
    Signature(
        re.compile(r"failed calling webhook"),
        "WebhookUnavailable",
        "the webhook's Service does not answer: ask its owner to repair it",
    ),
    Signature(
        re.compile(r"(?:maximum|minimum) \S+ usage per \w+ is|max limit to request ratio per \w+ is"),
        "LimitRangeExceeded",
        "adapt spec.resources or parallelism.tensor to the namespace's LimitRange",
    ),
)


def refused_pods(child: Child | None) -> Problem | None:
    """Why the API server refuses the Deployment's pods; None if it does not."""
    condition = child.conditions.get("ReplicaFailure") if child is not None else None
    if condition is None or condition.status != "True":
        return None
    return refusal_of(condition.message, f"the API server refuses the pods: {condition.message or condition.reason}")


def refusal_of(message: str, text: str) -> Problem:
    """What is wrong with pods that were refused.

    Args:
        message: the API server's.
        text: what is said of it; the remedy follows.
    """
    known = next((one for one in SIGNATURES if one.pattern.search(message)), None)
    if known is None:
        return Problem("PodsRefused", text, "Warning")
    return Problem(known.reason, text, "Warning", known.remedy)


OF_OTHERS = {"QuotaExceeded": "raise the namespace's ResourceQuota, or delete what else counts against it"}
"""What to do, by reason, if the API server refuses a Job, a Deployment, a Service."""
OF_CLAIM = {
    "QuotaExceeded": "raise the namespace's ResourceQuota, or lower spec.cache.size",
    "LimitRangeExceeded": "adapt spec.cache.size to the namespace's LimitRange",
}
"""What to do, by reason, if the API server refuses a claim."""


def remedy_of(kind: str, message: str) -> str:
    """What to do about an object that was refused; empty if nothing is known that helps.

    Args:
        kind: of the object.
        message: the API server's.
    """
    known = next((one for one in SIGNATURES if one.pattern.search(message)), None)
    if known is None:
        return ""
    if kind == "PersistentVolumeClaim":
        return OF_CLAIM.get(known.reason, known.remedy)
    return OF_OTHERS.get(known.reason, known.remedy)


def overdue(child: Child | None) -> Problem | None:
    """That the Deployment has made no progress within its deadline; None if it has, or may still."""
    condition = child.conditions.get("Progressing") if child is not None else None
    if condition is None or condition.status != "False" or condition.reason != "ProgressDeadlineExceeded":
        return None
    return Problem(
        "ProgressDeadlineExceeded",
        "no pod became Ready within the Deployment's deadline (spec.startupTimeoutSeconds and 30 minutes)",
        "Warning",
        "look at the pods' events and logs, and raise spec.startupTimeoutSeconds if they only need more time",
    )
