"""What keeps a pod from starting, from what kubelet and scheduler say. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_operator.live.pods import Pod
from llm_operator.live.scheduling import ANYTHING, Asked, unschedulable

TOOLS_FIELD = "the chart's modelTools.image"

_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"})

_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})

_MISSING_REFERENCE = re.compile(r'(secret|configmap) "([^"]+)" not found', re.IGNORECASE)

_MISSING_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)")


@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps pods from serving."""

    reason: str
    message: str
    stalled: bool
    """Nothing will change until somebody changes the spec, a Secret or the cluster."""


def waiting_trouble(pod: Pod, image: str, field: str, asked: Asked = ANYTHING) -> Trouble | None:
    """What keeps a pod from starting.

    Args:
        pod: the pod.
        image: what its image is called in a message.
        field: where the image is set.
        asked: what the pod asks of a node.
    """
    if pod.unschedulable is not None:
        return Trouble(*unschedulable(pod.unschedulable, asked), stalled=False)
    if pod.waiting_reason == "InvalidImageName":
        return Trouble("InvalidImage", f"{pod.waiting_message}: correct {field}", stalled=True)
    if pod.waiting_reason in _IMAGE_REASONS:
        message = f"{image} cannot be pulled: {pod.waiting_message}; check {field} and imagePullSecrets"
        return Trouble("ImagePullFailed", message, stalled=False)
    if pod.waiting_reason in _CONFIG_REASONS:
        return _config_trouble(pod.waiting_message)
    return None


def _config_trouble(message: str) -> Trouble:
    reference = _MISSING_REFERENCE.search(message)
    if reference:
        kind = "Secret" if reference[1].lower() == "secret" else "ConfigMap"
        text = f"{kind} {reference[2]!r} does not exist in this namespace: create it, or name another one"
        return Trouble(f"{kind}Missing", text, stalled=False)
    key = _MISSING_KEY.search(message)
    if key:
        name = key[3].rsplit("/", 1)[-1]
        text = f"{key[2]} {name!r} has no key {key[1]!r}: add it, or name another key"
        return Trouble(f"{key[2]}KeyMissing", text, stalled=False)
    return Trouble("ContainerConfigError", message or "the container cannot be created", stalled=False)
