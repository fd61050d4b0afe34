"""The stages before serving: which Job must run now, what is there already, what stands in the way. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from llm_operator.api.resource import LLMDeployment
from llm_operator.live.claims import ClaimFacts
from llm_operator.live.trouble import Trouble
from llm_operator.manifests.claim import cache_volume_claim
from llm_operator.manifests.common import JSON
from llm_operator.manifests.model_source import cache_claim, digest_of, from_hub, source_claim
from llm_operator.manifests.model_volume import Prepared
from llm_operator.pipeline.artifacts import (
    LABEL_CACHE,
    Artifact,
    converted_artifact,
    fetched_directory,
    made_directory,
    quantized_artifact,
    recipe_suffix,
    source_artifact,
)
from llm_operator.pipeline.cache_claim import mismatch
from llm_operator.pipeline.inspection import UNUSABLE, inspection
from llm_operator.pipeline.job import model_job
from llm_operator.pipeline.job_trouble import job_failure, job_trouble
from llm_operator.pipeline.job_view import JobView
from llm_operator.pipeline.preparation import Preparation, StageReport
from llm_operator.pipeline.quality import quantization_status_of
from llm_operator.pipeline.renewal import is_outdated, waits_to_begin
from llm_operator.pipeline.request import JobRequest
from llm_operator.pipeline.result import Result
from llm_operator.pipeline.surroundings import Surroundings
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.settings import ToolSettings


@dataclass(slots=True)
class _Course:
    """The stages gone through so far; private to one call of prepare()."""

    resource: LLMDeployment
    observed: Surroundings
    plan: PlanOutcome
    tools: ToolSettings
    reports: list[StageReport] = field(default_factory=list)
    writes: list[JSON] = field(default_factory=list)
    outdated: list[JSON] = field(default_factory=list)
    trouble: Trouble | None = None

    def stop(self, prepared: Prepared | None = None) -> Preparation:
        return Preparation(
            tuple(self.writes), prepared, tuple(self.reports), self.trouble, outdated=tuple(self.outdated)
        )

    def claim(self, name: str | None) -> ClaimFacts | None:
        return self.observed.claims.get(name) if name is not None else None


def needed_claims(resource: LLMDeployment) -> tuple[str, ...]:
    """Names of the claims that a preparation needs to know."""
    recipe = resource.spec.weight_quantization
    text = recipe.calibration.text if recipe is not None else None
    calibration = text.persistent_volume_claim.claim_name if text and text.persistent_volume_claim else None
    names = (cache_claim(resource), source_claim(resource), calibration)
    return tuple(dict.fromkeys(name for name in names if name is not None))


def prepare(resource: LLMDeployment, observed: Surroundings, plan: PlanOutcome, tools: ToolSettings) -> Preparation:
    """Go through the stages in order, as far as they are done."""
    course = _Course(resource, observed, plan, tools)
    if not tools.enabled:
        return _without_tools(course)
    if not _claims_there(course):
        return course.stop()
    source = _source(course)
    if source is None:
        return course.stop()
    prepared, directory = source
    for stage in (_quantized, _converted):
        following = stage(course, prepared, directory)
        if following is None:
            return course.stop()
        prepared, directory = following
    return course.stop(prepared)


def inspecting(resource: LLMDeployment, observed: Surroundings, tools: ToolSettings) -> Preparation | None:
    """The look at a model on a claim or in an image; None where none is needed, or it found nothing wrong.

    What cannot be looked at (no image, no node, no time) is served without a plan rather than not at all.
    """
    artifact = source_artifact(resource)
    if artifact is None or artifact.stage != "inspect" or not tools.enabled:
        return None
    course = _Course(resource, observed, PlanOutcome("Unknown", "", "", 1), tools)
    if not _claims_there(course):
        return course.stop()
    claim = course.claim(source_claim(resource))
    request = JobRequest(resource, artifact, tools, claim)
    state, result = inspection(resource, observed, tools)
    if state != "Running" and not _to_be_made_again(observed.jobs.get(artifact.job_name), request):
        if result is None or result.ok or result.reason not in UNUSABLE:
            return None
        course.trouble = Trouble(result.reason, f"spec.model: {result.message}", stalled=True)
        return course.stop()
    _stage(course, artifact, lambda: request, "Inspecting")
    course.trouble = None
    return course.stop()


def _without_tools(course: _Course) -> Preparation:
    if course.resource.spec.cache is None:
        return course.stop(Prepared())
    text = (
        "spec.cache needs the model tools, which this operator runs without: set the chart's modelTools.enabled, or "
        "remove spec.cache"
    )
    course.trouble = Trouble("ModelToolsMissing", text, stalled=True)
    return course.stop()


def _claims_there(course: _Course) -> bool:
    made = cache_volume_claim(course.resource)
    for name in needed_claims(course.resource):
        if name not in course.observed.claims:
            continue
        found = course.observed.claims[name]
        # A claim of an earlier object of this name goes as that object has gone, also before anybody says so.
        goes = found is not None and found.managed and found.owner_uid not in (None, course.resource.metadata.uid)
        ours = made is not None and name == made["metadata"]["name"]
        if found is not None and not found.deleting and not (goes and ours):
            if made is not None and name == made["metadata"]["name"] and found.uid and not found.managed:
                text = (
                    f"PersistentVolumeClaim {name!r} exists and was not made by this operator: name it in "
                    "spec.cache.claimName to use it, or rename this object"
                )
                course.trouble = Trouble("NameConflict", text, stalled=True)
                return False
            cache = course.resource.spec.cache
            differs = mismatch(cache, found) if ours and cache is not None else None
            if differs is not None:
                course.trouble = Trouble("ClaimDiffers", differs, stalled=True)
                return False
            continue
        if found is not None:
            text = f"PersistentVolumeClaim {name!r} is being deleted: waiting until it is gone"
            course.trouble = Trouble("ClaimTerminating", text, stalled=False)
            return False
        if made is not None and name == made["metadata"]["name"]:
            course.writes.append(made)
            return False
        text = f"PersistentVolumeClaim {name!r} does not exist in this namespace: create it, or name another one"
        course.trouble = Trouble("ClaimMissing", text, stalled=False)
        return False
    return True


def _source(course: _Course) -> tuple[Prepared, str] | None:
    """The original: fetched where a hub has it, else where it lies."""
    resource, tools = course.resource, course.tools
    artifact, claim = source_artifact(resource), course.claim(cache_claim(resource))
    if artifact is None or artifact.stage != "fetch":
        path = resource.spec.model.persistent_volume_claim or resource.spec.model.image
        return Prepared(), path.path if path is not None else ""
    result = _stage(course, artifact, lambda: JobRequest(resource, artifact, tools, claim), "Fetching")
    if result is None or not _believed(course, artifact, result, fetched_directory(resource)):
        return None
    return _on_claim(Prepared(), claim, result), result.directory


def _quantized(course: _Course, prepared: Prepared, directory: str) -> tuple[Prepared, str] | None:
    resource, artifact = course.resource, quantized_artifact(course.resource)
    if artifact is None:
        return prepared, directory
    if course.plan.quantization_problems:
        text = "; ".join(course.plan.quantization_problems)
        course.trouble = Trouble("RecipeRefused", f"spec.weightQuantization: {text}", stalled=True)
        course.reports.append(StageReport("quantize", "Blocked", "RecipeRefused", text, artifact.job_name))
        return None
    output = _output_directory(resource, directory) + recipe_suffix(resource)
    result = _stage(course, artifact, lambda: _request(course, artifact, directory, output), "Quantizing")
    if result is None or not _believed(course, artifact, result, made_directory(output)):
        return None
    made = _on_claim(prepared, course.claim(cache_claim(resource)), result)
    revision = prepared.revision or result.revision
    told = quantization_status_of(result)
    return replace(made, revision=revision, format="AWQ", quantization=told), result.directory


def _converted(course: _Course, prepared: Prepared, directory: str) -> tuple[Prepared, str] | None:
    resource, artifact = course.resource, converted_artifact(course.resource)
    if artifact is None:
        return prepared, directory
    output = f"{_output_directory(resource, directory)}--turbomind-{artifact.digest[:8]}"
    result = _stage(course, artifact, lambda: _request(course, artifact, directory, output), "Converting")
    if result is None or not _believed(course, artifact, result, made_directory(output)):
        return None
    made = _on_claim(prepared, course.claim(cache_claim(resource)), result)
    return made, result.directory


def _request(course: _Course, artifact: Artifact, directory: str, output: str) -> JobRequest:
    resource, observed = course.resource, course.observed
    # A second stage reads what the first one made in the cache.
    in_cache = from_hub(resource) or directory.startswith("models/")
    return JobRequest(
        resource,
        artifact,
        course.tools,
        claim=course.claim(cache_claim(resource)),
        source_claim=None if in_cache else observed.claims.get(source_claim(resource) or ""),
        source_directory=directory,
        output_directory=output,
        memory_bytes=course.plan.quantization_memory_bytes,
        source_in_cache=in_cache,
    )


def _output_directory(resource: LLMDeployment, directory: str) -> str:
    """Directory of the cache beside which a result is put; the recipe's suffix follows."""
    if from_hub(resource) or directory.startswith("models/"):
        return directory
    model = resource.spec.model
    if model.persistent_volume_claim is not None:
        return f"models/claim--{model.persistent_volume_claim.claim_name}/{digest_of(directory)}"
    reference = model.image.reference if model.image is not None else ""
    return f"models/image--{digest_of(reference)}/{digest_of(directory)}"


