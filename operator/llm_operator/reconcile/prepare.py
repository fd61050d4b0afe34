"""The stages before serving: which Job must run now, what is there already, what stands in the way. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.artifacts import (
    LABEL_CACHE,
    Artifact,
    Stage,
    cache_claim,
    converted_artifact,
    digest_of,
    fetched_directory,
    from_hub,
    made_directory,
    quantized_artifact,
    recipe_suffix,
    source_artifact,
    source_claim,
)
from llm_operator.manifests.claim import cache_volume_claim
from llm_operator.manifests.common import JSON
from llm_operator.manifests.model_job import ClaimFacts, JobRequest, model_job
from llm_operator.manifests.model_volume import Prepared
from llm_operator.manifests.tools import ToolSettings
from llm_operator.reconcile.cache_claim import mismatch
from llm_operator.reconcile.diagnose import TOOLS_FIELD, Trouble, waiting_trouble
from llm_operator.reconcile.jobs import JobView, Result
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.outcome import PlanOutcome
from llm_operator.reconcile.refused_pods import refusal_of
from llm_operator.reconcile.renewal import is_outdated, waits_to_begin
from llm_operator.reconcile.scheduling import asked_by

State = Literal["Done", "Running", "Blocked"]
Looked = tuple[State, Result | None]
"""How far the look at a model's files is, and what it told; Done without a result: nothing can be known. Blocked: its
pod cannot start, for now."""
UNUSABLE = ("ModelPathMissing", "ModelConfigMissing", "WeightsMissing")
"""What an inspection says of files that no engine will serve."""


CLAIM_TROUBLES = ("ClaimMissing", "ClaimTerminating", "ClaimNotLabelled", "ClaimDiffers", "NameConflict")
"""What is wrong with a claim; nothing tells when that changes."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """How one stage stands, for its condition.

    Attributes:
        stage: which one.
        state: done, running, or blocked by something that somebody must change.
        reason: CamelCase word.
        message: what is there, or what stands in the way.
        job: name of its Job.
    """

    stage: Stage
    state: State
    reason: str
    message: str
    job: str = ""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What must be written before the engine can be rendered, and how far everything is.

    Attributes:
        writes: claims and Jobs that must exist now and do not.
        outdated: Jobs that wait to begin and are to be made again, as they are to be.
        prepared: what the engine's pod mounts; None while that is not there.
        reports: the stages that were looked at, in order.
        trouble: what stands in the way.
    """

    writes: tuple[JSON, ...] = ()
    prepared: Prepared | None = None
    reports: tuple[StageReport, ...] = ()
    trouble: Trouble | None = None
    outdated: tuple[JSON, ...] = ()

    @property
    def claim_missing(self) -> bool:
        """A claim that is needed does not exist, or not any more: nothing tells when that changes."""
        return self.trouble is not None and self.trouble.reason in CLAIM_TROUBLES

    @property
    def running(self) -> StageReport | None:
        """The stage that runs."""
        return next((report for report in self.reports if report.state == "Running"), None)


@dataclass(slots=True)
class _Course:
    """The stages gone through so far; private to one call of prepare()."""

    resource: LLMDeployment
    observed: Observed
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


def inspection(resource: LLMDeployment, observed: Observed, tools: ToolSettings) -> Looked:
    """What the Job that looked at a model's files told of them; Done without a result: nothing can be known."""
    artifact = source_artifact(resource)
    if artifact is None or not tools.enabled or (artifact.stage == "inspect" and not tools.inspect):
        return "Done", None
    job = observed.jobs.get(artifact.job_name)
    if job is None or job.deleting or job.abandoned:
        return "Running", None
    result = job.result()
    if job.phase == "Active" or (job.phase == "Complete" and result is None):
        # A pod that cannot start is not waited for as long as a Job may take: what it would tell is of use, not needed.
        cannot = artifact.stage == "inspect" and job_trouble(job) is not None
        return ("Blocked" if cannot else "Running"), None
    return "Done", result


def prepare(resource: LLMDeployment, observed: Observed, plan: PlanOutcome, tools: ToolSettings) -> Preparation:
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


def inspecting(resource: LLMDeployment, observed: Observed, tools: ToolSettings) -> Preparation | None:
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
    told = _quantization_status(result)
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
    course.trouble = _failure(job, result)
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


def job_trouble(job: JobView, claims: tuple[ClaimFacts, ...] = (), nodes: str = "") -> Trouble | None:
    """What keeps a Job's pod from running.

    Args:
        job: the Job.
        claims: the claims of the object, as far as they were looked at.
        nodes: what the nodes have instead of the GPU that the object asks for.
    """
    if job.refused:
        text = f"the API server refuses the pods of Job {job.name}: {job.refused}"
        return Trouble(*refusal_of(job.refused, text), stalled=False)
    asked = asked_by(job.placement, nodes, claims)
    found: Iterator[Trouble | None] = (
        waiting_trouble(pod, "the Job's image", TOOLS_FIELD, asked) for pod in job.pods if not pod.end
    )
    return next((trouble for trouble in found if trouble is not None), None)


def _failure(job: JobView, result: Result | None) -> Trouble:
    """Why a Job failed for good."""
    again = f"; it is tried again later, at once after `kubectl delete job {job.name}`"
    if any(pod.end is not None and pod.end.reason == "OOMKilled" for pod in job.pods):
        text = f"Job {job.name} exceeded its memory limit: raise weightQuantization.resources.limits.memory"
        return Trouble("HostMemoryExhausted", text + again, stalled=True)
    if result is not None and not result.ok:
        return Trouble(result.reason, result.message + again, stalled=True)
    return Trouble("JobFailed", f"Job {job.name} failed: {job.failure or 'no reason was given'}{again}", stalled=True)


_QUALITY = ("perplexityOriginal", "perplexityQuantized", "perplexityIncreasePercent", "agreementPercent")


def quality_warning(quality: Mapping[str, object]) -> str | None:
    """What is wrong with a quantization's quality; None where nothing is, or it was not to be measured."""
    if quality.get("exceeded") is True:
        increase = quality.get("perplexityIncreasePercent")
        return f"the perplexity rose by {increase} %, more than weightQuantization.quality allows"
    error = quality.get("error")
    return f"the quality could not be measured: {error}"[:1024] if isinstance(error, str) else None


def _quantization_status(result: Result) -> Mapping[str, str | int]:
    """status.quantization from what the Job told."""
    quality = result.more.get("quality")
    told = quality if isinstance(quality, dict) else {}
    numbers = {name: told[name] for name in _QUALITY if isinstance(told.get(name), str | int)}
    warning = quality_warning(told)
    if warning is not None:
        numbers["warning"] = warning
    recipe, version = result.more.get("recipe"), result.more.get("toolVersion")
    words = ", ".join(f"{key} {value}" for key, value in recipe.items()) if isinstance(recipe, dict) else str(recipe)
    return {"recipe": words[:1024], **({"toolVersion": version} if isinstance(version, str) else {}), **numbers}
