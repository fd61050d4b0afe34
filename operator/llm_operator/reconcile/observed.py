"""Everything known of one LLMDeployment's surroundings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_operator.live.children import Child, ChildKey, workload_in
from llm_operator.live.claims import ClaimFacts
from llm_operator.live.pods import Pod
from llm_operator.pipeline.job_view import JobView
from llm_operator.reconcile.revisions import Revision


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything known of one LLMDeployment's surroundings at one moment."""

    children: Mapping[ChildKey, Child] = field(default_factory=dict)
    pods: tuple[Pod, ...] = ()
    """The engine's."""
    chat_pods: tuple[Pod, ...] = ()
    jobs: Mapping[str, JobView] = field(default_factory=dict)
    """By name, those that make what this object needs."""
    claims: Mapping[str, ClaimFacts | None] = field(default_factory=dict)
    """Claims that were looked up, by name; None for one that does not exist."""
    leftovers: Mapping[str, str] = field(default_factory=dict)
    """By name of a Job: partial output of an earlier one, as the annotation of the next one."""
    revisions: Mapping[str, Revision] = field(default_factory=dict)
    """By name."""
    rollout_stands: bool = False
    """The Deployment controller does not begin the rollout of the template (reconcile/rollout.py)."""

    unseen: tuple[str, ...] = ()
    """What is not seen for want of a right, a sentence each."""

    @property
    def workload(self) -> Child | None:
        """What runs the engine's pods, if it is there."""
        return workload_in(self.children, "engine")
