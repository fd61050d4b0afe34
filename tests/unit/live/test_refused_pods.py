"""Pods that the API server refuses, that the kubelet gives up, or that wait for their predecessors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_operator.live.children import Child, ChildCondition, child_from
from llm_operator.live.pods import Pod, pod_from
from llm_operator.live.refused_pods import SIGNATURES
from llm_operator.reasons import NAMES
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.diagnose import _GIVEN_UP
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.status import status_of
from tests.support.build import NOW, applied, plan, pod, resource, situation
from tests.support.model_jobs import TOOLS, cached, job, seen, stages

JSON = dict[str, Any]
REFUSED = {
    "QuotaExceeded": (
        'pods "demo-5c-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=2, used: '
        "requests.nvidia.com/gpu=0, limited: requests.nvidia.com/gpu=1"
    ),
    "PodSecurityViolated": (
        'pods "demo-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true '
        '(container "engine" must set securityContext.runAsNonRoot=true)'
    ),
    "ServiceAccountMissing": (
        'pods "demo-x" is forbidden: error looking up service account team/runner: serviceaccount "runner" not found'
    ),
    "PriorityClassMissing": 'pods "demo-x" is forbidden: no PriorityClass with name gold was found',
    "RuntimeClassMissing": ('pods "demo-x" is forbidden: pod rejected: RuntimeClass "nvidia" not found'),
    "AdmissionDenied": 'admission webhook "policy.example" denied the request: images must come from our registry',
    "WebhookUnavailable": 'Internal error occurred: failed calling webhook "policy.example": connection refused',
    "LimitRangeExceeded": ('pods "demo-x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 8Gi'),
    "PodsRefused": "something that nobody has seen yet",
}


def failing(message: str, kind: str = "ReplicaFailure", status: str = "True", reason: str = "FailedCreate") -> Observed:
    of = resource()
    seen = applied(of, observedGeneration=1)
    child = seen.children["Deployment", "engine"]
    conditions = {kind: ChildCondition(status, reason, message)}
    return replace(seen, children={**seen.children, ("Deployment", "engine"): replace(child, conditions=conditions)})


def ready(seen: Observed) -> tuple[str, str, str]:
    status = status_of(situation(resource(), seen), NOW)
    (found,) = [entry for entry in status.conditions if entry.type == "Ready"]
    return found.status, found.reason, found.message


@pytest.mark.parametrize("reason", REFUSED)
def test_refused_pods_end_in_a_reason_the_message_and_a_remedy(reason: str) -> None:
    status, found, message = ready(failing(REFUSED[reason]))
    assert (status, found) == ("False", reason)
    assert REFUSED[reason] in message
    remedy = next((refusal.remedy for refusal in SIGNATURES if refusal.reason == reason), "")
    assert message.endswith(remedy)


def test_a_refusal_is_found_behind_what_others_write_into_the_status() -> None:
    theirs = [{"type": f"Theirs{number}", "status": "True", "reason": "x" * 9_000} for number in range(200)]
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "r" * 9_000, "message": "m" * 9_000}
    meta = {"name": "demo", "uid": "u", "resourceVersion": "1"}
    seen = child_from({"kind": "Deployment", "metadata": meta, "status": {"conditions": [*theirs, refused]}})
    assert list(seen.conditions) == ["ReplicaFailure"]
    (kept,) = seen.conditions.values()
    assert len(kept.reason) + len(kept.message) < 3_000


def test_a_refusal_that_is_over_counts_no_more() -> None:
    assert ready(failing(REFUSED["QuotaExceeded"], status="False"))[0] == "Unknown"


def test_a_deployment_without_progress_says_so() -> None:
    seen = failing("late", "Progressing", "False", "ProgressDeadlineExceeded")
    assert ready(seen)[:2] == ("False", "ProgressDeadlineExceeded")


def test_a_paused_rollout_names_the_command() -> None:
    of = resource()
    seen = applied(of, observedGeneration=1)
    paused = replace(seen.children["Deployment", "engine"], paused=True)
    status, reason, message = ready(replace(seen, children={**seen.children, ("Deployment", "engine"): paused}))
    assert (status, reason) == ("Unknown", "DeploymentPaused")
    assert "kubectl rollout resume deployment/demo" in message


def with_pods(*pods: Pod) -> Observed:
    return replace(applied(resource(), observedGeneration=1, replicas=1, updatedReplicas=1), pods=pods)


NO_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


def test_a_pod_that_waits_for_its_predecessor_is_no_alarm() -> None:
    waiting = pod(resource(), unschedulable=NO_GPU)
    old = replace(pod(resource(contextLength=4096), running=True), name="demo-old", deleting=True)
    status, reason, message = ready(with_pods(waiting, old))
    assert (status, reason) == ("Unknown", "Progressing")
    assert "to end" in message


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_predecessor_that_only_a_finalizer_keeps_hides_nothing(phase: str) -> None:
    """Its containers have ended and its GPUs are free: what keeps the new pod from a node is something else."""
    waiting = pod(resource(), unschedulable=NO_GPU)
    old = replace(pod(resource(contextLength=4096)), name="demo-old", deleting=True, phase=phase)
    assert ready(with_pods(waiting, old))[:2] == ("False", "Unschedulable")


def test_a_pod_that_no_node_takes_is_one() -> None:
    assert ready(with_pods(pod(resource(), unschedulable=NO_GPU)))[:2] == ("False", "Unschedulable")


def given_up(reason: str, message: str = "The node was low on resource: memory.") -> Pod:
    return replace(
        pod(resource()), name=f"demo-{reason.lower()}", phase="Failed", failure=reason, failure_message=message
    )


def test_every_known_end_of_a_pod_is_in_the_table_of_reasons() -> None:
    assert set(_GIVEN_UP) <= NAMES


@pytest.mark.parametrize("reason", ["Evicted", "UnexpectedAdmissionError", "NodeLost", "SomethingNew"])
def test_a_pod_that_was_given_up_says_why(reason: str) -> None:
    status, found, message = ready(with_pods(given_up(reason)))
    assert (status, found) == ("False", reason)
    assert "low on resource" in message


def test_a_reason_that_no_condition_can_have_is_replaced() -> None:
    assert ready(with_pods(given_up("not a reason")))[1] == "PodFailed"
    status, reason, message = ready(with_pods(given_up("OutOfnvidia.com/gpu")))
    assert (status, reason) == ("False", "OutOfResource")
    assert "OutOfnvidia.com/gpu" in message
    assert "device plugin" in message


def test_what_was_given_up_is_history_once_there_is_another_pod() -> None:
    assert ready(with_pods(given_up("Evicted"), pod(resource(), running=True)))[:2] == ("Unknown", "Loading")


##### What the kubelet writes


def raw_pod(*containers: JSON, init: tuple[JSON, ...] = (), spec: JSON | None = None, **status: Any) -> Pod:
    said = {"containerStatuses": list(containers), "initContainerStatuses": list(init), **status}
    meta = {"name": "p", "uid": "u", "resourceVersion": "1"}
    return pod_from({"metadata": meta, "spec": spec or {}, "status": said})


CRASHED = {"waiting": {"reason": "CrashLoopBackOff"}}
LAST = {"terminated": {"exitCode": 1, "message": "out of memory"}}
RUNS = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize("sidecar", ["cloudsql-proxy", "datadog-agent", "istio-proxy", "zzz"])
@pytest.mark.parametrize("ours", ["engine", "tool"])
def test_containers_are_found_by_name_wherever_they_stand(sidecar: str, ours: str) -> None:
    entries = [
        {"name": sidecar, "state": RUNS, "restartCount": 0},
        {"name": ours, "state": CRASHED, "lastState": LAST, "restartCount": 4},
    ]
    for order in (entries, entries[::-1]):
        seen = raw_pod(*order)
        assert (seen.container, seen.running, seen.restarts, seen.waiting_reason) == (
            ours,
            False,
            4,
            "CrashLoopBackOff",
        )
        assert seen.end is not None


def test_a_native_sidecar_that_restarted_is_not_the_init_container_in_trouble() -> None:
    proxy = {"name": "istio-proxy", "state": RUNS, "restartCount": 3}
    spec = {"initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}]}
    seen = raw_pod({"name": "engine", "state": RUNS, "restartCount": 0}, init=(proxy,), spec=spec)
    assert seen.container == "engine"


def test_a_pod_without_container_statuses_says_why_it_ended() -> None:
    seen = raw_pod(phase="Failed", reason="Evicted", message="low on memory")
    assert (seen.failure, seen.failure_message, seen.container) == ("Evicted", "low on memory", "")


def test_conditions_of_a_child_are_read() -> None:
    failed = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "x" * 9999}
    body = {
        "kind": "Deployment",
        "metadata": {"name": "demo", "uid": "u", "resourceVersion": "1"},
        "spec": {"paused": True},
        "status": {"conditions": [failed]},
    }
    child: Child = child_from(body)
    assert child.paused
    assert child.conditions["ReplicaFailure"].reason == "FailedCreate"
    assert len(child.conditions["ReplicaFailure"].message) == 2048


def test_a_job_whose_pods_are_refused_says_why() -> None:
    of = cached()
    refused = replace(job(stages(of)["fetch"]), refused='pods "x" is forbidden: exceeded quota: gpus')
    decision = decide(of, seen(refused), plan(of), TOOLS)
    assert decision.preparation is not None
    trouble = decision.preparation.trouble
    assert trouble is not None
    assert trouble.reason == "QuotaExceeded"
    assert "exceeded quota: gpus; raise the namespace's ResourceQuota" in trouble.text
