"""How far one artifact of an object is: its report, the Job to write, what stands in the way. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from llm_operator.api.resource import LLMDeployment
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.common import JSON
from llm_operator.manifests.model_volume import Prepared
from llm_operator.pipeline.artifacts import Artifact
from llm_operator.pipeline.claims import not_labelled
from llm_operator.pipeline.graph import Node
from llm_operator.pipeline.job import model_job
from llm_operator.pipeline.job_trouble import job_failure, job_trouble
from llm_operator.pipeline.job_view import JobView
from llm_operator.pipeline.preparation import Preparation, StageReport
from llm_operator.pipeline.renewal import is_outdated, waits_to_begin
from llm_operator.pipeline.request import JobRequest
from llm_operator.pipeline.result import Result
from llm_operator.pipeline.surroundings import Surroundings
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.problems import Problem
from llm_operator.settings import ToolSettings


@dataclass(slots=True)
class Course:
    """Collects what the nodes of one branch come to; lives for one call of prepare()."""

    resource: LLMDeployment
    observed: Surroundings
    plan: PlanOutcome
    tools: ToolSettings
    reports: list[StageReport] = field(default_factory=list)
    writes: list[JSON] = field(default_factory=list)
    outdated: list[JSON] = field(default_factory=list)
    trouble: Problem | None = None

    def stop(self, prepared: Prepared | None = None) -> Preparation:
        """Return what was collected."""
        return Preparation(
            tuple(self.writes), prepared, tuple(self.reports), self.trouble, outdated=tuple(self.outdated)
        )

    def claim(self, name: str | None) -> ClaimFacts | None:
        """Return a claim that was looked up; None: it does not exist, or there is no name."""
        return self.observed.claims.get(name) if name is not None else None


def result_of(course: Course, artifact: Artifact, node: Node, request: Callable[[], JobRequest]) -> Result | None:
    """The result of a node's Job; None while it is not there, and then the course says why."""
    report = _judge(course, artifact, node)
    course.reports.append(report)
    job = course.observed.jobs.get(artifact.job_name)
    if job is None and report.state == "Running" and report.reason != "Removing":
        asked = request()
        foreign = not_labelled(asked)
        if foreign is not None:
            course.trouble = foreign
            course.reports[-1] = StageReport(artifact.stage, "Blocked", foreign.reason, foreign.text)
            return None
        course.writes.append(_made(course, asked))
    if job is not None and report.state == "Running" and report.reason != "Removing":
        _renew(course, job, request, node.doing)
    if report.state != "Done" or job is None:
        return None
    return job.result()


def is_believed(course: Course, artifact: Artifact, result: Result, asked: re.Pattern[str]) -> bool:
    """Whether a result is of the directory that the Job was to make: who may edit Jobs can have it tell another one."""
    if asked.fullmatch(result.directory):
        return True
    text = (
        f"Job {artifact.job_name} reports the directory {result.directory!r}, which it was not created for, so its "
        f"result is not used: kubectl delete job {artifact.job_name}"
    )
    course.trouble = Problem("JobFailed", text, "Error")
    course.reports[-1] = StageReport(artifact.stage, "Blocked", "JobFailed", text, artifact.job_name)
    return False


def _made(course: Course, request: JobRequest) -> JSON:
    leftover = course.observed.leftovers.get(request.artifact.job_name, "")
    return model_job(replace(request, leftover=leftover))


def _renew(course: Course, job: JobView, request: Callable[[], JobRequest], doing: str) -> None:
    """Have a Job made again that waits to begin, if the spec or the operator's settings now require another one."""
    if not waits_to_begin(job):
        return
    asked = request()
    if to_be_made_again(job, asked):
        text = f"Job {job.name} is being made again: the spec, or the operator's settings, changed before it began"
        course.trouble = None
        course.outdated.append(_made(course, asked))
        course.reports[-1] = replace(course.reports[-1], reason=doing, message=text)
    elif course.trouble is not None and job.shared_with and _depends_on_placement(course.trouble, job, asked):
        text = (
            f"{course.trouble.text}; Job {job.name} has the placement, images and pull secrets of LLMDeployment "
            f"{job.shared_with!r}, which waits for the same model: correct that one"
        )
        course.trouble = replace(course.trouble, message=text, remedy="")
        course.reports[-1] = replace(course.reports[-1], message=text)


def _depends_on_placement(trouble: Problem, job: JobView, asked: JobRequest) -> bool:
    """Whether what keeps a Job's pod from running may be what another object requests, and this one does not."""
    return not trouble.reason.startswith("Claim") and is_outdated(job, asked)


def to_be_made_again(job: JobView | None, request: JobRequest) -> bool:
    """Whether a Job waits to begin, is this object's alone, and another one would be made now."""
    if job is None or not waits_to_begin(job) or job.shared_with:
        return False
    return not_labelled(request) is None and is_outdated(job, request)


def _judge(course: Course, artifact: Artifact, node: Node) -> StageReport:
    """How a stage stands; what blocks it becomes the course's trouble."""

    def running(reason: str, message: str) -> StageReport:
        return StageReport(artifact.stage, "Running", reason, message, artifact.job_name)

    jobs = course.observed.jobs
    job = jobs.get(artifact.job_name)
    claims = {claim.uid for claim in course.observed.claims.values() if claim is not None}
    removing = None
    if job is not None and job.claim_uid and claims and job.claim_uid not in claims | {""}:
        removing = f"Job {job.name} filled a claim that is gone; it is being deleted"
    elif job is not None and not job.deleting and job.removal() in jobs:
        removing = "an unused copy is being removed from the cache first"
    if removing is not None:
        return running("Removing", removing)
    if job is None or job.deleting or job.abandoned:
        return running(node.doing, f"Job {artifact.job_name} is being made")
    if job.phase == "Active":
        known = tuple(claim for claim in course.observed.claims.values() if claim is not None)
        course.trouble = job_trouble(job, known, course.plan.other_gpus)
        if course.trouble is not None:
            return running(course.trouble.reason, course.trouble.text)
        waits = "is suspended (spec.suspend): it begins once its queue, such as Kueue, admits it"
        return running(node.doing, f"Job {job.name} {waits if job.suspended else 'runs'}")
    if job.phase == "Complete" and job.result() is None:
        return running(node.doing, f"Job {job.name} is complete, its result is being read")
    return _ended(course, artifact, node, job)


def _ended(course: Course, artifact: Artifact, node: Node, job: JobView) -> StageReport:
    result = job.result()
    if job.phase == "Complete" and result is not None and result.ok:
        return StageReport(artifact.stage, "Done", node.done, _done_message(result), job.name)
    course.trouble = job_failure(job, result)
    return StageReport(artifact.stage, "Blocked", course.trouble.reason, course.trouble.text, job.name)


def _done_message(result: Result) -> str:
    size = f", {result.bytes / 2**30:.2f} GiB" if result.bytes is not None else ""
    revision = f", revision {result.revision}" if result.revision else ""
    told = f"; {result.message}" if result.message else ""
    return f"{result.directory}{size}{revision}{told}"
