"""What the status says of pods that wait, by what was heard of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import LLMDeploymentStatus
from llm_operator.live.heard import Heard, Word
from llm_operator.live.pods import Mounted, Pod
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.questions import with_heard
from llm_operator.reconcile.situation import Situation
from llm_operator.reconcile.status import status_of
from llm_operator.reconcile.wants import Subject
from tests.support.build import NOW, applied, plan, pod, resource, serving, situation
from tests.support.model_jobs import CLAIM, TOOLS, cached, job, seen, stages

LATER = "2026-01-01T01:00:00Z"


def conditions(status: LLMDeploymentStatus) -> dict[str, tuple[str, str]]:
    return {entry.type: (entry.status, entry.reason) for entry in status.conditions}


MISSING = Heard((Word("FailedMount", 'MountVolume.SetUp failed for volume "a" : configmap "settings" not found'),))
STARTS: dict[str, Any] = {"awaits": "Start", "mounts": (Mounted("a", "ConfigMap 'settings'"),)}


def starting(of: LLMDeployment, *pods: Pod) -> Observed:
    return replace(applied(of, observedGeneration=1, replicas=1, updatedReplicas=1), pods=pods)


def test_a_volume_that_cannot_be_mounted_is_told() -> None:
    of = resource()
    status = status_of(situation(of, starting(of, pod(of, **STARTS, heard=MISSING))), NOW)
    assert conditions(status)["Ready"] == ("False", "ConfigMapMissing")
    assert conditions(status)["Stalled"][0] == "False"


def test_after_a_restart_what_was_said_stands_until_somebody_has_looked_again() -> None:
    of = resource()
    shown = status_of(situation(of, starting(of, pod(of, **STARTS, heard=MISSING))), NOW)
    of = of.model_copy(update={"status": shown})
    assert status_of(situation(of, starting(of, pod(of, **STARTS))), LATER) == shown
    for nothing in (Heard(), Heard(unseen="they are not seen")):
        status = status_of(situation(of, starting(of, pod(of, **STARTS, heard=nothing))), LATER)
        assert conditions(status)["Ready"] == ("Unknown", "Progressing")
        assert nothing.unseen in status.conditions[0].message
    running = pod(of, running=True, phase="Running")
    assert conditions(status_of(situation(of, starting(of, running)), LATER))["Ready"] == ("Unknown", "Loading")
    edited = of.model_copy(update={"metadata": of.metadata.model_copy(update={"generation": 2})})
    status = status_of(situation(edited, starting(edited, pod(edited, **STARTS))), LATER)
    assert conditions(status)["Ready"] == ("Unknown", "Progressing")


def test_a_volume_that_the_old_pod_still_holds_is_a_roll_and_no_alarm() -> None:
    of = resource()
    held = Heard((Word("FailedAttachVolume", "Multi-Attach error for volume: already used by pod(s) demo-0"),))
    new, old = pod(of, **STARTS, heard=held), pod(of, name="demo-0", uid="pod-0", deleting=True)
    assert conditions(status_of(situation(of, starting(of, new, old)), NOW))["Ready"] == ("Unknown", "Progressing")
    assert conditions(status_of(situation(of, starting(of, new)), NOW))["Ready"] == ("False", "FailedAttachVolume")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"awaits": "Node", "gated": "2 scheduling gates"}, "scheduling gates: 2 scheduling gates"),
        ({"awaits": "Node", "scheduler": "mine", "heard": Heard()}, "scheduler 'mine' has not said anything"),
        ({"awaits": "Node"}, "ready with the current spec"),
        ({"awaits": "Start", "heard": Heard(unseen="why is not seen")}, "(why is not seen)"),
    ],
)
def test_what_a_pod_waits_for_without_a_fault_is_said(fields: dict[str, Any], words: str) -> None:
    of = resource()
    status = status_of(situation(of, starting(of, pod(of, **fields))), NOW)
    assert conditions(status)["Ready"] == ("Unknown", "Progressing")
    assert words in status.conditions[0].message


def test_a_jobs_pod_and_a_job_without_one_say_what_was_heard() -> None:
    of = cached()
    for waiting, told, reason in (
        (job(stages(of)["fetch"], pod(of, **STARTS)), {Subject("Pod", "demo-1", "pod-1"): MISSING}, "ConfigMapMissing"),
        (
            waits := job(stages(of)["fetch"]),
            {
                Subject("Job", waits.name, waits.uid): Heard(
                    (Word("FailedCreate", "Error creating: pods is forbidden: exceeded quota"),)
                )
            },
            "QuotaExceeded",
        ),
    ):
        observed = with_heard(seen(waiting, models=CLAIM), told)
        decision = decide(of, observed, plan(of), TOOLS)
        status = status_of(Situation(of, observed, decision, plan(of)), NOW)
        assert conditions(status)["Ready"] == ("False", reason)
        assert conditions(status)["ModelCached"][1] == reason


##### Why there is a new pod


NO_ROOM = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
EVICTED = {"failure": "Evicted", "failure_message": "The node was low on resource: memory.", "phase": "Failed"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            EVICTED,
            "pod demo-0 was ended at 2026-01-01T00:00:00Z (Evicted: The node was low on resource: memory): request",
        ),
        ({"deleting": True, "disrupted": "EvictionByEvictionAPI: evicting"}, "(EvictionByEvictionAPI: evicting)"),
        ({"phase": "Failed", "disrupted": "PreemptionByScheduler: preempting"}, "(PreemptionByScheduler: preempting)"),
        ({"deleting": True, "node_lost": True, "disrupted": "DeletionByTaintManager: x"}, "its node does not answer"),
    ],
)
def test_a_pod_that_was_ended_is_named_while_its_successor_waits(fields: dict[str, Any], words: str) -> None:
    of = resource()
    before = pod(of, name="demo-0", uid="pod-0", ready_at="2026-01-01T00:00:00Z", **fields)
    for after in (pod(of, unschedulable=NO_ROOM), pod(of, **STARTS)):
        status = status_of(situation(of, starting(of, before, after)), NOW)
        assert conditions(status)["Ready"][1] in ("Unschedulable", "Progressing")
        assert words in status.conditions[0].message


def test_a_pod_of_another_spec_and_one_that_ends_as_usual_are_not_named() -> None:
    of = resource()
    old = pod(of, name="demo-0", uid="pod-0", inputs="0123456789", **EVICTED)
    ends = pod(of, name="demo-2", uid="pod-2", deleting=True)
    status = status_of(situation(of, starting(of, old, ends, pod(of, **STARTS))), NOW)
    assert "was ended" not in status.conditions[0].message


def test_a_node_that_does_not_answer_is_named() -> None:
    of = resource()
    status = status_of(situation(of, starting(of, pod(of, running=True, phase="Running", node_lost=True))), NOW)
    assert conditions(status)["Ready"] == ("False", "NodeLost")
    assert "kubectl get pod demo-1 -o wide" in status.conditions[0].message


def test_what_is_not_seen_is_said_until_all_is_well() -> None:
    of = resource()
    waits = replace(starting(of, pod(of)), unseen=("claims are not seen",))
    status = status_of(situation(of, waits), NOW)
    assert conditions(status)["Ready"] == ("Unknown", "Progressing")
    assert status.conditions[0].message.endswith("; claims are not seen")
    well = status_of(situation(of, replace(serving(of), unseen=("claims are not seen",))), NOW)
    assert "claims are not seen" not in str(well.conditions)
