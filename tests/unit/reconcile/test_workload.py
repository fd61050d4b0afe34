"""Another kind of workload is one class: what decides and what judges ask through the interface alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.live import children
from llm_operator.live.children import Child, Kind
from llm_operator.manifests.common import JSON
from llm_operator.manifests.deployment import deployment
from llm_operator.manifests.kinds import WORKLOAD_KINDS
from llm_operator.problems import Problem
from llm_operator.reconcile import decide as deciding
from llm_operator.reconcile import workload
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.status import status_of
from llm_operator.reconcile.workload import WORKLOADS, Counts, Workload
from llm_operator.reconcile.writes import NOT_POLICIES
from tests.support.build import NOW, live, plan, pod, resource, serving, situation


class PodSets:
    """A workload of a test: its controller counts under other names."""

    kind: Kind = "PodSet"

    def render(self, resource: LLMDeployment, template: JSON, revision: str | None, observed: Observed) -> JSON:
        return {**deployment(resource, template, revision), "kind": "PodSet", "apiVersion": "test.dev/v1"}

    def counts(self, live: Child) -> Counts:
        pods = live.status.get("pods", 0)
        return Counts(total=pods, updated=pods, ready=live.status.get("answering", 0), seen=True)

    def has_served(self, live: Child) -> bool:
        return False

    def refused(self, live: Child) -> Problem | None:
        return Problem("QuotaExceeded", "no room", "Warning") if live.status.get("refused") else None

    def overdue(self, live: Child) -> Problem | None:
        return None

    def paused(self, live: Child) -> str:
        return ""


@pytest.fixture
def pod_sets(monkeypatch: pytest.MonkeyPatch) -> Workload:
    made = PodSets()
    monkeypatch.setattr(workload, "WORKLOADS", {made.kind: made})
    monkeypatch.setattr(children, "WORKLOAD_KINDS", (made.kind,))
    monkeypatch.setattr(deciding, "workload_for", lambda _: made)
    monkeypatch.setattr(deciding, "NOT_POLICIES", NOT_POLICIES | {made.kind})
    return made


def test_the_table_of_kinds_and_the_workloads_agree() -> None:
    assert set(WORKLOADS) == set(WORKLOAD_KINDS)


@pytest.mark.usefixtures("pod_sets")
def test_another_workload_is_written_and_judged() -> None:
    of = resource()
    written = {apply.body["kind"]: apply.body for apply in decide(of, Observed(), plan(of)).applies}
    assert "Deployment" not in written
    one = replace(live(written["PodSet"]), status={"pods": 1, "answering": 1})
    others = {key: child for key, child in serving(of).children.items() if key[0] != "Deployment"}
    seen = Observed(children={**others, ("PodSet", "engine"): one}, pods=(pod(of, ready=True),))
    seen = replace(seen, revisions=serving(of).revisions)
    assert seen.workload is one
    status = status_of(situation(of, seen), NOW)
    assert (status.replicas, status.ready_replicas) == (1, 1)
    assert next(entry.reason for entry in status.conditions if entry.type == "Ready") == "ReplicasReady"
    refused = replace(one, status={"pods": 0, "refused": 1})
    status = status_of(situation(of, replace(seen, children={**seen.children, ("PodSet", "engine"): refused})), NOW)
    assert next(entry.reason for entry in status.conditions if entry.type == "Ready") == "QuotaExceeded"
