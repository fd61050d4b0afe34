"""What keeps a pod from starting, from what kubelet and scheduler say. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_operator.live.pods import Pod
from llm_operator.live.scheduling import ANYTHING, Asked, not_scheduled, unschedulable
from llm_operator.live.start_faults import start_fault
from llm_operator.problems import Check, Problem, first

TOOLS_FIELD = "the chart's modelTools.image"

_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"})

_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})

_MISSING_REFERENCE = re.compile(r'(secret|configmap) "([^"]+)" not found', re.IGNORECASE)

_MISSING_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pod that may wait for something.

    Attributes:
        pod: the pod.
        image: what its image is called in a message.
        field: where the image is set.
        asked: what the pod asks of a node.
    """

    pod: Pod
    image: str
    field: str
    asked: Asked = ANYTHING


def _node(of: Waiting) -> Problem | None:
    if of.pod.unschedulable is not None:
        return unschedulable(of.pod.unschedulable, of.asked)
    return not_scheduled(of.pod, of.asked) if of.pod.awaits == "Node" else None


def _start(of: Waiting) -> Problem | None:
    return start_fault(of.pod) if of.pod.awaits == "Start" else None


def _image_name(of: Waiting) -> Problem | None:
    if of.pod.waiting_reason != "InvalidImageName":
        return None
    return Problem("InvalidImage", f"{of.pod.waiting_message}: correct {of.field}", "Error")


def _image(of: Waiting) -> Problem | None:
    if of.pod.waiting_reason not in _IMAGE_REASONS:
        return None
    text = f"{of.image} cannot be pulled: {of.pod.waiting_message}"
    return Problem("ImagePullFailed", text, "Warning", f"check {of.field} and imagePullSecrets")


def _configuration(of: Waiting) -> Problem | None:
    return _config_problem(of.pod.waiting_message) if of.pod.waiting_reason in _CONFIG_REASONS else None


WAITING: tuple[Check[Waiting], ...] = (_node, _start, _image_name, _image, _configuration)
"""What keeps a pod from starting, in the order of its start."""


def waiting_trouble(pod: Pod, image: str, field: str, asked: Asked = ANYTHING) -> Problem | None:
    """What keeps a pod from starting; None if nothing does. The arguments are those of Waiting."""
    return first(WAITING, Waiting(pod, image, field, asked))


def _config_problem(message: str) -> Problem:
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
