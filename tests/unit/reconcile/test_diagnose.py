"""What kubelet, scheduler and API server say, put into a reason and a message."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from llm_operator.live.pods import ContainerEnd, Pod
from llm_operator.manifests.model_volume import FETCHER
from llm_operator.problems import Problem
from llm_operator.reconcile.diagnose import (
    HOPELESS_RESTARTS,
    image_volumes,
    trouble_of,
    without_image_volumes,
    write_refused,
)
from tests.support.build import pod, resource

OF = resource()
KILLED = ContainerEnd(137, None, "OOMKilled", "")


def trouble(*pods: Pod) -> Problem | None:
    return trouble_of(pods, "VLLM")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"restarts": 0, "running": False}, True),
        ({"restarts": 0, "running": True}, False),
        ({"restarts": 1, "running": False}, True),
        # It came up again, and may end again: until it answers, its last end is the news.
        ({"restarts": 1, "running": True}, True),
        ({"restarts": 1, "ready": True}, False),
        ({"restarts": 1, "deleting": True}, False),
        ({"restarts": 0, "end": None}, False),
        ({"restarts": 1, "end": None}, False),
    ],
)
def test_an_end_counts_until_the_engine_answers(fields: dict[str, Any], told: bool) -> None:
    assert (trouble(pod(OF, **{"end": KILLED, **fields})) is not None) is told


@pytest.mark.parametrize("container", ["engine", FETCHER])
def test_after_three_restarts_it_will_not_come_up_by_itself(container: str) -> None:
    words = json.dumps({"ok": False, "reason": "ModelGated", "message": "ask for access", "retry": False})
    end = ContainerEnd(3, None, "Error", words)
    for restarts in (0, 1, 2, 3, 4):
        found = trouble(pod(OF, container=container, end=end, restarts=restarts))
        assert found is not None
        assert found.stalls is (restarts >= 3)
        assert found.message.endswith("(1 restart)" if restarts == 1 else f"({restarts} restarts)")
    assert HOPELESS_RESTARTS == 3


def test_what_nobody_but_the_user_can_mend_is_told_first() -> None:
    waits = pod(OF, name="a", unschedulable="0/1 nodes are available")
    hopeless = pod(OF, name="b", end=KILLED, restarts=3)
    for pods in ((waits, hopeless), (hopeless, waits)):
        found = trouble(*pods)
        assert found is not None
        assert (found.reason, found.stalls) == ("HostMemoryExhausted", True)


ANY: Any = ("Warning", "`kubectl describe pod demo-1` has all events")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "couldn't find key token in Secret team/hf",
            Problem("SecretKeyMissing", "Secret 'hf' has no key 'token': add it, or name another key", "Warning"),
        ),
        (
            "couldn't find key text in ConfigMap words",
            Problem(
                "ConfigMapKeyMissing", "ConfigMap 'words' has no key 'text': add it, or name another key", "Warning"
            ),
        ),
        (
            'configmap "words" not found',
            Problem(
                "ConfigMapMissing",
                "ConfigMap 'words' does not exist in this namespace: create it, or name another one",
                "Warning",
            ),
        ),
        (
            "no command",
            Problem("ContainerConfigError", "the kubelet cannot start the container (%s): no command", *ANY),
        ),
        ("", Problem("ContainerConfigError", "the kubelet cannot start the container (%s): no message", *ANY)),
    ],
)
def test_a_container_that_cannot_be_made(message: str, expected: Problem) -> None:
    for reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        told = replace(expected, message=expected.message.replace("%s", reason))
        assert trouble(pod(OF, waiting_reason=reason, waiting_message=message)) == told


def test_a_refused_write_may_be_taken_later() -> None:
    told = write_refused("Deployment", "demo", "no such field")
    assert told == Problem("WriteRefused", "Deployment 'demo' was refused: no such field", "Warning")


@pytest.mark.parametrize(
    ("kind", "message", "remedy"),
    [
        ("PersistentVolumeClaim", "exceeded quota: disk, requested: requests.storage=1Ti", "lower spec.cache.size"),
        ("PersistentVolumeClaim", "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 9Gi",
         "spec.cache.size to the namespace's LimitRange"),
        ("Job", "exceeded quota: objects, requested: count/jobs.batch=1", "raise the namespace's ResourceQuota"),
        ("Service", 'admission webhook "a" denied the request: no', "change what the policy names"),
        ("Service", "ValidatingAdmissionPolicy 'a' with binding 'b' denied request", "change what the policy names"),
        ("Service", 'Internal error occurred: failed calling webhook "a": context deadline exceeded', "repair it"),
    ],
)  # fmt: skip
def test_a_refused_write_says_what_helps(kind: str, message: str, remedy: str) -> None:
    told = write_refused(kind, "demo", message)
    assert told.reason == "WriteRefused"
    assert message in told.text
    assert remedy in told.remedy
    assert "parallelism" not in told.remedy


def test_image_volumes_are_those_of_a_pod_template() -> None:
    volumes = [{"name": "cache", "emptyDir": {}}, {"name": "model", "image": {"reference": "a"}}]
    assert image_volumes({"spec": {"template": {"spec": {"volumes": volumes}}}}) == {"model"}
    assert image_volumes({"spec": {"template": {"spec": {"volumes": None}}}}) == frozenset()
    assert without_image_volumes().stalls


@pytest.mark.parametrize("spec", [None, {}, {"template": None}, {"template": {"spec": None}}])
def test_what_has_no_pod_template_has_no_image_volumes(spec: object) -> None:
    assert image_volumes({"spec": spec}) == frozenset()
    assert image_volumes({}) == frozenset()
