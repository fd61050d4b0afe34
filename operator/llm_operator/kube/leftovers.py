"""Partial output of Jobs of the model tools, for the next ones of their names."""

from __future__ import annotations

from collections.abc import Mapping

from llm_operator.api.resource import LLMDeployment
from llm_operator.kube.keys import JobKey, Key
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job_snapshot import JobOutcome


class Leftovers:
    """By Job. Kept while there is none of its name: each Job has its own in an annotation."""

    def __init__(self) -> None:
        self._known: dict[JobKey, str] = {}

    def learn(self, key: JobKey, outcome: JobOutcome) -> None:
        """A Job was looked at."""
        if not outcome.leftover_known:
            return
        if outcome.leftover is None:
            self._known.pop(key, None)
        else:
            self._known[key] = outcome.leftover

    def of(self, key: Key, resource: LLMDeployment) -> Mapping[str, str]:
        """Partial output of what an object requests, by the Job's name, as the annotation of the next ones."""
        names = [artifact.job_name for artifact in artifacts_of(resource)]
        return {name: text for name in names if (text := self._known.get(JobKey(key[0], name))) is not None}
