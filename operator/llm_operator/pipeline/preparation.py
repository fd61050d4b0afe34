"""How far the stages before serving are, and what must be written for the next one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llm_operator.manifests.common import JSON
from llm_operator.manifests.model_volume import Prepared
from llm_operator.pipeline.artifacts import (
    Stage,
)
from llm_operator.problems import Problem

State = Literal["Done", "Running", "Blocked"]

CLAIM_TROUBLES = ("ClaimMissing", "ClaimTerminating", "ClaimNotLabelled", "ClaimDiffers", "NameConflict", "ReadRefused")
"""What is wrong with a claim; nothing says when that changes."""


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
    trouble: Problem | None = None
    outdated: tuple[JSON, ...] = ()

    @property
    def claim_missing(self) -> bool:
        """A claim that is needed does not exist, or no longer: nothing says when that changes."""
        return self.trouble is not None and self.trouble.reason in CLAIM_TROUBLES

    @property
    def running(self) -> StageReport | None:
        """The stage that runs."""
        return next((report for report in self.reports if report.state == "Running"), None)
