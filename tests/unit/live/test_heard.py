"""What events say of one object, written as the kubelet, the scheduler and the controllers of Kubernetes write them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_operator.live.heard import MESSAGE_CHARACTERS, MOST_WORDS, Heard, Word, heard_from
from llm_operator.live.pods import Mounted
from llm_operator.live.scheduling import Asked
from llm_operator.live.trouble import waiting_trouble
from tests.support.build import pod, resource
from tests.support.model_jobs import CLAIM

OF = resource()
SETUP = 'MountVolume.SetUp failed for volume "settings" : '
WAITING = pod(OF, awaits="Start", mounts=(Mounted("settings", "ConfigMap 'tuning'"), Mounted("key", "Secret 'key'")))


def event(reason: str, message: str, at: str = "2026-01-01T00:00:00Z", **fields: Any) -> dict[str, Any]:
    return {"reason": reason, "message": message, "lastTimestamp": at, "type": "Warning", **fields}


def judged(*items: object) -> tuple[str, str] | None:
    found = waiting_trouble(replace(WAITING, heard=heard_from(items)), "the image", "spec.engine.image")
    return (found.reason, found.text) if found is not None else None


@pytest.mark.parametrize(
    ("reason", "message", "expected", "words"),
    [
        ("FailedMount", SETUP + 'configmap "tuning" not found', "ConfigMapMissing", "'tuning' does not exist"),
        ("FailedMount", SETUP + 'secret "key" not found', "SecretMissing", "'key' does not exist"),
        (
            "FailedMount",
            SETUP + '[configmap "tuning" not found, secret "key" not found]',
            "ConfigMapMissing",
            "'key' does not exist",
        ),
        (
            "FailedMount",
            SETUP + "configmap references non-existent config key: a.conf",
            "ConfigMapKeyMissing",
            "ConfigMap 'tuning' has no key 'a.conf'",
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "key" : references non-existent secret key: token',
            "SecretKeyMissing",
            "Secret 'key' has no key 'token'",
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "pv" : hostPath type check failed: /x is not a directory',
            "FailedMount",
            "/x is not a directory",
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "n" : mount failed: exit status 32\nOutput: mount.nfs: access denied',
            "FailedMount",
            "mount.nfs: access denied",
        ),
        (
            "FailedMount",
            "Unable to attach or mount volumes: unmounted volumes=[model], unattached volumes=[], failed to process "
            "volumes=[]: timed out waiting for the condition",
            "FailedMount",
            "unmounted volumes=[model]",
        ),
        ("FailedMapVolume", "MapVolume.SetUpDevice failed for volume", "FailedMount", "SetUpDevice failed"),
        (
            "FailedAttachVolume",
            'AttachVolume.Attach failed for volume "pvc-1" : rpc error: volume not found',
            "FailedAttachVolume",
            "CSI driver",
        ),
        (
            "FailedAttachVolume",
            'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) demo-0',
            "FailedAttachVolume",
            "ReadWriteMany",
        ),
        (
            "FailedCreatePodSandBox",
            'Failed to create pod sandbox: failed to get sandbox runtime: no runtime for "nvidia" is configured',
            "FailedCreatePodSandBox",
            "no container runtime 'nvidia'",
        ),
        (
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: rpc error: failed to setup network for sandbox",
            "FailedCreatePodSandBox",
            "network plugin",
        ),
    ],
)
def test_what_keeps_a_pod_from_starting(reason: str, message: str, expected: str, words: str) -> None:
    found = judged(event("Scheduled", "assigned"), event(reason, message, "2026-01-01T00:00:05Z"))
    assert found is not None
    assert found[0] == expected
    assert words in found[1]
    assert "\n" not in found[1]


def test_all_that_is_missing_is_named_and_the_vague_word_beside_it_is_not() -> None:
    vague = event("FailedMount", "Unable to attach or mount volumes: unmounted volumes=[a b]: timed out", count=3)
    for order in (1, -1):
        items = [
            event("FailedMount", SETUP + 'configmap "a" not found'),
            event("FailedMount", SETUP + 'secret "b" not found'),
        ]
        found = judged(*items[::order], vague)
        assert found is not None
        assert "'a' does not exist" in found[1]
        assert "'b' does not exist" in found[1]
        assert "Unable to attach" not in found[1]


@pytest.mark.parametrize(
    "items",
    [
        [],
        [event("Scheduled", "assigned"), event("SuccessfulAttachVolume", "ok")],
        [
            event("FailedMount", "a", "2026-01-01T00:00:00Z"),
            event("Pulling", "image", "2026-01-01T00:00:03Z", type="Normal"),
        ],
        [event("BackOff", "restarting")],
    ],
)
def test_what_is_no_fault_or_has_passed_is_not_told(items: list[Any]) -> None:
    assert judged(*items) is None


def test_what_was_mended_minutes_ago_is_not_told() -> None:
    found = judged(
        event("FailedMount", SETUP + 'configmap "mended" not found', "2026-01-01T00:00:00Z"),
        event("FailedMount", SETUP + 'configmap "missing" not found', "2026-01-01T00:06:00Z"),
    )
    assert found is not None
    assert "mended" not in found[1]


def test_the_same_fault_at_another_attempt_is_the_same_text() -> None:
    """Sandboxes, requests and times have names of their own at each attempt."""
    template = (
        'failed for sandbox "{0}{0}{0}{0}", RequestID: {0}-1111-4111-8111-111111111111, current time {1} is after; '
        "volume pvc-11111111-1111-4111-8111-111111111111"
    )
    first, second = (
        heard_from([event("FailedCreatePodSandBox", template.format(number, time), at)])
        for number, time, at in (
            ("0123abcd", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"),
            ("4567cdef", "2026-01-01T00:02:00.5+01:00", "2026-01-01T00:02:01Z"),
        )
    )
    assert first == second
    assert "pvc-11111111-1111-4111-8111-111111111111" in first.words[0].message


@pytest.mark.parametrize(
    "hostile",
    [
        None,
        "text",
        [],
        {},
        {"reason": 5, "message": {"a": 1}},
        {"reason": ["FailedMount"], "message": None, "lastTimestamp": 7, "series": "x", "metadata": []},
        event("FailedMount", "x" * (1 << 20)),
        event("FailedMount", "\x00\x1b[31m\u202e\n\r" * 1000),
        event("FailedMount", "a", "9999-12-31T23:59:59+00:00"),
        event("FailedMount", "a", "0001-01-01T00:00:00+14:00"),
        event("FailedMount", "a", "tomorrow", series={"lastObservedTime": "9999-99-99"}),
        event("FailedMount" * 100, "a"),
        event("FailedMount", 'volume "' * 500 + "references non-existent secret key: " * 50),
    ],
)
def test_hostile_events_cost_bounded_room_and_break_nothing(hostile: Any) -> None:
    heard = heard_from([hostile] * 100 + [event("FailedMount", f"{number}") for number in range(100)])
    assert len(heard.words) <= MOST_WORDS
    for word in heard.words:
        assert len(word.message) <= MESSAGE_CHARACTERS
        assert word.message.isprintable()
    judged(hostile)


UNBOUND = replace(CLAIM, bound=False, storage_class="fast")
NO_NODE = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"


@pytest.mark.parametrize(
    ("reason", "message", "klass", "words"),
    [
        (
            "ProvisioningFailed",
            'storageclass.storage.k8s.io "fast" not found',
            "fast",
            ('"fast" not found', "create the StorageClass"),
        ),
        ("ProvisioningFailed", "rpc error: quota of disks exceeded", "fast", ("quota of disks", "correct the Storage")),
        ("FailedBinding", "no persistent volumes available and no storage class is set", None, ("no default one",)),
        ("FailedBinding", "no persistent volumes available and no storage class is set", "", ("storageClassName ''",)),
        ("VolumeMismatch", 'Cannot bind to requested volume "pv-1": size', "fast", ('"pv-1": size',)),
        (
            "ExternalProvisioning",
            "Waiting for a volume to be created by the external provisioner 'csi.example'",
            "fast",
            ("'csi.example'", "check that the provisioner"),
        ),
    ],
)
def test_why_a_claim_has_no_volume(reason: str, message: str, klass: str | None, words: tuple[str, ...]) -> None:
    claim = replace(UNBOUND, storage_class=klass, heard=heard_from([event(reason, message)]))
    asked = Asked(claims=(claim,))
    for silent in (pod(OF, unschedulable=NO_NODE), pod(OF, awaits="Node", heard=Heard())):
        found = waiting_trouble(silent, "the image", "spec.engine.image", asked)
        assert found is not None
        assert found.reason == ("ClaimUnbound")
        for word in (f"{claim.name!r} has no volume", *words):
            assert word in found.text


def test_a_claim_that_waits_for_its_pod_is_no_fault() -> None:
    waits = heard_from([event("WaitForFirstConsumer", "waiting for first consumer to be created", type="Normal")])
    asked = Asked(claims=(replace(UNBOUND, heard=waits),))
    assert waiting_trouble(pod(OF, awaits="Node", heard=Heard()), "the image", "spec.engine.image", asked) is None


def test_the_schedulers_words_are_taken_from_an_event_where_the_condition_is_silent() -> None:
    heard = Heard((Word("FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu."),))
    found = waiting_trouble(pod(OF, awaits="Node", heard=heard), "the image", "spec.engine.image")
    assert found is not None
    assert (found.reason, "Insufficient cpu" in found.text) == ("Unschedulable", True)
