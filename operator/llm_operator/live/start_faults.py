"""Why a pod that has a node does not start: the kubelet's words in its Events, with what to do. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llm_operator.live.heard import Word
from llm_operator.live.pods import Mounted, Pod
from llm_operator.problems import Problem, together

REASONS = ("FailedMount", "FailedAttachVolume", "FailedPrepareDynamicResources", "FailedCreatePodSandBox")
"""Our reasons that events alone tell, beside those of references that are missing."""

_MISSING = re.compile(r'\b(secret|configmap) "([^"]+)" not found', re.IGNORECASE)
_MISSING_KEY = re.compile(
    r'for volume "([^"]+)" ?: .*?(?:references non-existent secret key|configmap references non-existent config key): '
    r"([^\s,\]]+)"
)
_RUNTIME = re.compile(r'no runtime for "([^"]*)" is configured|RuntimeHandler "([^"]*)" not supported')
_ELSEWHERE = "Multi-Attach error"


def start_fault(pod: Pod) -> Problem | None:
    """What keeps a pod from starting; None if nothing is known to. All that is missing is in the text.

    Args:
        pod: one that waits for its start.
    """
    words = pod.heard.words if pod.heard is not None else ()
    return together(dict.fromkeys(fault for word in words for fault in _faults(pod, word)))


def is_attached_elsewhere(pod: Pod) -> bool:
    """Whether a volume of the pod is still in use on another node, such as by the pod that it replaces."""
    words = pod.heard.words if pod.heard is not None else ()
    return bool(words) and all(_ELSEWHERE in word.message for word in words)


def _faults(pod: Pod, word: Word) -> Iterator[Problem]:
    text = word.message
    if word.reason in ("FailedMount", "FailedMapVolume", "FailedMountOnFilesystemMismatch"):
        yield from _references(pod.mounts, text) or [
            Problem(
                "FailedMount",
                f"a volume of pod {pod.name} cannot be mounted: {text}",
                "Warning",
                "correct the volume, or what it names, or the node's access to it",
            )
        ]
    elif word.reason == "FailedAttachVolume" and _ELSEWHERE in text:
        yield Problem(
            "FailedAttachVolume",
            f"a volume of pod {pod.name} is still attached to another node: {text}",
            "Warning",
            "it is attached here once no pod on that node uses it: delete that pod if it stays, or use a claim with "
            "ReadWriteMany",
        )
    elif word.reason == "FailedAttachVolume":
        yield Problem(
            "FailedAttachVolume",
            f"a volume of pod {pod.name} cannot be attached to its node: {text}",
            "Warning",
            "check the volume and the CSI driver of that node",
        )
    elif word.reason == "FailedPrepareDynamicResources":
        yield Problem(
            "FailedPrepareDynamicResources",
            f"the devices of pod {pod.name} cannot be prepared: {text}",
            "Warning",
            "check the DRA driver of its node, or correct resourceClaims in spec.podTemplate",
        )
    elif word.reason in ("FailedCreatePodSandBox", "NetworkNotReady"):
        yield _sandbox(pod, text)


def _references(mounts: tuple[Mounted, ...], text: str) -> list[Problem]:
    found = []
    for word, name in _MISSING.findall(text):
        kind = "Secret" if word.lower() == "secret" else "ConfigMap"
        message = f"{kind} {name!r} does not exist in this namespace: create it, or name another one"
        found.append(Problem(f"{kind}Missing", message, "Warning"))
    for volume, key in _MISSING_KEY.findall(text):
        kind = "Secret" if "secret key" in text else "ConfigMap"
        of = next((what for known, what in mounts if known == volume and what.startswith(kind)), "")
        subject = of or f"the {kind} of volume {volume!r}"
        found.append(
            Problem(f"{kind}KeyMissing", f"{subject} has no key {key!r}: add it, or name another key", "Warning")
        )
    return found


def _sandbox(pod: Pod, text: str) -> Problem:
    runtime = _RUNTIME.search(text)
    if runtime:
        name = runtime[1] or runtime[2]
        return Problem(
            "FailedCreatePodSandBox",
            f"the node of pod {pod.name} has no container runtime {name!r}: {text}",
            "Warning",
            "correct spec.runtimeClassName, or configure the runtime on the node (for nvidia: the NVIDIA container "
            "toolkit)",
        )
    return Problem(
        "FailedCreatePodSandBox",
        f"the kubelet cannot create the sandbox of pod {pod.name}: {text}",
        "Warning",
        "check the container runtime and the network plugin of its node",
    )
