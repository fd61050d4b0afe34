"""What follows from a snapshot, without a clock and without a world."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_operator.api.status import LLMDeploymentStatus, ProgressStatus
from llm_operator.live.children import Child
from llm_operator.manifests.model_volume import FETCHER
from llm_operator.manifests.tools import CONTAINER
from llm_operator.reconcile.evaluate import MISSING_CLAIM_SECONDS, evaluate, log_sources, status_after
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.snapshot import Executed, Snapshot
from llm_operator.reconcile.wants import LogSource
from tests.support.build import NOW, applied, live, pod, resource, serving
from tests.support.model_jobs import CLAIM, TOOLS, cached, job, seen, stages
from tests.support.sources import AT, facts

TOOL_LOG = LogSource("team", "fetch-0", CONTAINER)
FAR = ProgressStatus(stage="Fetching", summary="5 of 10 GiB")
OTHER = ProgressStatus(stage="Fetching", summary="of another log")


def fetching() -> Snapshot:
    of = cached()
    tool = pod(of, name="fetch-0", running=True)
    told = {TOOL_LOG: FAR, LogSource("team", "other", CONTAINER): OTHER}
    return Snapshot(of, seen(job(stages(of)["fetch"], tool)), facts(of), TOOLS, progress=told)


def test_the_log_of_the_stage_that_runs_is_followed_and_told() -> None:
    snapshot = fetching()
    outcome = evaluate(snapshot, AT)
    assert outcome.wants.log == TOOL_LOG
    assert TOOL_LOG in log_sources(snapshot.resource, snapshot.observed)
    status = status_after(snapshot, outcome, Executed(outcome.decision), None, NOW)
    assert status.progress == FAR
    assert outcome.look_again_seconds is None


def test_the_fetcher_in_the_engines_own_pod_is_followed() -> None:
    of = resource(model={"huggingFace": {"repository": "org/model"}})
    observed = replace(applied(of, observedGeneration=1), pods=(pod(of, name="demo-1", initializing=FETCHER),))
    assert evaluate(Snapshot(of, observed, facts(of)), AT).wants.log == LogSource("team", "demo-1", FETCHER)
    going = replace(observed, pods=(replace(observed.pods[0], deleting=True),))
    assert evaluate(Snapshot(of, going, facts(of)), AT).wants.log is None


def test_nothing_is_followed_where_nothing_runs() -> None:
    of = resource()
    snapshot = Snapshot(of, serving(of), facts(of))
    assert evaluate(snapshot, AT).wants.log is None
    assert log_sources(of, snapshot.observed) == ()


def test_a_missing_claim_is_looked_up_again() -> None:
    of = cached()
    missing = Snapshot(of, Observed(claims={CLAIM.name: None}), facts(of), TOOLS)
    assert evaluate(missing, AT).look_again_seconds == MISSING_CLAIM_SECONDS


def test_the_same_snapshot_leads_to_the_same() -> None:
    snapshot = fetching()
    assert evaluate(snapshot, AT) == evaluate(snapshot, AT)


def test_the_status_counts_what_was_written_and_deleted() -> None:
    of = resource()
    before = Snapshot(of, serving(of), facts(of))
    outcome = evaluate(before, AT)
    assert status_after(before, outcome, Executed(outcome.decision), None, NOW).ready_replicas == 1
    child = before.observed.workload
    assert isinstance(child, Child)
    anew = replace(live({"kind": "Deployment", "metadata": {"name": "demo"}, "spec": {}}), text=child.text)
    written = Executed(outcome.decision, written={("Deployment", "engine"): anew})
    assert status_after(before, outcome, written, None, NOW).ready_replicas == 0
    gone = Executed(outcome.decision, written={("Deployment", "engine"): None})
    assert gone.seen_in(before.observed).workload is None


def test_nothing_is_decided_on_a_status() -> None:
    of = resource()
    shown = of.model_copy(update={"status": LLMDeploymentStatus(observed_generation=1, conditions=[])})
    with pytest.raises(ValueError, match="status is output"):
        Snapshot(shown, Observed(), facts(of))
