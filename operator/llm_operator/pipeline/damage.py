"""Whether the files of a cached model are still what was written. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from llm_operator.api.finding import Finding
from llm_operator.api.resource import LLMDeployment
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job_view import JobView


def damage_findings(resource: LLMDeployment, jobs: Mapping[str, JobView]) -> tuple[Finding, ...]:
    """The condition ModelDamaged; there only while it holds.

    Args:
        resource: the object.
        jobs: the Jobs that made what it serves, by name.
    """
    made = (jobs.get(artifact.job_name) for artifact in artifacts_of(resource))
    damaged = next((job for job in made if job is not None and job.damaged), None)
    if damaged is None:
        return ()
    text = (
        f"{damaged.directory()} on claim {damaged.claim}: {damaged.damaged}. What runs was left alone; to have these "
        f"files fetched or made again: kubectl delete job {damaged.name}, and change a field of the spec that reaches "
        "the pods, such as startupTimeoutSeconds"
    )
    return (Finding("ModelDamaged", "True", "HashMismatch", text),)