def _on_claim(before: Prepared, claim: ClaimFacts | None, result: Result) -> Prepared:
    return replace(
        before,
        claim_name=claim.name if claim is not None else None,
        directory=result.directory,
        revision=result.revision or before.revision,
        bytes=result.bytes,
        single_node=claim is not None and claim.single_node,
    )


def _stage(course: _Course, artifact: Artifact, request: Callable[[], JobRequest], doing: str) -> Result | None:
    """One stage's result; None while it is not there, and then the course says why."""
    report = _judge(course, artifact, doing)
    course.reports.append(report)
    job = course.observed.jobs.get(artifact.job_name)
    if job is None and report.state == "Running" and report.reason != "Removing":
        asked = request()
        foreign = _not_labelled(asked)
        if foreign is not None:
            course.trouble = foreign
            course.reports[-1] = StageReport(artifact.stage, "Blocked", foreign.reason, foreign.message)
            return None
        course.writes.append(_made(course, asked))
    if job is not None and report.state == "Running" and report.reason != "Removing":
        _renew(course, job, request, doing)
    if report.state != "Done" or job is None:
        return None
    return job.result()


def _believed(course: _Course, artifact: Artifact, result: Result, asked: re.Pattern[str]) -> bool:
    """Whether a result is of the directory that the Job was to make: who may edit Jobs can have it tell another one."""
    if asked.fullmatch(result.directory):
        return True
    text = (
        f"Job {artifact.job_name} reports the directory {result.directory!r}, which it was not created for, so its "
        f"result is not used: kubectl delete job {artifact.job_name}"
    )
    course.trouble = Trouble("JobFailed", text, stalled=True)
    course.reports[-1] = StageReport(artifact.stage, "Blocked", "JobFailed", text, artifact.job_name)
    return False


