"""Why a Job of the model tools does not run, or failed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llm_operator.live.claims import ClaimFacts
from llm_operator.live.refused_pods import refusal_of
from llm_operator.live.scheduling import asked_by
from llm_operator.live.trouble import TOOLS_FIELD, waiting_trouble
from llm_operator.pipeline.job_view import JobView
from llm_operator.pipeline.result import Result
from llm_operator.problems import Check, Problem, first


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


@dataclass(frozen=True, slots=True)
class _Failed:
    """A Job that failed for good, and its result."""

    job: JobView
    result: Result | None

    def problem(self, reason: str, message: str) -> Problem:
        """What is wrong, and when it is tried again."""
        again = f"it is tried again later, at once after `kubectl delete job {self.job.name}`"
        return Problem(reason, message, "Error", again)


def _memory(of: _Failed) -> Problem | None:
    if not any(pod.end is not None and pod.end.reason == "OOMKilled" for pod in of.job.pods):
        return None
    field = "the one of container 'tool' in spec.tools.podTemplate"
    if of.job.stage == "quantize":
        field = "weightQuantization.resources.limits.memory"
    text = f"Job {of.job.name} exceeded its memory limit: raise {field}"
    return of.problem("HostMemoryExhausted", text)


def _reported(of: _Failed) -> Problem | None:
    return of.problem(of.result.reason, of.result.message) if of.result is not None and not of.result.ok else None


def _of_unknown_cause(of: _Failed) -> Problem:
    return of.problem("JobFailed", f"Job {of.job.name} failed: {of.job.failure or 'no reason was given'}")


OF_JOB: tuple[Check[_Failed], ...] = (_memory, _reported)
"""Why a Job failed, if its pods or its tool say so."""


def job_failure(job: JobView, result: Result | None) -> Problem:
    """Why a Job failed for good."""
    failed = _Failed(job, result)
    return first(OF_JOB, failed) or _of_unknown_cause(failed)
