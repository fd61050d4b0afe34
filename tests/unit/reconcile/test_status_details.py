"""What status tells in the middle of things: rollouts, refusals, a restarted operator, stages before serving."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import Condition, LLMDeploymentStatus, ModelStatus, PlanStatus, ProgressStatus
from llm_operator.manifests.common import ANNOTATION_MODEL
from llm_operator.manifests.model_volume import Prepared
from llm_operator.manifests.revision import content_of, revision
from llm_operator.pipeline.preparation import Preparation, StageReport
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.problems import Problem
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Decision
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.status import MESSAGE_LIMIT, status_of, transitions
from tests.support.build import (
    NOW,
    applied,
    live_revision,
    made_by_an_older_operator,
    plan,
    pod,
    resource,
    serving,
    situation,
)
from tests.support.model_jobs import COMMIT, DIRECTORY

FETCHING = ProgressStatus(stage="Fetching", summary="Fetching 10 %")


def told(of: LLMDeployment, observed: Observed, **fields: Any) -> LLMDeploymentStatus:
    """The status; fields of the situation replace what would be decided and planned."""
    return status_of(situation(of, observed, **fields), NOW)


def condition(status: LLMDeploymentStatus, kind: str) -> Condition:
    return next(entry for entry in status.conditions if entry.type == kind)


def summary(status: LLMDeploymentStatus, kind: str) -> tuple[str, str, str]:
    found = condition(status, kind)
    return found.status, found.reason, found.message


##### Rollouts


def test_a_deployment_that_nobody_has_worked_on_has_no_replicas() -> None:
    for observed in (Observed(), applied(resource())):
        status = told(resource(), observed)
        assert (status.replicas, status.ready_replicas) == (0, 0)
        assert summary(status, "Available")[:2] == ("False", "NoReadyReplica")
        assert summary(status, "Ready")[:2] == ("Unknown", "Progressing")


def test_zero_replicas_are_stopped_once_the_controller_has_seen_it() -> None:
    of = resource(replicas=0)
    assert summary(told(of, Observed()), "Ready")[:2] == ("Unknown", "Progressing")
    assert summary(told(of, applied(of)), "Ready")[:2] == ("Unknown", "Progressing")
    # The API server leaves out counts that are zero.
    assert summary(told(of, applied(of, observedGeneration=1)), "Ready")[:2] == ("True", "Stopped")


def test_replicas_of_the_current_spec_are_told_from_old_ones() -> None:
    of = resource(replicas=3)
    counts = {"observedGeneration": 1, "replicas": 4, "updatedReplicas": 2, "readyReplicas": 3}
    pods = (
        pod(of, name="new", ready=True, running=True),
        pod(of, name="loading", running=True),
        pod(of, name="waits"),
        pod(of, name="old", inputs="0123456789", ready=True, running=True),
        pod(of, name="old-too", inputs="0123456789", ready=True, running=True),
        pod(of, name="old-and-ill", inputs="0123456789", running=True),
    )
    status = told(of, replace(applied(of, **counts), pods=pods))
    text = "1 of 3 replicas ready with the current spec; 1 loading the model"
    assert summary(status, "Ready") == ("Unknown", "Loading", text)
    assert summary(status, "Reconciling") == ("True", "Loading", text)
    assert summary(status, "Stalled") == ("False", "Progressing", "")
    assert summary(status, "Available") == ("True", "Serving", "3 replicas available")
    assert (status.replicas, status.ready_replicas) == (4, 3)
    # What the field says of itself is what it counts.
    assert "earlier" in str(LLMDeploymentStatus.model_fields["ready_replicas"].description)


def test_one_replica_too_many_is_no_end_of_a_rollout() -> None:
    of = resource()
    counts = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1}
    assert summary(told(of, applied(of, **counts)), "Ready")[:2] == ("Unknown", "Progressing")


def test_what_is_up_to_date_says_so() -> None:
    status = told(resource(), serving(resource()), progress=FETCHING)
    assert summary(status, "Reconciling") == ("False", "UpToDate", "")
    assert summary(status, "Stalled") == ("False", "UpToDate", "")
    assert status.progress is None, "a stage's progress is over when everything serves"


##### Refusals


def test_every_refusal_is_told_under_the_first_ones_reason() -> None:
    of = resource(engine={"type": "VLLM", "extraArgs": ["--tensor-parallel-size", "2", "--host", "0.0.0.0"]})
    refusals = decide(of, Observed(), plan(of)).refusals
    assert len(refusals) == 2
    status = told(of, Observed())
    text = "; ".join(f"{refusal.field}: {refusal.message}" for refusal in refusals)
    assert summary(status, "Ready") == ("False", refusals[0].reason, text)
    assert summary(status, "Stalled") == ("True", refusals[0].reason, text)
    assert summary(status, "Reconciling") == ("False", "Stalled", "")


def test_a_refused_change_leaves_the_engine_that_serves_in_status() -> None:
    before = resource()
    engine = told(before, serving(before)).engine
    assert engine is not None
    refused = resource(engine={"type": "VLLM", "extraArgs": ["--host", "0.0.0.0"]})
    known = refused.model_copy(update={"status": told(before, serving(before))})
    status = told(known, serving(before))
    assert condition(status, "Stalled").status == "True"
    assert status.engine == engine
    assert told(refused, serving(before)).engine == engine, "a status that was wiped is not missed"


def test_a_plan_that_does_not_fit_stalls_only_where_it_is_heeded() -> None:
    verdict = replace(plan(resource()), verdict="DoesNotFit", reason="WeightsDoNotFit", message="too large")
    for policy, stalled in (("Enforce", "True"), ("Warn", "False")):
        of = resource(planPolicy=policy)
        status = told(of, Observed(), decision=decide(of, Observed(), verdict), plan=verdict)
        assert condition(status, "Stalled").status == stalled
        assert summary(status, "Planned") == ("False", "WeightsDoNotFit", "too large")
    assert summary(told(resource(), Observed(), decision=Decision(held=True), plan=verdict), "Ready") == (
        "False", "WeightsDoNotFit", "too large",
    )  # fmt: skip


def test_a_service_that_is_another_ones_is_told_also_when_every_pod_serves() -> None:
    of = resource()
    children = {key: child for key, child in serving(of).children.items() if key[0] != "Service"}
    observed = Observed(children=children, pods=(pod(of, ready=True, running=True),))
    conflict = Problem("NameConflict", "Service 'demo' exists and belongs to somebody else", "Error")
    status = told(of, observed, blocked=conflict)
    assert summary(status, "Ready") == ("False", "NameConflict", conflict.message)
    assert summary(status, "Stalled") == ("True", "NameConflict", conflict.message)
    assert summary(status, "Reconciling") == ("False", "Stalled", "")
    assert summary(status, "Available")[0] == "True"


def test_a_message_is_cut_to_what_the_field_takes() -> None:
    long = Problem("WriteRefused", "a" * 5000, "Warning")
    assert condition(told(resource(), Observed(), blocked=long), "Ready").message == "a" * MESSAGE_LIMIT
    assert MESSAGE_LIMIT == 4096


@pytest.mark.parametrize("text", ["$" * 2030, "$(A)" * 500, "x" * 2030])
def test_an_argument_that_is_longer_when_it_is_escaped_has_a_status(text: str) -> None:
    of = resource(engine={"type": "VLLM", "extraArgs": [f"--chat-template={text}"]})
    engine = told(of, serving(of)).engine
    assert engine is not None
    assert any(argument.startswith("--chat-template=") for argument in engine.args)


##### A restarted operator


@pytest.mark.parametrize("told_before", [True, False], ids=["planned", "not-planned"])
@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("runs", [True, False], ids=["runs", "held"])
def test_a_known_plan_stands_while_its_facts_are_gathered_again(generation: int, runs: bool, told_before: bool) -> None:
    of = resource()
    seen = made_by_an_older_operator(serving(of))
    fits = replace(plan(of), verdict="Fits", reason="Fits", status=PlanStatus(tensor=1, gpus_per_replica=1))
    known = told(of, seen, plan=replace(fits, model=ModelStatus(architecture="LlamaForCausalLM")))
    if not told_before:
        known = known.model_copy(
            update={"conditions": [entry for entry in known.conditions if entry.type != "Planned"]}
        )
    metadata = of.metadata.model_copy(update={"generation": generation})
    again = of.model_copy(update={"status": known, "metadata": metadata})
    pending = PlanOutcome("Pending", "GatheringFacts", "facts are on their way", 1)
    decision = decide(again, seen, pending) if runs else Decision(held=True)
    status = told(again, seen, plan=pending, decision=decision)
    if told_before and (runs or generation == 1):
        assert summary(status, "Planned") == ("True", "Fits", "not inspected")
        assert (status.plan, status.model) == (known.plan, known.model)
    else:
        assert summary(status, "Planned") == ("Unknown", "GatheringFacts", "facts are on their way")
        assert (status.plan, status.model) == (None, None)


@pytest.mark.parametrize(("generation", "stands"), [(1, True), (2, False)])
def test_a_restart_says_nothing_new_of_what_does_not_run(generation: int, stands: bool) -> None:
    of = resource()
    too_large = PlanOutcome("DoesNotFit", "DoesNotFit", "needs 2 GPUs", 1)
    known = told(of, Observed(), plan=too_large, decision=decide(of, Observed(), too_large))
    assert summary(known, "Stalled") == ("True", "DoesNotFit", "needs 2 GPUs")
    again = of.model_copy(
        update={"status": known, "metadata": of.metadata.model_copy(update={"generation": generation})}
    )
    pending = PlanOutcome("Pending", "GatheringFacts", "facts are on their way", 1)
    status = told(again, Observed(), plan=pending, decision=decide(again, Observed(), pending))
    assert (status == known) == stands
    if not stands:
        assert summary(status, "Ready") == ("Unknown", "Planning", "facts are on their way")


def test_a_restart_does_not_say_ready_of_what_is_gone() -> None:
    of = resource()
    known = told(of, serving(of))
    again = of.model_copy(update={"status": known})
    pending = PlanOutcome("Pending", "GatheringFacts", "facts are on their way", 1)
    status = told(again, Observed(), plan=pending, decision=decide(again, Observed(), pending))
    assert summary(status, "Ready")[1] == "Planning"


def test_a_plan_that_is_made_stands_for_itself() -> None:
    of = resource()
    fits = replace(plan(of), verdict="Fits", reason="Fits")
    known = of.model_copy(update={"status": told(of, serving(of), plan=fits)})
    assert condition(told(known, serving(of)), "Planned").status == "Unknown"


##### Before serving


def test_what_is_waited_for_is_told_with_how_far_it_is() -> None:
    of = resource()
    pending = PlanOutcome("Pending", "GatheringFacts", "facts are on their way", 1)
    waits = told(of, Observed(), plan=pending, decision=Decision(held=True))
    assert summary(waits, "Ready") == ("Unknown", "Planning", "facts are on their way")
    fetches = Preparation(reports=(StageReport("fetch", "Running", "Fetching", "a Job fetches the model"),))
    decision = Decision(held=True, preparation=fetches)
    begun = told(of, Observed(), decision=decision)
    assert summary(begun, "Ready") == ("Unknown", "Fetching", "a Job fetches the model")
    status = told(of, Observed(), decision=decision, progress=FETCHING)
    assert summary(status, "Ready") == ("Unknown", "Fetching", "a Job fetches the model: Fetching 10 %")
    assert status.progress == FETCHING


def test_what_was_prepared_is_read_from_the_revision_where_nothing_is_rendered() -> None:
    of = resource()
    observed = serving(of)
    prepared = Prepared(claim_name="models", directory=DIRECTORY, revision=COMMIT, bytes=7)
    template = observed.children["Deployment", "engine"].body()["spec"]["template"]
    template["metadata"]["annotations"][ANNOTATION_MODEL] = json.dumps(prepared.to_json())
    kept = revision(of, 1, content_of(template, None))
    child = replace(observed.children["Deployment", "engine"], revision=kept["metadata"]["name"])
    observed = replace(
        observed,
        children={**observed.children, ("Deployment", "engine"): child},
        revisions={kept["metadata"]["name"]: live_revision(kept)},
    )
    status = told(of, observed, decision=Decision(held=True))
    assert status.cache is not None
    assert (status.cache.claim_name, status.cache.directory, status.cache.bytes) == ("models", DIRECTORY, 7)
    assert status.model == ModelStatus(resolved_revision=COMMIT)
    assert summary(status, "ModelCached")[:2] == ("True", "Cached")
    assert told(of, Observed(), decision=Decision(held=True)).cache is None


##### Events


def test_what_is_no_news_is_no_event() -> None:
    def entry(kind: str, status: str, reason: str) -> Condition:
        return Condition.model_validate(
            {
                "type": kind, "status": status, "reason": reason, "message": "",
                "observedGeneration": 1, "lastTransitionTime": NOW,
            },
            by_alias=True,
        )  # fmt: skip

    ready, stalled = entry("Ready", "False", "ImagePullFailed"), entry("Stalled", "True", "InvalidImage")
    over, begins = entry("Stalled", "False", "Progressing"), entry("Ready", "Unknown", "Progressing")
    assert transitions((), (ready, stalled, over, begins)) == [ready, stalled]
    assert transitions((stalled,), (over,)) == []
    assert transitions((ready,), (begins,)) == [begins]
    assert transitions((), (entry("Available", "True", "Serving"),)) == []
    drifted, sick = entry("Drifted", "True", "ForeignFields"), entry("Healthy", "False", "MakesNoTokens")
    assert transitions((ready,), (ready, drifted, sick)) == [drifted, sick]
    assert transitions((drifted, sick), (drifted, sick)) == []
    assert transitions((sick,), (entry("Healthy", "True", "Serving"),)) == []


def test_arguments_that_escaping_makes_longer_fit_into_the_status() -> None:
    """A dollar is written as two for the kubelet: what the spec takes was longer than the status could hold."""
    of = resource(engine={"type": "VLLM", "extraArgs": ["--generation-config", "$" * 2048]})
    status = told(of, applied(of))
    assert status.engine is not None
    assert max(len(text) for text in status.engine.args) == 2048
    assert LLMDeploymentStatus.model_validate(status.model_dump(mode="json", by_alias=True)) == status