def _made(course: _Course, request: JobRequest) -> JSON:
    incomplete = course.observed.incomplete.get(request.artifact.job_name, "")
    return model_job(replace(request, incomplete=incomplete))


def _renew(course: _Course, job: JobView, request: Callable[[], JobRequest], doing: str) -> None:
    """Have a Job made again that waits to begin, where the spec or the operator's settings now ask for another one."""
    if not waits_to_begin(job):
        return
    asked = request()
    if _to_be_made_again(job, asked):
        text = f"Job {job.name} is being made again: the spec, or the operator's settings, changed before it began"
        course.trouble = None
        course.outdated.append(_made(course, asked))
        course.reports[-1] = replace(course.reports[-1], reason=doing, message=text)
    elif course.trouble is not None and job.shared_with and _depends_on_placement(course.trouble, job, asked):
        text = (
            f"{course.trouble.message}; Job {job.name} has the placement, images and pull secrets of LLMDeployment "
            f"{job.shared_with!r}, which waits for the same model: correct that one"
        )
        course.trouble = replace(course.trouble, message=text)
        course.reports[-1] = replace(course.reports[-1], message=text)


def _depends_on_placement(trouble: Trouble, job: JobView, asked: JobRequest) -> bool:
    """Whether what keeps a Job's pod from running may be what another object asks for, and this one does not."""
    return not trouble.reason.startswith("Claim") and is_outdated(job, asked)


def _to_be_made_again(job: JobView | None, request: JobRequest) -> bool:
    if job is None or not waits_to_begin(job) or job.shared_with:
        return False
    return _not_labelled(request) is None and is_outdated(job, request)


def _not_labelled(request: JobRequest) -> Trouble | None:
    """Why a Job may not write to its claim: nobody who may change the claim has said so."""
    claim = request.claim
    if request.artifact.stage == "inspect" or claim is None or claim.cache:
        return None
    if not claim.uid:
        text = (
            f"the operator may not read PersistentVolumeClaim {claim.name!r}, and so cannot see whether it may write "
            "to it: grant it get on persistentvolumeclaims"
        )
        return Trouble("ClaimNotLabelled", text, stalled=True)
    text = (
        f"PersistentVolumeClaim {claim.name!r} was not made by this operator, which so writes nothing to it: "
        f"kubectl label pvc {claim.name} {LABEL_CACHE}=true"
    )
    return Trouble("ClaimNotLabelled", text, stalled=True)


def _judge(course: _Course, artifact: Artifact, doing: str) -> StageReport:
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
        return running(doing, f"Job {artifact.job_name} is being made")
    if job.phase == "Active":
        known = tuple(claim for claim in course.observed.claims.values() if claim is not None)
        course.trouble = job_trouble(job, known, course.plan.other_gpus)
        if course.trouble is not None:
            return running(course.trouble.reason, course.trouble.message)
        return running(doing, f"Job {job.name} runs")
    if job.phase == "Complete" and job.result() is None:
        return running(doing, f"Job {job.name} is complete, its result is being read")
    return _ended(course, artifact, job)


def _ended(course: _Course, artifact: Artifact, job: JobView) -> StageReport:
    result = job.result()
    if job.phase == "Complete" and result is not None and result.ok:
        return StageReport(artifact.stage, "Done", _DONE[artifact.stage], _done_message(result), job.name)
    course.trouble = job_failure(job, result)
    return StageReport(artifact.stage, "Blocked", course.trouble.reason, course.trouble.message, job.name)


_DONE: Mapping[str, str] = {
    "inspect": "Inspected",
    "fetch": "Cached",
    "quantize": "Quantized",
    "convert": "Converted",
}


def _done_message(result: Result) -> str:
    size = f", {result.bytes / 2**30:.2f} GiB" if result.bytes is not None else ""
    revision = f", revision {result.revision}" if result.revision else ""
    told = f"; {result.message}" if result.message else ""
    return f"{result.directory}{size}{revision}{told}"
