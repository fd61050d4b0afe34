"""What the stages of one object are judged by. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from llm_operator.live.claims import ClaimFacts
from llm_operator.pipeline.job_view import JobView


class Surroundings(Protocol):
    """Jobs and claims of one object, as they were observed at one moment."""

    @property
    def jobs(self) -> Mapping[str, JobView]:
        """By name, those that make what this object needs."""
        ...

    @property
    def claims(self) -> Mapping[str, ClaimFacts | None]:
        """Claims that were looked up, by name; None for one that does not exist."""
        ...

    @property
    def leftovers(self) -> Mapping[str, str]:
        """By name of a Job: the partial output of an earlier one, as the annotation of the next one."""
        ...
