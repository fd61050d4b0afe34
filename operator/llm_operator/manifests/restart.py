"""New pods on request: an annotation of the object as one of its pod templates, as kubectl restarts a rollout.

A changed value replaces the pods. An annotation that is taken away replaces nothing: what runs is as new as it was.
"""

from __future__ import annotations

import re
from datetime import datetime

from llm_operator.api.names import ANNOTATION_RESTARTED
from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.common import JSON
from llm_operator.problems import Problem, wrong_field

FIELD = f"metadata.annotations[{ANNOTATION_RESTARTED}]"
_TIME = re.compile(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-][0-2][0-9]:[0-5][0-9])"
)


def check_restart(resource: LLMDeployment) -> tuple[Problem, ...]:
    """What is wrong with the annotation: it must be a time as RFC 3339 writes it."""
    text = resource.metadata.restarted_at
    if text is None or _is_time(text):
        return ()
    shown = text if len(text) <= 64 else f"{text[:64]}..."
    message = (
        f"{shown!r} is not a time such as 2026-01-31T12:00:00Z: run `kubectl llm restart {resource.metadata.name}`, "
        "or correct or remove the annotation; no pod was replaced"
    )
    return (wrong_field("InvalidRestart", FIELD, message),)


def _is_time(text: str) -> bool:
    try:
        return _TIME.fullmatch(text) is not None and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def with_restart(template: JSON, restarted_at: str | None) -> JSON:
    """The pod template with the time of the request; without one, as it is."""
    if restarted_at is None or restart_of(template) == restarted_at:
        return template
    metadata = template["metadata"]
    annotations = {**(metadata.get("annotations") or {}), ANNOTATION_RESTARTED: restarted_at}
    return {**template, "metadata": {**metadata, "annotations": annotations}}


def restart_of(template: JSON) -> str | None:
    """The time of the request that a pod template was made for; None: there was none."""
    found = (template["metadata"].get("annotations") or {}).get(ANNOTATION_RESTARTED)
    return found if isinstance(found, str) else None
