"""Reasons of pods that ended as a whole, beside what their containers say."""

from __future__ import annotations

from llm_operator.reasons.types import Reason

ENDED: tuple[Reason, ...] = (
    Reason(
        "Evicted",
        "Object",
        "the kubelet or the node controller ended the pod as a whole; the reason is theirs",
        "do what the message says; where it says nothing, see `kubectl describe pod`",
        severity="Warning",
    ),
    Reason(
        "OutOfResource",
        "Object",
        "the kubelet refused the pod: when it came, its node had too little left of an extended resource, such as GPUs",
        "free the node, or check its device plugin: `kubectl describe node` has what is allocated",
        severity="Warning",
    ),
    Reason(
        "PodFailed",
        "Object",
        "a pod ended as a whole, for a reason that the message quotes",
        "see `kubectl describe pod`",
        severity="Warning",
    ),
    Reason(
        "UnexpectedAdmissionError",
        "Object",
        "the kubelet or the node controller ended the pod as a whole; the reason is theirs",
        "do what the message says; where it says nothing, see `kubectl describe pod`",
        severity="Warning",
    ),
    Reason(
        "NodeLost",
        "Object",
        "the node of a pod does not answer",
        "drain, delete or repair the node that `kubectl get pod -o wide` shows: after 5 minutes there is another pod",
        severity="Warning",
    ),
    Reason(
        "Preempting",
        "Object",
        "the kubelet or the node controller ended the pod as a whole; the reason is theirs",
        "do what the message says; where it says nothing, see `kubectl describe pod`",
        severity="Warning",
    ),
    Reason(
        "OutOfcpu",
        "Object",
        "the kubelet or the node controller ended the pod as a whole; the reason is theirs",
        "do what the message says; where it says nothing, see `kubectl describe pod`",
        severity="Warning",
    ),
    Reason(
        "OutOfmemory",
        "Object",
        "the kubelet or the node controller ended the pod as a whole; the reason is theirs",
        "do what the message says; where it says nothing, see `kubectl describe pod`",
        severity="Warning",
    ),
    Reason(
        "NodeShutdown",
        "Object",
        "the kubelet or the node controller ended the pod as a whole; the reason is theirs",
        "do what the message says; where it says nothing, see `kubectl describe pod`",
        severity="Warning",
    ),
    Reason(
        "Terminated",
        "Object",
        "the kubelet or the node controller ended the pod as a whole; the reason is theirs",
        "do what the message says; where it says nothing, see `kubectl describe pod`",
        severity="Warning",
    ),
)
