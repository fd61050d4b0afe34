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
    Reason("Starting", "Page", "its pod starts", "wait", severity="Info", conditions=_CONDITIONS),
    Reason(
        "Stopped", "Page", "`replicas` or `webUI.replicas` is 0", fields=("spec.webUI.replicas",),
        severity="Info", conditions=_CONDITIONS,
    ),
    Reason(
        "PageFailed", "Page", "its process ended: the message has the exit code and its last line",
        "see its log; correct `webUI.image` or the Secret of `webUI.password`",
        fields=("spec.webUI.image", "spec.webUI.password"), severity="Warning", conditions=_CONDITIONS,
    ),
)  # fmt: skip
