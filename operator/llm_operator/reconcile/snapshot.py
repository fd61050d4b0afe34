"""Everything that is known of one LLMDeployment when its key is taken. Made once for each reconcile; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from llm_operator.api.finding import Finding
from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import MeasuredStatus, ProgressStatus
from llm_operator.live.children import Child, ChildKey, Role
from llm_operator.live.trouble import Trouble
from llm_operator.manifests.deployment import NO_TOOLS
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.decide import Decision
from llm_operator.reconcile.drift import Drift
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.revisions import Revision
from llm_operator.reconcile.starting import Start
from llm_operator.settings import ToolSettings


class LogSource(NamedTuple):
    """A container whose log tells how far a stage is."""

    namespace: str
    pod: str
    container: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one reconcile decides on and writes its status from; nothing reads the world a second time."""

    resource: LLMDeployment
    observed: Observed
    """Children, pods that are the object's own with the ends of their logs, Jobs and claims."""
    plan: PlanOutcome
    """What fits, by the facts that are known now."""
    tools: ToolSettings = NO_TOOLS
    """The operator's settings."""
    measured: MeasuredStatus | None = None
    """What the running engine said of itself."""
    health: Finding | None = None
    """Whether what serves also works."""
    start: tuple[Start, bool] | None = None
    """The engine that loads, and whether it does not get on; None where none loads or nothing is known of it."""
    progress: Mapping[LogSource, ProgressStatus] = field(default_factory=dict)
    """How far the stages before serving are, by the log that tells it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one snapshot leads to."""

    decision: Decision
    follow: LogSource | None = None
    """The log that tells how far the stage is that runs; its news brings the key back."""
    look_again_seconds: float | None = None
    """When to look again although nothing tells of a change."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What became of a decision."""

    left: Decision
    """The decision with what is left to write."""
    blocked: Mapping[Role, Trouble] = field(default_factory=dict)
    """The first refused write of each role."""
    drift: tuple[Drift, ...] = ()
    """What of the children is not as it should be, and is left so."""
    restored: tuple[str, ...] = ()
    """Which changes of others were undone, a sentence each."""
    written: Mapping[ChildKey, Child | None] = field(default_factory=dict)
    """Children as the API server answered; None for one that was deleted."""
    revisions: Mapping[str, Revision] = field(default_factory=dict)
    """Revisions that were created, by name."""

    def seen_in(self, observed: Observed) -> Observed:
        """What was observed, with what was written since."""
        children = {**observed.children, **self.written}
        return replace(
            observed,
            children={key: child for key, child in children.items() if child is not None},
            revisions={**observed.revisions, **self.revisions},
        )
