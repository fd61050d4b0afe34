"""Why a Job of the model tools does not run, or failed. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.live.claims import ClaimFacts
from llm_operator.live.refused_pods import refusal_of
from llm_operator.live.scheduling import asked_by
from llm_operator.live.trouble import TOOLS_FIELD, waiting_trouble
from llm_operator.pipeline.job_view import JobView
from llm_operator.pipeline.result import Result
from llm_operator.problems import Problem


def job_trouble(job: JobView, claims: tuple[ClaimFacts, ...] = (), nodes: str = "") -> Problem | None:
    """What keeps a Job's pod from running.

    Args:
        job: the Job.
        claims: the claims of the object, as far as they were looked at.
        nodes: what the nodes have instead of the GPU that the object requests.
    """
    if job.refused:
        text = f"the API server refuses the pods of Job {job.name}: {job.refused}"
        return refusal_of(job.refused, text)
    asked = asked_by(job.placement, nodes, claims)
    found: Iterator[Problem | None] = (
        waiting_trouble(pod, "the Job's image", TOOLS_FIELD, asked) for pod in job.pods if not pod.end
    )
    return next((trouble for trouble in found if trouble is not None), None)


def job_failure(job: JobView, result: Result | None) -> Problem:
    """Why a Job failed for good."""
    again = f"it is tried again later, at once after `kubectl delete job {job.name}`"
    if any(pod.end is not None and pod.end.reason == "OOMKilled" for pod in job.pods):
        text = f"Job {job.name} exceeded its memory limit: raise weightQuantization.resources.limits.memory"
        return Problem("HostMemoryExhausted", text, "Error", again)
    if result is not None and not result.ok:
        return Problem(result.reason, result.message, "Error", again)
    return Problem("JobFailed", f"Job {job.name} failed: {job.failure or 'no reason was given'}", "Error", again)
