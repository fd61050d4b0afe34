from dataclasses import replace
from typing import Any

import pytest

from llm_operator.api.status import LLMDeploymentStatus, MeasuredStatus, PlanStatus
from llm_operator.live.pods import ContainerEnd, Mounted
from llm_operator.problems import Problem
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.situation import Situation
from llm_operator.reconcile.status import status_of, transitions
from tests.support.build import NOW, applied, made_by_an_older_operator, plan, pod, resource, serving, situation

LATER = "2026-01-01T01:00:00Z"


def conditions(status: LLMDeploymentStatus) -> dict[str, tuple[str, str]]:
    return {entry.type: (entry.status, entry.reason) for entry in status.conditions}


def test_the_first_status_has_every_condition_and_ready_is_unknown() -> None:
    found = conditions(status_of(situation(resource(), Observed()), NOW))
    assert set(found) == {"Ready", "Reconciling", "Stalled", "Planned", "Available"}
    assert (found["Ready"][0], found["Reconciling"][0], found["Stalled"][0]) == ("Unknown", "True", "False")


def test_a_serving_object_is_ready_and_current() -> None:
    of = resource(replicas=2)
    status = status_of(situation(of, serving(of)), NOW)
    found = conditions(status)
    assert found["Ready"] == ("True", "ReplicasReady")
    assert (found["Reconciling"][0], found["Stalled"][0], found["Available"][0]) == ("False", "False", "True")
    assert (status.replicas, status.ready_replicas) == (2, 2)
    assert status.selector == "llm-operator.dev/deployment=demo"


def test_the_same_situation_gives_the_same_status_at_any_time() -> None:
    of = resource()
    first = status_of(situation(of, serving(of)), NOW)
    seen = of.model_copy(update={"status": first})
    assert status_of(situation(seen, serving(seen)), LATER) == first


def test_only_conditions_whose_status_changed_get_a_new_time() -> None:
    of = resource()
    first = status_of(situation(of, applied(of)), NOW)
    seen = of.model_copy(update={"status": first})
    times = {
        entry.type: entry.last_transition_time for entry in status_of(situation(seen, serving(seen)), LATER).conditions
    }
    assert times["Ready"] == times["Reconciling"] == times["Available"] == LATER
    assert times["Stalled"] == times["Planned"] == NOW


def test_an_old_pod_that_serves_is_available_but_not_ready() -> None:
    before = resource()
    after = resource(contextLength=4096)
    found = conditions(status_of(situation(after, serving(before)), NOW))
    assert (found["Ready"][0], found["Available"][0]) == ("Unknown", "True")


def test_zero_replicas_are_ready_because_nothing_is_asked_for() -> None:
    of = resource(replicas=0)
    found = conditions(status_of(situation(of, serving(of)), NOW))
    assert found["Ready"] == ("True", "Stopped")
    assert found["Available"] == ("False", "Stopped")


def test_a_loading_engine_is_unknown_not_false() -> None:
    of = resource()
    seen = replace(applied(of, observedGeneration=1, replicas=1, updatedReplicas=1), pods=(pod(of, running=True),))
    assert conditions(status_of(situation(of, seen), NOW))["Ready"] == ("Unknown", "Loading")


@pytest.mark.parametrize(
    ("fields", "reason", "words", "stalled"),
    [
        (
            {"unschedulable": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."},
            "Unschedulable",
            "Insufficient",
            "False",
        ),
        ({"unschedulable": 'persistentvolumeclaim "models" not found'}, "ClaimMissing", "'models'", "False"),
        (
            {"waiting_reason": "ImagePullBackOff", "waiting_message": "not found"},
            "ImagePullFailed",
            "imagePullSecrets",
            "False",
        ),
        ({"waiting_reason": "InvalidImageName", "waiting_message": "bad"}, "InvalidImage", "spec.engine.image", "True"),
        (
            {"waiting_reason": "CreateContainerConfigError", "waiting_message": 'secret "hf" not found'},
            "SecretMissing",
            "Secret 'hf'",
            "False",
        ),
        (
            {
                "waiting_reason": "CreateContainerConfigError",
                "waiting_message": "couldn't find key token in Secret team/hf",
            },
            "SecretKeyMissing",
            "no key 'token'",
            "False",
        ),
        (
            {"end": ContainerEnd(137, None, "OOMKilled", ""), "restarts": 1},
            "HostMemoryExhausted",
            "limits.memory",
            "False",
        ),
        ({"end": ContainerEnd(137, None, "OOMKilled", ""), "restarts": 4}, "HostMemoryExhausted", "4 restarts", "True"),
    ],
)
def test_what_keeps_a_pod_from_serving_is_named(fields: dict[str, Any], reason: str, words: str, stalled: str) -> None:
    of = resource()
    seen = replace(applied(of, observedGeneration=1, replicas=1, updatedReplicas=1), pods=(pod(of, **fields),))
    status = status_of(situation(of, seen), NOW)
    assert conditions(status)["Ready"] == ("False", reason)
    assert words in status.conditions[0].message
    assert conditions(status)["Stalled"][0] == stalled


def test_a_pod_that_waits_for_its_volumes_names_them_and_what_to_do() -> None:
    of = resource()
    waiting = pod(of, mounts=(Mounted("a", "ConfigMap 'settings'"), Mounted("b", "PersistentVolumeClaim 'models'")))
    seen = replace(applied(of, observedGeneration=1, replicas=1, updatedReplicas=1), pods=(waiting,))
    status = status_of(situation(of, seen), NOW)
    assert conditions(status)["Ready"] == ("Unknown", "Progressing")
    message = status.conditions[0].message
    assert "waits for its volumes and its network: ConfigMap 'settings', PersistentVolumeClaim 'models'" in message
    assert f"kubectl describe pod {waiting.name}" in message


def test_an_old_pods_trouble_is_not_the_current_specs() -> None:
    of = resource()
    old = pod(of, inputs="0123456789", waiting_reason="ImagePullBackOff")
    seen = replace(applied(of, observedGeneration=1, replicas=1, updatedReplicas=0), pods=(old,))
    assert conditions(status_of(situation(of, seen), NOW))["Ready"][0] == "Unknown"


def test_a_refused_write_is_told() -> None:
    of = resource()
    told = Problem("WriteRefused", "exceeded quota", "Warning")
    assert conditions(status_of(situation(of, Observed(), blocked=told), NOW))["Ready"] == ("False", "WriteRefused")


@pytest.mark.parametrize(("tokens", "told"), [(100_000, False), (104_000, False), (90_000, True)])
def test_an_engine_that_holds_something_else_than_planned_is_told(tokens: int, told: bool) -> None:
    of = resource()
    planned = replace(plan(of), status=PlanStatus(tensor=1, gpus_per_replica=1, kv_tokens=100_000))
    seen = made_by_an_older_operator(serving(of))
    status = status_of(
        Situation(of, seen, decide(of, seen, planned), planned, measured=MeasuredStatus(kv_tokens=tokens)), NOW
    )
    message = next(entry.message for entry in status.conditions if entry.type == "Planned")
    assert ("-10 %" in message) is told


def test_events_only_on_transitions() -> None:
    of = resource()
    first = status_of(situation(of, applied(of)), NOW)
    later = status_of(situation(of.model_copy(update={"status": first}), serving(of)), LATER)
    assert [entry.reason for entry in transitions((), first.conditions)] == []
    assert [entry.reason for entry in transitions(first.conditions, later.conditions)] == ["ReplicasReady"]
    assert transitions(later.conditions, later.conditions) == []
