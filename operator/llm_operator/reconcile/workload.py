"""What runs an engine's pods, as an interface: how it is rendered, and what one that lives says. Pure.

A Deployment is the first. Another one is a class here and a row in manifests/kinds.py with `workload`; what decides and
what judges ask through the interface alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from llm_operator.api.resource import LLMDeployment
from llm_operator.live.children import Child, Kind
from llm_operator.live.refused_pods import overdue, refused_pods
from llm_operator.manifests.common import JSON
from llm_operator.manifests.deployment import deployment
from llm_operator.problems import Problem
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.rollout import set_going


@dataclass(frozen=True, slots=True)
class Counts:
    """How many pods a workload has, as its controller counted last.

    Attributes:
        total: all.
        updated: of the latest template.
        ready: of whichever template, that answer.
        seen: the controller has seen the latest template.
    """

    total: int = 0
    updated: int = 0
    ready: int = 0
    seen: bool = False


class Workload(Protocol):
    """One kind of workload."""

    @property
    def kind(self) -> Kind:
        """Its row in manifests/kinds.py."""
        ...

    def render(self, resource: LLMDeployment, template: JSON, revision: str | None, observed: Observed) -> JSON:
        """The object around a pod template.

        Args:
            resource: the LLMDeployment.
            template: the pod template.
            revision: name of the revision that holds the template; None for a trial, which keeps nothing.
            observed: what is there.
        """
        ...

    def counts(self, live: Child) -> Counts:
        """How many pods it has."""
        ...

    def has_served(self, live: Child) -> bool:
        """Whether all pods of the latest template have been available at some time."""
        ...

    def refused(self, live: Child) -> Problem | None:
        """Why the API server refuses its pods; None if it does not."""
        ...

    def overdue(self, live: Child) -> Problem | None:
        """That it has made no progress within its deadline; None if it has, or may still."""
        ...

    def paused(self, live: Child) -> str:
        """Why its controller leaves the pods as they are, and how to end that; empty if it does not."""
        ...


class _Deployment:
    """apps/v1 Deployment."""

    kind: Kind = "Deployment"

    def render(self, resource: LLMDeployment, template: JSON, revision: str | None, observed: Observed) -> JSON:
        return set_going(deployment(resource, template, revision), observed)

    def counts(self, live: Child) -> Counts:
        found = live.status
        return Counts(
            total=found.get("replicas", 0),
            updated=found.get("updatedReplicas", 0),
            ready=found.get("readyReplicas", 0),
            seen=found.get("observedGeneration", 0) >= live.generation,
        )

    def has_served(self, live: Child) -> bool:
        # The Deployment controller says so once all new pods have been available, and keeps it (Kubernetes 1.36).
        condition = live.conditions.get("Progressing")
        return condition is not None and condition.reason == "NewReplicaSetAvailable"

    def refused(self, live: Child) -> Problem | None:
        return refused_pods(live)

    def overdue(self, live: Child) -> Problem | None:
        return overdue(live)

    def paused(self, live: Child) -> str:
        if not live.paused:
            return ""
        return f"somebody paused the rollout: kubectl rollout resume deployment/{live.name}"


DEPLOYMENT: Workload = _Deployment()
WORKLOADS: Mapping[Kind, Workload] = MappingProxyType({one.kind: one for one in (DEPLOYMENT,)})


def workload_for(_: LLMDeployment) -> Workload:
    """What runs an object's engine."""
    return DEPLOYMENT


def workload_of(live: Child) -> Workload:
    """What a living child is.

    Raises:
        KeyError: it is not a workload.
    """
    return WORKLOADS[live.kind]


def counts_of(live: Child | None) -> Counts:
    """How many pods there are; none without a workload."""
    return workload_of(live).counts(live) if live is not None else Counts()
