"""Reasons of the condition WebUIReady: the chat page beside an engine. Pure."""

from __future__ import annotations

from llm_operator.reasons.types import Reason

_CONDITIONS = ("WebUIReady",)
PAGE: tuple[Reason, ...] = (
    Reason("Serving", "Page", "the message has the page's URL in the cluster", severity="Info", conditions=_CONDITIONS),
    Reason(
        "WaitingForEngine", "Page", "no engine has been started yet: the page starts with it", "wait",
        severity="Info", conditions=_CONDITIONS,
    ),
    Reason(
        "PodTemplateRefused", "Page", "a dry run with `webUI.podTemplate` was refused; the page is left as it is",
        "correct the field that the message names ([pods.md](pods.md))",
        fields=("spec.webUI.podTemplate",), severity="Warning", conditions=_CONDITIONS,
    ),
    Reason(
        "InvalidPodTemplate", "Page", "no pod template has the field of `webUI.podTemplate`; the page is left as it is",
        "correct the field that the message names ([pods.md](pods.md))",
        fields=("spec.webUI.podTemplate",), conditions=_CONDITIONS,
    ),
    Reason(
        "ConflictingPodTemplate", "Page",
        "the field of `webUI.podTemplate` belongs to the operator; the page is left as it is",
        "correct the field that the message names ([pods.md](pods.md))",
        fields=("spec.webUI.podTemplate",), conditions=_CONDITIONS,
    ),
    Reason("Starting", "Page", "its pod starts", "wait", severity="Info", conditions=_CONDITIONS),
    Reason(
        "Stopped", "Page", "`replicas` or `webUI.replicas` is 0", fields=("spec.webUI.replicas",),
        severity="Info", conditions=_CONDITIONS,
    ),
    Reason(
        "PageFailed", "Page", "its process ended: the message has the exit code and its last line",
        "see its log with `kubectl logs`; correct `webUI.image` or the Secret of `webUI.password`",
        fields=("spec.webUI.image", "spec.webUI.password"), severity="Warning", conditions=_CONDITIONS,
    ),
)  # fmt: skip
