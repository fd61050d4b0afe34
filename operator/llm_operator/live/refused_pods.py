"""Why a Deployment has no pods, or keeps the old ones: its own conditions, with what to do. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_operator.live.children import Child


@dataclass(frozen=True, slots=True)
class Refusal:
    """One way in which the API server refuses a pod.

    Attributes:
        pattern: found in the message of the condition ReplicaFailure (kube-apiserver 1.30 to 1.36, admission plugins).
        reason: of our condition.
        remedy: what to do.
    """

    pattern: re.Pattern[str]
    reason: str
    remedy: str


REFUSALS = (
    Refusal(
        re.compile(r"exceeded quota|failed quota|insufficient quota"),
        "QuotaExceeded",
        "raise the namespace's ResourceQuota, lower spec.replicas or parallelism.tensor, or set in spec.resources "
        "what the quota requires",
    ),
    Refusal(
        re.compile(r"violates PodSecurity"),
        "PodSecurityViolated",
        "label the namespace for a Pod Security level that admits the pod, or change what the message names",
    ),
    Refusal(
        re.compile(r'serviceaccount "[^"]*" not found|error looking up service account'),
        "ServiceAccountMissing",
        "create the ServiceAccount, or correct spec.serviceAccountName",
    ),
    Refusal(
        re.compile(r"no PriorityClass with name"),
        "PriorityClassMissing",
        "create the PriorityClass, or correct spec.priorityClassName",
    ),
    Refusal(
        re.compile(r"[Rr]untimeClass .*not found|pod rejected: RuntimeClass"),
        "RuntimeClassMissing",
        "create the RuntimeClass, or correct spec.runtimeClassName",
    ),
    Refusal(
        re.compile(r"admission webhook .*denied|ValidatingAdmissionPolicy"),
        "AdmissionDenied",
        "change what the policy names, or ask its owner for an exception",
    ),
    Refusal(
        re.compile(r"failed calling webhook"),
        "WebhookUnavailable",
        "the webhook's Service does not answer: ask its owner to repair it",
    ),
    Refusal(
        re.compile(r"maximum (cpu|memory).*per (Container|Pod)|minimum (cpu|memory).*per (Container|Pod)"),
        "LimitRangeExceeded",
        "adapt spec.resources to the namespace's LimitRange",
    ),
)


def refused_pods(child: Child | None) -> tuple[str, str] | None:
    """Reason and message if the API server refuses the Deployment's pods; None if it does not."""
    condition = child.conditions.get("ReplicaFailure") if child is not None else None
    if condition is None or condition.status != "True":
        return None
    return refusal_of(condition.message, f"the API server refuses the pods: {condition.message or condition.reason}")


def refusal_of(message: str, text: str) -> tuple[str, str]:
    """Reason and message of a refusal of pods.

    Args:
        message: the API server's.
        text: what is said of it; the remedy follows.
    """
    known = next((refusal for refusal in REFUSALS if refusal.pattern.search(message)), None)
    return (known.reason, f"{text}; {known.remedy}") if known is not None else ("PodsRefused", text)


def overdue(child: Child | None) -> tuple[str, str] | None:
    """Reason and message if the Deployment has made no progress within its deadline."""
    condition = child.conditions.get("Progressing") if child is not None else None
    if condition is None or condition.status != "False" or condition.reason != "ProgressDeadlineExceeded":
        return None
    text = (
        "no pod became Ready within the Deployment's deadline (spec.startupTimeoutSeconds and 30 minutes); look at the "
        "pods' events and logs, and raise spec.startupTimeoutSeconds if they only need more time"
    )
    return "ProgressDeadlineExceeded", text
