"""What the Job that inspects a model's files reported. Pure."""

from __future__ import annotations

from llm_operator.api.resource import LLMDeployment
from llm_operator.pipeline.artifacts import (
    source_artifact,
)
from llm_operator.pipeline.job_trouble import job_trouble
from llm_operator.pipeline.preparation import State
from llm_operator.pipeline.result import Result
from llm_operator.pipeline.surroundings import Surroundings
from llm_operator.settings import ToolSettings

Looked = tuple[State, Result | None]
"""How far the inspection of a model is, and its result; Done without a result: nothing can be known. Blocked: its
pod cannot start, for now."""

UNUSABLE = ("ModelPathMissing", "ModelConfigMissing", "WeightsMissing")
"""What an inspection says of files that no engine will serve."""


def inspection(resource: LLMDeployment, observed: Surroundings, tools: ToolSettings) -> Looked:
    """The result of the Job that inspects a model's files; Done without a result: nothing can be known."""
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
