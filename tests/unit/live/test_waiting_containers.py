"""What a kubelet gives as the reason of a container that waits, and how it is reported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_operator.live.claims import ClaimFacts
from llm_operator.live.heard import heard_from
from llm_operator.live.pods import Pod, pod_from
from llm_operator.live.refused_pods import refusal_of
from llm_operator.live.scheduling import Asked, not_scheduled, unschedulable
from llm_operator.live.start_faults import start_fault
from llm_operator.live.trouble import waiting_trouble
from llm_operator.problems import Problem
from llm_operator.reasons import NAMES

JSON = dict[str, Any]
MODEL = "registry.example/models/qwen:1"


def waits(reason: str, message: str, *volumes: JSON) -> Pod:
    container = {"name": "engine", "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}}
    started = {"type": "PodReadyToStartContainers", "status": "True"}
    return pod_from(
        {
            "metadata": {"name": "demo-x", "uid": "u", "resourceVersion": "1"},
            "spec": {"nodeName": "n", "volumes": list(volumes)},
            "status": {"phase": "Pending", "containerStatuses": [container], "conditions": [started]},
        }
    )


def said(pod: Pod) -> Problem | None:
    return waiting_trouble(pod, "the engine's image", "spec.engine.image")


@pytest.mark.parametrize(
    ("reason", "message", "expected", "remedy"),
    [
        ("ImageInspectError", 'Failed to inspect image "a": timeout', "ImagePullFailed", "container runtime"),
        ("SignatureValidationFailed", "the signature validation failed: no key", "ImagePullFailed", "sign the image"),
        ("RegistryUnavailable", "registry is unavailable: 503", "ImagePullFailed", "reaches the registry"),
        ("ErrImageNeverPull", 'Container image "a" is not present', "ImagePullFailed", "load the image onto the node"),
        ("ErrImagePull", "not found", "ImagePullFailed", "check spec.engine.image and imagePullSecrets"),
        ("PreCreateHookError", "no device", "ContainerConfigError", "kubectl describe pod demo-x"),
        ("PreStartHookError", "no room", "ContainerConfigError", "kubectl describe pod demo-x"),
        ("PostStartHookError", "exit 1", "ContainerConfigError", "kubectl describe pod demo-x"),
        ("ReasonOfAKubeletToCome", "news", "ContainerConfigError", "kubectl describe pod demo-x"),
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root (pod: p, container: engine)",
            "ContainerConfigError",
            "securityContext.runAsUser",
        ),
        (
            "CreateContainerConfigError",
            'container has runAsNonRoot and image has non-numeric user (me), cannot verify user is non-root (pod: "p")',
            "ContainerConfigError",
            "securityContext.runAsUser",
        ),
    ],
)
def test_each_reason_of_a_kubelet_is_reported(reason: str, message: str, expected: str, remedy: str) -> None:
    found = said(waits(reason, message))
    assert found is not None
    assert found.reason == expected
    assert message in found.text
    assert remedy in found.text


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ContainerCreating", ""),
        ("PodInitializing", ""),
        ("CrashLoopBackOff", "back-off 10s restarting failed container"),
        ("CreateContainerConfigError", "failed to sync secret cache: timed out waiting for the condition"),
        ("CreateContainerConfigError", "failed to sync configmap cache: timed out waiting for the condition"),
        ("CreateContainerConfigError", "services have not yet been read at least once, cannot construct envvars"),
    ],
)
def test_what_is_no_fault_or_passes_at_once_is_not(reason: str, message: str) -> None:
    assert said(waits(reason, message)) is None


@pytest.mark.parametrize(
    "message",
    [
        f'Back-off pulling image "{MODEL}": ErrImagePull: not found',
        f'rpc error: failed to pull and unpack image "{MODEL}": {MODEL}: not found',
        f'Container image "{MODEL}" is not present with pull policy of Never',
        'failed to pull and unpack image "docker.io/team/qwen:latest": denied',
    ],
)
@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"])
def test_an_image_that_a_volume_holds_is_not_the_engines(reason: str, message: str) -> None:
    volumes = [{"name": "model", "image": {"reference": MODEL}}, {"name": "more", "image": {"reference": "team/qwen"}}]
    found = said(waits(reason, message, *volumes))
    assert found is not None
    assert "the engine's image" not in found.text
    assert reason == "ErrImageNeverPull" or "spec.model.image.reference" in found.text
    # The same of an image that no volume holds.
    engine = said(waits(reason, message.replace("qwen", "engine"), *volumes))
    assert engine is not None
    assert engine.text.startswith("the engine's image cannot be pulled")


def test_each_attempt_at_an_image_is_told_in_the_same_words() -> None:
    """As a kubelet of 1.36 alternates between them; each change of a message is a write of the status."""
    attempt = (
        'failed to pull and unpack image "a:1": failed to resolve image: failed to do request: Head "https://r/v2": '
        "dial tcp: lookup r on 10.0.0.53:53: read udp 10.231.0.2:{}->10.0.0.53:53: i/o timeout"
    )
    between = 'Back-off pulling image "a:1": ErrImagePull: ' + attempt
    told = [said(waits("ErrImagePull", attempt.format(34018))), said(waits("ErrImagePull", attempt.format(50534)))]
    told += [said(waits("ImagePullBackOff", between.format(port))) for port in (34018, 50534)]
    assert len({one.text for one in told if one is not None}) == 1
    bare = said(waits("ImagePullBackOff", 'Back-off pulling image "a:1"'))
    assert bare is not None
    assert 'Back-off pulling image "a:1"' in bare.text


@pytest.mark.parametrize(
    "message",
    [
        "maximum memory usage per Container is 1Gi, but limit is 8Gi",
        "maximum nvidia.com/gpu usage per Pod is 1, but limit is 2",
        "maximum cpu usage per Container is 2.  No limit is specified",
        "minimum ephemeral-storage usage per Container is 1Gi, but request is 10Mi",
        "memory max limit to request ratio per Container is 2, but provided ratio is 4.000000",
        "cpu max limit to request ratio per Pod is 2, but no limit is specified or limit is 0",
    ],
)
def test_each_kind_of_limit_is_one(message: str) -> None:
    found = refusal_of(message, message)
    assert found.reason == "LimitRangeExceeded"
    assert "LimitRange" in found.remedy


LOST = ClaimFacts("models", "u", single_node=True, bound=False, lost=True, storage_class="fast")


def test_a_claim_that_lost_its_volume_is_the_reason_given() -> None:
    words = "0/1 nodes are available: 1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)."
    found = unschedulable(words, Asked(claims=(LOST,)))
    assert found.reason == "ClaimLost"
    assert "'models'" in found.text
    assert "kubectl delete pvc models" in found.text
    silent = pod_from({"metadata": {"name": "p", "uid": "u", "resourceVersion": "1"}, "status": {"phase": "Pending"}})
    assert not_scheduled(silent, Asked(claims=(LOST,))) is None, "nothing was heard of the pod yet"


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("NetworkNotReady", "network is not ready: cni plugin not initialized", "FailedCreatePodSandBox"),
        ("FailedPrepareDynamicResources", "Failed to prepare: driver gpu.nvidia.com", "FailedPrepareDynamicResources"),
        ("FailedMountOnFilesystemMismatch", "MountVolume failed: xfs, not ext4", "FailedMount"),
    ],
)
def test_what_only_an_event_says_of_a_start(reason: str, message: str, expected: str) -> None:
    heard = heard_from([{"reason": reason, "message": message, "lastTimestamp": "2026-01-01T00:00:00Z"}])
    found = start_fault(replace(waits("ContainerCreating", ""), heard=heard))
    assert found is not None
    assert found.reason == expected
    assert expected in NAMES
    assert message in found.text
