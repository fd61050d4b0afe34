"""Everything that is known of one LLMDeployment when its key is taken. Made once for each reconcile; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import ProgressStatus
from llm_operator.live.children import Child, ChildKey, Role
from llm_operator.live.heard import Heard
from llm_operator.manifests.deployment import NO_TOOLS
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.problems import Problem
from llm_operator.reconcile.decision import Decision
from llm_operator.reconcile.health import SILENT_SECONDS, Seen
from llm_operator.reconcile.last_words import LastWords
from llm_operator.reconcile.measured import Reading
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.plan_facts import Hold, PlanFacts
from llm_operator.reconcile.revisions import Revision
from llm_operator.reconcile.starting import Start
from llm_operator.reconcile.wants import Death, Identity, LogSource, Subject, Wants
from llm_operator.settings import ToolSettings


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one reconcile decides on and writes its status from; nothing reads the world a second time."""

    resource: LLMDeployment
    """The object without its status: nothing is decided on what the operator reported earlier."""
    observed: Observed
    """Children, pods that are the object's own, Jobs and claims."""
    facts: PlanFacts
    """What a plan depends on."""
    tools: ToolSettings = NO_TOOLS
    """The operator's settings."""
    reading: Reading | None = None
    """What an engine said of itself."""
    vitals: Mapping[Identity, Seen] = field(default_factory=dict)
    """How engines that serve work, by their metrics."""
    silent_seconds: float = SILENT_SECONDS
    """How long an engine may be silent, or its queue grow, before it is not Healthy."""
    start: tuple[Start, bool] | None = None
    """The engine that loads, and whether it does not get on; None: none loads, or nothing is known of it."""
    progress: Mapping[LogSource, ProgressStatus] = field(default_factory=dict)
    """How far the stages before serving are, by the log that reports it."""
    last_words: Mapping[Death, LastWords] = field(default_factory=dict)
    """The ends of the logs of engines that died."""
    heard: Mapping[Subject, Heard] = field(default_factory=dict)
    """What Kubernetes' controllers said of what waits."""
    look_again_seconds: float | None = None
    """When a source without a watch is to be read again."""

    def __post_init__(self) -> None:
        """Check that nothing can be decided on a status.

        Raises:
            ValueError: the object has its status.
        """
        if self.resource.status is not None:
            raise ValueError("status is output: a snapshot has the object without it")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one snapshot leads to."""

    decision: Decision
    plan: PlanOutcome
    """What fits, by the facts that are known now."""
    wants: Wants
    """What is to be followed until the next look."""
    hold: Hold | None = None
    """What the object waits for; None: for nothing."""
    look_again_seconds: float | None = None
    """When to look again although nothing reports a change."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What became of a decision."""

    left: Decision
    """The decision with what is left to write."""
    blocked: Mapping[Role, Problem] = field(default_factory=dict)
    """The first refused write of each role."""
    drift: tuple[Problem, ...] = ()
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
