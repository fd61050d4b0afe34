"""What keeps a pod from starting, from what kubelet and scheduler say. Pure."""

from __future__ import annotations

import re

from llm_operator.live.pods import Pod
from llm_operator.live.scheduling import ANYTHING, Asked, unschedulable
from llm_operator.problems import Problem

TOOLS_FIELD = "the chart's modelTools.image"

_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"})

_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})

_MISSING_REFERENCE = re.compile(r'(secret|configmap) "([^"]+)" not found', re.IGNORECASE)

_MISSING_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)")


def waiting_trouble(pod: Pod, image: str, field: str, asked: Asked = ANYTHING) -> Problem | None:
    """What keeps a pod from starting.

    Args:
        pod: the pod.
        image: what its image is called in a message.
        field: where the image is set.
        asked: what the pod asks of a node.
    """
    if pod.unschedulable is not None:
        return unschedulable(pod.unschedulable, asked)
    if pod.waiting_reason == "InvalidImageName":
        return Problem("InvalidImage", f"{pod.waiting_message}: correct {field}", "Error")
    if pod.waiting_reason in _IMAGE_REASONS:
        message = f"{image} cannot be pulled: {pod.waiting_message}; check {field} and imagePullSecrets"
        return Problem("ImagePullFailed", message, "Warning")
    if pod.waiting_reason in _CONFIG_REASONS:
        return _config_trouble(pod.waiting_message)
    return None


def _config_trouble(message: str) -> Problem:
    reference = _MISSING_REFERENCE.search(message)
    if reference:
        kind = "Secret" if reference[1].lower() == "secret" else "ConfigMap"
        text = f"{kind} {reference[2]!r} does not exist in this namespace: create it, or name another one"
        return Problem(f"{kind}Missing", text, "Warning")
    key = _MISSING_KEY.search(message)
    if key:
        name = key[3].rsplit("/", 1)[-1]
        text = f"{key[2]} {name!r} has no key {key[1]!r}: add it, or name another key"
        return Problem(f"{key[2]}KeyMissing", text, "Warning")
    return Problem("ContainerConfigError", message or "the container cannot be created", "Warning")
