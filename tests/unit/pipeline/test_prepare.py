"""The stages before serving: what runs when, what is shared, what stops what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.common import inputs_hash
from llm_operator.manifests.revision import REVISION
from llm_operator.pipeline.artifacts import removal_name
from llm_operator.pipeline.claims import needed_claims
from llm_operator.pipeline.inspection import inspection
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.situation import Situation
from llm_operator.reconcile.status import status_of
from llm_operator.settings import ToolSettings
from tests.support.build import NOW, once_written, plan, pod, resource
from tests.support.model_jobs import (
    CLAIM,
    CONFIG,
    DIRECTORY,
    HUB,
    TOOLS,
    cached,
    done,
    failed,
    fetched,
    job,
    packed,
    seen,
    stages,
    tool_pod,
)
from tests.unit.pipeline.decided import AWQ, conditions, container, kinds

##### Fetching


def test_a_model_is_fetched_before_anything_serves() -> None:
    of = cached()
    decision = decide(of, seen(), plan(of), TOOLS)
    assert kinds(decision) == [("Job", stages(of)["fetch"].job_name)]
    assert decision.held
    assert decision.template is None
    body = decision.applies[0].body
    assert body["metadata"]["ownerReferences"][0]["uid"] == CLAIM.uid
    assert body["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    assert conditions(of, seen())["ModelCached"] == ("Unknown", "Fetching")


def test_while_it_is_fetched_nothing_is_written() -> None:
    of = cached()
    running = seen(job(stages(of)["fetch"], pod(of, running=True)))
    assert decide(of, running, plan(of), TOOLS).applies == ()
    assert conditions(of, running)["Ready"] == ("Unknown", "Fetching")


def test_the_engine_mounts_what_was_fetched_read_only_and_offline() -> None:
    of = cached()
    observed = seen(done(stages(of)["fetch"], fetched()))
    decision = decide(of, observed, plan(of), TOOLS)
    engine = container(decision)
    assert engine["args"][0] == "/models/model"
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in engine["env"]
    mount = next(one for one in engine["volumeMounts"] if one["name"] == "model")
    assert mount == {"name": "model", "mountPath": "/models/model", "subPath": DIRECTORY, "readOnly": True}
    found = conditions(of, observed)
    assert found["ModelCached"] == ("True", "Cached")
    assert "WeightsQuantized" not in found


def test_the_token_reaches_the_job_and_not_the_engine() -> None:
    model = {**HUB, "credentials": {"name": "hub", "key": "token"}}
    of = cached(model=model)
    tool = decide(of, seen(), plan(of), TOOLS).applies[0].body["spec"]["template"]["spec"]["containers"][0]
    assert "HF_TOKEN" in {variable["name"] for variable in tool["env"]}
    engine = container(decide(of, seen(done(stages(of)["fetch"], fetched())), plan(of), TOOLS))
    assert "HF_TOKEN" not in {variable["name"] for variable in engine["env"]}


def test_replicas_on_one_read_write_once_claim_share_a_node() -> None:
    of = cached(replicas=2)
    decision = decide(of, seen(done(stages(of)["fetch"], fetched())), plan(of), TOOLS)
    assert decision.template is not None
    term = decision.template["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    labels = decision.template["metadata"]["labels"]
    assert term["labelSelector"]["matchLabels"].items() <= labels.items()
    many = seen(done(stages(of)["fetch"], fetched()), models=replace(CLAIM, single_node=False))
    other = decide(of, many, plan(of), TOOLS).template
    assert other is not None
    assert "affinity" not in other["spec"]


def test_without_a_cache_an_init_container_fetches() -> None:
    of = resource(model={**HUB, "credentials": {"name": "hub", "key": "token"}})
    decision = decide(of, Observed(), plan(of), TOOLS)
    fetch = container(decision, "fetch")
    assert fetch["args"][:3] == ["fetch", "--flat", "/models/model"]
    assert container(decision)["args"][0] == "/models/model"
    assert "ModelCached" not in conditions(of, Observed())


def test_without_tools_the_engine_fetches_for_itself() -> None:
    of = resource(model=HUB)
    decision = decide(of, Observed(), plan(of))
    assert container(decision)["args"][0] == "org/model"
    assert decision.template is not None
    assert "initContainers" not in decision.template["spec"]


def test_a_cache_without_tools_is_refused() -> None:
    of = cached()
    situation = Situation(of, Observed(), decide(of, Observed(), plan(of)), plan(of))
    stalled = next(entry for entry in status_of(situation, NOW).conditions if entry.type == "Stalled")
    assert (stalled.status, stalled.reason) == ("True", "ModelToolsMissing")


##### Sharing


def test_objects_with_one_model_share_a_job() -> None:
    other = cached(contextLength=1024)
    assert stages(cached())["fetch"] == stages(other)["fetch"]
    assert stages(cached())["fetch"] != stages(cached(cache={"claimName": "elsewhere"}))["fetch"]


def test_another_token_is_another_job() -> None:
    model = {**HUB, "credentials": {"name": "hub", "key": "token"}}
    assert stages(cached(model=model))["fetch"] != stages(cached())["fetch"]


def test_what_does_not_change_the_weights_is_no_other_quantization() -> None:
    one = cached(weightQuantization=AWQ)
    sized = cached(weightQuantization={**AWQ, "resources": {"requests": {"memory": "9Gi"}}})
    assert stages(one)["quantize"] == stages(sized)["quantize"]
    assert inputs_hash(one) == inputs_hash(sized)
    other = cached(weightQuantization={**AWQ, "calibration": {"samples": 64}})
    assert stages(one)["quantize"] != stages(other)["quantize"]


##### Claims


def test_a_missing_claim_is_told_and_nothing_is_made() -> None:
    of = cached()
    observed = seen(models=None)
    assert decide(of, observed, plan(of), TOOLS).applies == ()
    assert conditions(of, observed)["Ready"] == ("False", "ClaimMissing")


def test_a_claim_of_its_own_is_made_first() -> None:
    of = cached(cache={"size": "20Gi", "accessMode": "ReadWriteMany", "storageClassName": "fast"})
    assert needed_claims(of) == ("demo-models",)
    decision = decide(of, seen(**{"demo-models": None}), plan(of), TOOLS)
    assert kinds(decision) == [("PersistentVolumeClaim", "demo-models")]
    body = decision.applies[0].body
    assert body["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "20Gi"}},
        "storageClassName": "fast",
    }
    assert body["metadata"]["ownerReferences"][0]["uid"] == of.metadata.uid


def test_a_retained_claim_has_no_owner() -> None:
    of = cached(cache={"size": "20Gi", "retentionPolicy": "Retain"})
    body = decide(of, seen(**{"demo-models": None}), plan(of), TOOLS).applies[0].body
    assert "ownerReferences" not in body["metadata"]


##### Failures


@pytest.mark.parametrize("retry", [True, False])
def test_a_failed_fetch_stalls_with_its_reason(retry: bool) -> None:
    of = cached()
    observed = seen(failed(stages(of)["fetch"], "ModelGated", retry=retry))
    found = conditions(of, observed)
    assert found["ModelCached"] == ("False", "ModelGated")
    assert found["Stalled"] == ("True", "ModelGated")
    assert decide(of, observed, plan(of), TOOLS).applies == ()


def test_the_next_job_knows_what_an_earlier_one_left() -> None:
    of = cached()
    name = stages(of)["fetch"].job_name
    text = '{"directory": "models/hf--org--model/abc", "bytes": 7}'
    left = replace(seen(), leftovers={name: text, "llm-fetch-other": "{}"})
    annotations = decide(of, left, plan(of), TOOLS).applies[0].body["metadata"]["annotations"]
    assert annotations["llm-operator.dev/incomplete"] == text
    first = decide(of, seen(), plan(of), TOOLS).applies[0].body["metadata"]["annotations"]
    assert "llm-operator.dev/incomplete" not in first


def test_whoever_asks_again_is_told_of_no_failure_that_was_nobodys() -> None:
    of = cached()
    ended = replace(failed(stages(of)["fetch"], "Interrupted", directory=DIRECTORY), unused_since=NOW)
    found = conditions(of, seen(ended))
    assert (found["ModelCached"], found["Stalled"][0]) == (("Unknown", "Fetching"), "False")
    assert inspection(of, seen(ended), TOOLS) == ("Running", None)


def test_what_is_half_done_and_being_removed_is_waited_for() -> None:
    of = cached()
    fetch = stages(of)["fetch"]
    left = failed(fetch, "DiskFull", directory=DIRECTORY)
    removal = replace(job(fetch), name=removal_name("models", f"{DIRECTORY}.partial"), stage="remove")
    assert conditions(of, seen(removal, left))["ModelCached"] == ("Unknown", "Removing")


def test_a_job_without_a_result_is_waited_for() -> None:
    of = cached()
    assert conditions(of, seen(job(stages(of)["fetch"], condition="Complete")))["ModelCached"][0] == "Unknown"


def test_last_words_of_a_pod_count_before_they_are_recorded() -> None:
    of = cached()
    told = job(stages(of)["fetch"], tool_pod(of, fetched()), condition="Complete")
    assert decide(of, seen(told), plan(of), TOOLS).template is not None


@pytest.mark.parametrize("missing", [True, False], ids=["no claim", "a pod that cannot start"])
def test_a_parked_object_is_not_broken_for_want_of_something(missing: bool) -> None:
    for replicas in (0, 1):
        of = cached(replicas=replicas)
        stuck = job(stages(of)["fetch"], pod(of, unschedulable="0/1 nodes are available"))
        observed = Observed(claims={"models": None}) if missing else seen(stuck)
        found = conditions(of, observed)
        reason = "ClaimMissing" if missing else "Unschedulable"
        assert found["Ready"] == (("True", "Stopped") if replicas == 0 else ("False", reason))
        assert found["Reconciling"][0] == ("False" if replicas == 0 else "True")
        assert found["Stalled"][0] == "False"
    wrong = cached(replicas=0)
    gated = seen(failed(stages(wrong)["fetch"], "ModelGated"))
    assert conditions(wrong, gated)["Stalled"] == ("True", "ModelGated"), "what is wrong stays wrong"


def test_a_job_whose_pod_cannot_start_says_why() -> None:
    of = cached()
    waiting = pod(of, waiting_reason="CreateContainerConfigError", waiting_message='secret "hub" not found')
    assert conditions(of, seen(job(stages(of)["fetch"], waiting)))["ModelCached"] == ("Unknown", "SecretMissing")


def test_what_serves_is_not_touched_while_a_new_model_is_prepared() -> None:
    of = resource(model=HUB)
    before = decide(of, Observed(), plan(of), TOOLS)
    changed = cached()
    decision = decide(changed, once_written(before.applies, seen()), plan(changed), TOOLS)
    assert [kind for kind, _ in kinds(decision)] == ["Job"]
    assert decision.deletes == ()


def test_a_removal_is_waited_for() -> None:
    of = cached()
    fetch = stages(of)["fetch"]
    removal = replace(job(fetch), name=removal_name("models", DIRECTORY), stage="remove")
    observed = seen(removal, done(fetch, fetched()))
    assert decide(of, observed, plan(of), TOOLS).held
    assert conditions(of, observed)["ModelCached"] == ("Unknown", "Removing")


##### Plans


def test_what_does_not_fit_is_not_fetched() -> None:
    of = cached()
    outcome = PlanOutcome("DoesNotFit", "DoesNotFit", "too big", 1)
    assert decide(of, seen(), outcome, TOOLS).applies == ()


def test_a_plan_under_way_holds_the_fetch() -> None:
    of = cached()
    assert decide(of, seen(), PlanOutcome("Pending", "ReadingModel", "", 1), TOOLS).applies == ()


##### Inspecting


def test_a_model_on_a_claim_is_looked_at_first() -> None:
    of = resource()
    decision = decide(of, seen(), plan(of), TOOLS)
    assert kinds(decision) == [("Job", stages(of)["inspect"].job_name)]
    assert inspection(of, seen(), TOOLS) == ("Running", None)
    told = seen(done(stages(of)["inspect"], {"ok": True, "directory": ".", "config": packed(CONFIG)}))
    assert inspection(of, told, TOOLS)[0] == "Done"
    served = decide(of, told, plan(of), TOOLS)
    assert served.template is not None
    assert container(served)["args"][0] == "/models"


@pytest.mark.parametrize("reason", ["ModelPathMissing", "ModelConfigMissing", "WeightsMissing"])
def test_files_that_no_engine_serves_are_refused(reason: str) -> None:
    of = resource()
    observed = seen(failed(stages(of)["inspect"], reason))
    assert decide(of, observed, plan(of), TOOLS).held
    assert conditions(of, observed)["Stalled"] == ("True", reason)


def test_a_look_that_cannot_be_had_blocks_nothing() -> None:
    of = resource()
    assert decide(of, seen(failed(stages(of)["inspect"], "ToolFailed")), plan(of), TOOLS).template is not None
    image = pod(of, waiting_reason="ImagePullBackOff", waiting_message="no such image")
    waits = seen(job(stages(of)["inspect"], image))
    assert decide(of, waits, plan(of), TOOLS).template is not None
    # Whether for a moment or for good, nobody knows: the planner waits for a bounded time.
    assert inspection(of, waits, TOOLS) == ("Blocked", None)
    assert decide(of, waits, PlanOutcome("Pending", "ModelNotInspected", "", 1), TOOLS).template is None
    never = ToolSettings(image="tools:1", inspect=False)
    assert decide(of, seen(), plan(of), never).template is not None


##### A look that decides nothing


def unplannable(of: LLMDeployment) -> PlanOutcome:
    return replace(plan(of), reason="GPUUnknown")


@pytest.mark.parametrize(
    ("spec", "waits"),
    [
        ({}, False),
        ({"engine": {"type": "LMDeploy", "backend": "PyTorch"}}, False),
        ({"engine": {"type": "LMDeploy"}}, True),
        ({"engine": {"type": "LMDeploy", "backend": "TurboMind"}}, True),
        ({"cache": {"claimName": "models"}, "weightQuantization": AWQ, "engine": {"type": "VLLM"}}, True),
    ],
)
def test_an_engine_does_not_wait_for_a_look_that_decides_nothing(spec: dict[str, Any], waits: bool) -> None:
    of = resource(**spec)
    decision = decide(of, seen(), unplannable(of), TOOLS)
    made = [kind for kind, _ in kinds(decision)]
    assert made == (["Job"] if waits else [REVISION, "Deployment", "Service", "Job"])
    assert decision.held is waits


def test_a_look_is_waited_for_where_there_is_a_plan_to_make() -> None:
    of = resource()
    assert [kind for kind, _ in kinds(decide(of, seen(), plan(of), TOOLS))] == ["Job"]


def test_a_claim_that_is_missing_is_waited_for_all_the_same() -> None:
    of = resource()
    decision = decide(of, Observed(claims={"models": None}), unplannable(of), TOOLS)
    assert decision.held
    assert decision.preparation is not None
    assert decision.preparation.claim_missing
