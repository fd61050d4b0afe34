"""The stages before serving: which Job must run now, what is there already, what stands in the way. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llm_operator.api.resource import LLMDeployment
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.model_source import cache_claim, from_hub, source_claim
from llm_operator.manifests.model_volume import Mount, Prepared
from llm_operator.pipeline.artifacts import Artifact, inspected_artifact
from llm_operator.pipeline.claims import missing_claim
from llm_operator.pipeline.course import Course, is_believed, result_of, to_be_made_again
from llm_operator.pipeline.graph import MODEL, NODES, Node, branches
from llm_operator.pipeline.inspection import UNUSABLE, inspection
from llm_operator.pipeline.preparation import Preparation, StageReport
from llm_operator.pipeline.request import JobRequest
from llm_operator.pipeline.result import Result
from llm_operator.pipeline.surroundings import Surroundings
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.problems import Problem
from llm_operator.settings import ToolSettings

Needed = Sequence[tuple[Node, Artifact]]


def prepare(resource: LLMDeployment, observed: Surroundings, plan: PlanOutcome, tools: ToolSettings) -> Preparation:
    """Go through the branches of the graph, as far as each is done."""
    course = Course(resource, observed, plan, tools)
    if not tools.enabled:
        return _without_tools(course)
    if not _claims_there(course):
        return course.stop()
    needed = {
        branch: [(node, artifact) for node in nodes if (artifact := node.artifact(resource)) is not None]
        for branch, nodes in branches().items()
    }
    ends = {branch: _end(course, branch, nodes) for branch, nodes in needed.items() if nodes or branch == MODEL}
    model = ends.pop(MODEL)
    if model is None or None in ends.values():
        return course.stop()
    beside = (
        Mount(branch, end.claim_name or "", end.directory, single_node=end.single_node)
        for branch, end in ends.items()
        if end is not None
    )
    return course.stop(replace(model, beside=tuple(beside)))


def inspecting(resource: LLMDeployment, observed: Surroundings, tools: ToolSettings) -> Preparation | None:
    """Inspect a model on a PVC or in an image; None: not needed, or no problem found.

    A model that cannot be inspected (no image, no node, no time) is served without a plan rather than not at all.
    """
    artifact = inspected_artifact(resource)
    if artifact is None or not tools.enabled:
        return None
    course = Course(resource, observed, PlanOutcome("Unknown", "", "", 1), tools)
    if not _claims_there(course):
        return course.stop()
    claim = course.claim(source_claim(resource))
    request = JobRequest(resource, artifact, tools, claim)
    state, result = inspection(resource, observed, tools)
    if state != "Running" and not to_be_made_again(observed.jobs.get(artifact.job_name), request):
        if result is None or result.ok or result.reason not in UNUSABLE:
            return None
        course.trouble = Problem(result.reason, f"spec.model: {result.message}", "Error")
        return course.stop()
    result_of(course, artifact, NODES["inspect"], lambda: request)
    course.trouble = None
    return course.stop()


def _without_tools(course: Course) -> Preparation:
    if course.resource.spec.cache is None:
        return course.stop(Prepared())
    text = (
        "spec.cache needs the model tools, which this operator runs without: set the chart's modelTools.enabled, or "
        "remove spec.cache"
    )
    course.trouble = Problem("ModelToolsMissing", text, "Error")
    return course.stop()


def _claims_there(course: Course) -> bool:
    missing = missing_claim(course.resource, course.observed)
    if isinstance(missing, Problem):
        course.trouble = missing
    elif missing is not None:
        course.writes.append(missing)
    return missing is None


def _end(course: Course, branch: str, needed: Needed) -> Prepared | None:
    """What the last node of a branch made; None while it is not there, and then the course says why."""
    # With its own course: what holds one branch up does not hide what holds up another.
    part = Course(course.resource, course.observed, course.plan, course.tools)
    found = _go_through(part, needed, _original(course.resource) if branch == MODEL else "")
    course.reports += part.reports
    course.writes += part.writes
    course.outdated += part.outdated
    course.trouble = course.trouble or part.trouble
    return found


def _original(resource: LLMDeployment) -> str:
    """Directory of a model that no stage fetches, on its own volume."""
    source = resource.spec.model.persistent_volume_claim or resource.spec.model.image
    return source.path if source is not None else ""


def _go_through(course: Course, needed: Needed, directory: str) -> Prepared | None:
    prepared = Prepared()
    for node, artifact in needed:
        problems = node.problems(course.plan)
        if problems:
            text = "; ".join(problems)
            course.trouble = Problem("RecipeRefused", f"spec.weightQuantization: {text}", "Error")
            course.reports.append(StageReport(artifact.stage, "Blocked", "RecipeRefused", text, artifact.job_name))
            return None
        result = _result(course, node, artifact, directory)
        if result is None:
            return None
        claim = course.claim(cache_claim(course.resource))
        prepared = node.prepared(_on_claim(prepared, claim, result), prepared, result)
        directory = result.directory
    return prepared


def _result(course: Course, node: Node, artifact: Artifact, directory: str) -> Result | None:
    output = node.output(course.resource, artifact, directory)
    found = result_of(course, artifact, node, lambda: _request(course, node, artifact, directory, output))
    return found if found is not None and is_believed(course, artifact, found, node.makes(artifact, output)) else None


def _request(course: Course, node: Node, artifact: Artifact, directory: str, output: str) -> JobRequest:
    resource, observed = course.resource, course.observed
    claim = course.claim(cache_claim(resource))
    if artifact.stage == "fetch":
        return JobRequest(resource, artifact, course.tools, claim, model=node.model(resource))
    # A second stage reads what the first one made in the cache.
    in_cache = from_hub(resource) or directory.startswith("models/")
    return JobRequest(
        resource,
        artifact,
        course.tools,
        claim=claim,
        source_claim=None if in_cache else observed.claims.get(source_claim(resource) or ""),
        source_directory=directory,
        output_directory=output,
        memory_bytes=course.plan.quantization_memory_bytes,
        source_in_cache=in_cache,
    )


def _on_claim(before: Prepared, claim: ClaimFacts | None, result: Result) -> Prepared:
    return replace(
        before,
        claim_name=claim.name if claim is not None else None,
        directory=result.directory,
        revision=result.revision or before.revision,
        bytes=result.bytes,
        single_node=claim is not None and claim.single_node,
    )
