"""Whether a Job that waits to begin is still what would be made now. Pure.

Its pod template cannot change. A corrected placement, image or pull secret reaches it only if it is made again, which
costs nothing before a pod of it works.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_operator.pipeline.job import job_template, template_digest
from llm_operator.pipeline.job_view import PLACEMENT, JobView
from llm_operator.pipeline.request import JobRequest


def waits_to_begin(job: JobView) -> bool:
    """Whether the Job has no pod that works, nor an end."""
    return job.phase == "Active" and not job.deleting and not job.abandoned and not job.begun


def is_outdated(job: JobView, request: JobRequest) -> bool:
    """Whether another Job would be made of this request now."""
    if job.template_digest:
        return job.template_digest != template_digest(request)
    # Made by an operator that wrote down no digest. The API server adds nothing to these fields.
    return _said(job.placement) != _said(job_template(request)["spec"])


def _said(pod: Mapping[str, Any]) -> dict[str, Any]:
    return {name: pod[name] for name in PLACEMENT if pod.get(name)}
