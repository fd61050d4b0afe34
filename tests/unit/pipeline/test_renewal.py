"""A Job that waits to begin takes up what was corrected; one that works, or is made for somebody else, stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.common import LABEL_VERSION
from llm_operator.pipeline.artifacts import ANNOTATION_JOB_TEMPLATE
from llm_operator.pipeline.inspection import inspection
from llm_operator.pipeline.job_view import JobView, job_from
from llm_operator.pipeline.tool_pod import RECOMMENDED
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Decision
from llm_operator.reconcile.observed import Observed
from llm_operator.settings import ToolSettings
from tests.support.build import plan, pod, resource
from tests.support.model_jobs import TOOLS, cached, done, fetched, seen, stages
from tests.unit.pipeline.decided import conditions

AWQ: dict[str, Any] = {"method": "AWQ"}
FETCHES: list[dict[str, Any]] = [
    {"nodeSelector": {"zone": "b"}},
    {"gpu": {"product": "NVIDIA-L4"}},
    {"tolerations": [{"key": "mine", "operator": "Exists"}]},
    {"imagePullSecrets": [{"name": "registry"}]},
    {"caBundle": {"name": "ca", "key": "ca.crt"}},
    {"tools": {"podTemplate": {"spec": {"serviceAccountName": "fetcher"}}}},
    {"tools": {"podTemplate": {"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}}}},
]


def made(
    of: LLMDeployment, *before: JobView, tools: ToolSettings = TOOLS, outcome: PlanOutcome | None = None
) -> JobView:
    """The Job that is made next, as it is read back."""
    (apply,) = decide(of, seen(*before), outcome or plan(of), tools).applies
    meta = {**apply.body["metadata"], "uid": "job-uid", "resourceVersion": "1"}
    return job_from({**apply.body, "metadata": meta})


def names(decision: Decision) -> list[str]:
    """Jobs that are made again."""
    return [body["metadata"]["name"] for body in decision.outdated]


def judged(of: LLMDeployment, *jobs: JobView, tools: ToolSettings = TOOLS) -> Decision:
    return decide(of, seen(*jobs), plan(of), tools)


@pytest.mark.parametrize("change", FETCHES, ids=str)
@pytest.mark.parametrize("reason", ["unscheduled", "image", "no pod"])
def test_what_was_corrected_reaches_a_job_that_waits(change: dict[str, Any], reason: str) -> None:
    before, after = cached(), cached(**change)
    pods = {
        "unscheduled": (pod(before, unschedulable="0/3 nodes are available"),),
        "image": (pod(before, waiting_reason="ImagePullBackOff", waiting_message="no such image"),),
        "no pod": (),
    }[reason]
    waiting = replace(made(before), pods=pods)
    assert judged(before, waiting).outdated == ()
    decision = judged(after, waiting)
    assert names(decision) == [waiting.name]
    assert decision.applies == (), "it is made when the old one is gone"
    assert conditions(after, seen(waiting))["ModelCached"] == ("Unknown", "Fetching")
    again = made(after)
    assert again.name == waiting.name
    assert judged(after, replace(again, pods=pods)).outdated == ()


def test_what_was_corrected_reaches_a_quantization_that_waits() -> None:
    def limited(memory: str) -> LLMDeployment:
        return cached(weightQuantization={**AWQ, "resources": {"limits": {"memory": memory}}})

    fetch = done(stages(limited("8Gi"))["fetch"], fetched())
    waiting = made(limited("8Gi"), fetch)
    assert judged(limited("8Gi"), fetch, waiting).outdated == ()
    assert names(judged(limited("99Gi"), fetch, waiting)) == [waiting.name]
    token = cached(model={"huggingFace": {"repository": "org/model"}, "credentials": {"name": "hub", "key": "token"}})
    assert made(token).name != made(cached()).name, "another token may see another model: that is another Job"


def test_a_corrected_setting_of_the_operator_reaches_a_job_that_waits() -> None:
    of, corrected = cached(), replace(TOOLS, image="tools:2")
    waiting = made(of)
    assert names(judged(of, waiting, tools=corrected)) == [waiting.name]


@pytest.mark.parametrize(
    "working",
    [{"running": True, "phase": "Running"}, {"phase": "Running"}, {"phase": "Unknown"}],
    ids=["its tool runs", "its kubelet says nothing of it yet", "its node does not answer"],
)
def test_what_works_is_not_stopped(working: dict[str, Any]) -> None:
    before, after = cached(), cached(nodeSelector={"zone": "b"})
    one = replace(made(before), pods=(pod(before, **working),))
    assert judged(after, one).outdated == ()
    assert judged(after, replace(one, phase="Complete")).outdated == ()
    assert judged(after, replace(one, phase="Failed")).outdated == ()


def test_what_ended_before_does_not_hold_up_what_waits() -> None:
    """The first pod has left a part of the download; the next one finds no node."""
    before, after = cached(), cached(nodeSelector={"zone": "b"})
    ended = pod(before, phase="Failed")
    waiting = replace(made(before), pods=(ended, pod(before, name="demo-2", unschedulable="none")))
    assert names(judged(after, waiting)) == [waiting.name]


def test_a_job_of_somebody_else_stays_and_says_whose_placement_it_has() -> None:
    before, after = cached(), cached(nodeSelector={"zone": "b"})
    waiting = replace(made(before), pods=(pod(before, unschedulable="no node"),), shared_with="other")
    decision = judged(after, waiting)
    assert decision.outdated == ()
    assert decision.preparation is not None
    assert decision.preparation.trouble is not None
    assert "LLMDeployment 'other'" in decision.preparation.trouble.message
    same = judged(before, waiting).preparation
    assert same is not None
    assert same.trouble is not None
    assert "'other'" not in same.trouble.message


def test_what_an_older_operator_made_is_judged_by_its_placement() -> None:
    before, after = cached(), cached(nodeSelector={"zone": "b"})
    old = replace(made(before), template_digest="", made_for="")
    assert judged(before, old).outdated == ()
    assert judged(before, old, tools=replace(TOOLS, image="tools:2")).outdated == ()
    assert names(judged(after, old)) == [old.name]


def test_a_newer_operator_alone_makes_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    of = cached()
    waiting = made(of)
    monkeypatch.setattr("llm_operator.pipeline.job.RECOMMENDED", {**RECOMMENDED, LABEL_VERSION: "99"})
    assert judged(of, waiting).outdated == ()


def test_facts_that_come_later_make_nothing_again() -> None:
    of = cached(weightQuantization=AWQ)
    fetch = done(stages(of)["fetch"], fetched())
    known = replace(plan(of), quantization_memory_bytes=40 << 30)
    waiting = made(of, fetch, outcome=known)
    assert judged(of, fetch, waiting).outdated == ()


def test_a_look_at_a_models_files_takes_up_what_was_corrected() -> None:
    before, after = resource(), resource(nodeSelector={"zone": "b"})
    waiting = replace(made(before), pods=(pod(before, unschedulable="no node"),))
    assert inspection(before, seen(waiting), TOOLS)[0] == "Blocked"
    assert judged(before, waiting).template is not None, "what cannot be looked at is served all the same"
    assert names(judged(after, waiting)) == [waiting.name]
    again = replace(made(after), pods=waiting.pods)
    assert judged(after, again).template is not None


def test_the_digest_is_written_down() -> None:
    of = cached()
    (apply,) = decide(of, Observed(claims=seen().claims), plan(of), TOOLS).applies
    assert apply.body["metadata"]["annotations"][ANNOTATION_JOB_TEMPLATE] == made(of).template_digest
    assert made(of).made_for == "demo"
