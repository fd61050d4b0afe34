"""Whether the files of a cached model are still what was written. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from llm_operator.api.finding import Finding
from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import Condition
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job_view import JobView


def damage_findings(
    resource: LLMDeployment, jobs: Mapping[str, JobView], before: Condition | None = None
) -> tuple[Finding, ...]:
    """The condition ModelDamaged; there only while it holds.

    Args:
        resource: the object.
        jobs: the Jobs that made what it serves, by name.
        before: the condition in the last status. The Job that knows of the damage is deleted to have the files
            replaced, while pods still serve them: so it stands until a successor has completed.
    """
    made = {artifact.job_name: jobs.get(artifact.job_name) for artifact in artifacts_of(resource)}
    damaged = next((job for job in made.values() if job is not None and job.damaged), None)
    if damaged is None:
        # By the name of the Job, as the object may serve another model by now.
        stands = before is not None and any(
            _remedy(name) in before.message for name, job in made.items() if not _is_whole(job)
        )
        return (Finding("ModelDamaged", "True", "HashMismatch", before.message),) if before and stands else ()
    text = (
        f"{damaged.directory()} on claim {damaged.claim}: {damaged.damaged}. What runs was left alone; to have these "
        f"files fetched or made again: {_remedy(damaged.name)} change a field of the spec that reaches the pods, such "
        "as startupTimeoutSeconds"
    )
    return (Finding("ModelDamaged", "True", "HashMismatch", text),)


def _remedy(job: str) -> str:
    return f"kubectl delete job {job}, and"


def _is_whole(job: JobView | None) -> bool:
    """Whether a Job has made, or compared, what is there now."""
    result = job.result() if job is not None and job.phase == "Complete" else None
    return result is not None and result.ok
