"""What follows from a snapshot, without a clock and without a world."""

from __future__ import annotations

from dataclasses import replace

from llm_operator.api.status import ProgressStatus
from llm_operator.live.children import Child
from llm_operator.manifests.model_volume import FETCHER
from llm_operator.manifests.tools import CONTAINER
from llm_operator.reconcile.evaluate import MISSING_CLAIM_SECONDS, evaluate, log_sources, status_after
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.snapshot import Executed, LogSource, Snapshot
from tests.support.build import NOW, applied, live, plan, pod, resource, serving
from tests.support.model_jobs import CLAIM, TOOLS, cached, job, seen, stages

TOOL_LOG = LogSource("team", "fetch-0", CONTAINER)
FAR = ProgressStatus(stage="Fetching", summary="5 of 10 GiB")
OTHER = ProgressStatus(stage="Fetching", summary="of another log")


def fetching() -> Snapshot:
    of = cached()
    tool = pod(of, name="fetch-0", running=True)
    told = {TOOL_LOG: FAR, LogSource("team", "other", CONTAINER): OTHER}
    return Snapshot(of, seen(job(stages(of)["fetch"], tool)), plan(of), TOOLS, progress=told)


def test_the_log_of_the_stage_that_runs_is_followed_and_told() -> None:
    snapshot = fetching()
    outcome = evaluate(snapshot)
    assert outcome.follow == TOOL_LOG
    assert TOOL_LOG in log_sources(snapshot.resource, snapshot.observed)
    status = status_after(snapshot, outcome, Executed(outcome.decision), NOW)
    assert status.progress == FAR
    assert outcome.look_again_seconds is None


def test_the_fetcher_in_the_engines_own_pod_is_followed() -> None:
    of = resource(model={"huggingFace": {"repository": "org/model"}})
    observed = replace(applied(of, observedGeneration=1), pods=(pod(of, name="demo-1", initializing=FETCHER),))
    assert evaluate(Snapshot(of, observed, plan(of))).follow == LogSource("team", "demo-1", FETCHER)
    going = replace(observed, pods=(replace(observed.pods[0], deleting=True),))
    assert evaluate(Snapshot(of, going, plan(of))).follow is None


def test_nothing_is_followed_where_nothing_runs() -> None:
    of = resource()
    snapshot = Snapshot(of, serving(of), plan(of))
    assert evaluate(snapshot).follow is None
    assert log_sources(of, snapshot.observed) == ()


def test_a_missing_claim_is_looked_up_again() -> None:
    of = cached()
    missing = Snapshot(of, Observed(claims={CLAIM.name: None}), plan(of), TOOLS)
    assert evaluate(missing).look_again_seconds == MISSING_CLAIM_SECONDS


def test_the_same_snapshot_leads_to_the_same() -> None:
    snapshot = fetching()
    assert evaluate(snapshot) == evaluate(snapshot)


def test_the_status_counts_what_was_written_and_deleted() -> None:
    of = resource()
    before = Snapshot(of, serving(of), plan(of))
    outcome = evaluate(before)
    assert status_after(before, outcome, Executed(outcome.decision), NOW).ready_replicas == 1
    child = before.observed.deployment
    assert isinstance(child, Child)
    anew = replace(live({"kind": "Deployment", "metadata": {"name": "demo"}, "spec": {}}), text=child.text)
    written = Executed(outcome.decision, written={("Deployment", "engine"): anew})
    assert status_after(before, outcome, written, NOW).ready_replicas == 0
    gone = Executed(outcome.decision, written={("Deployment", "engine"): None})
    assert gone.seen_in(before.observed).deployment is None
