"""What keeps a pod from starting, from what kubelet and scheduler say. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_operator.live.pods import Pod
from llm_operator.live.scheduling import ANYTHING, Asked, not_scheduled, unschedulable
from llm_operator.live.start_faults import start_fault
from llm_operator.problems import Check, Problem, first

TOOLS_FIELD = "the chart's modelTools.image"

_IMAGE_REMEDIES = {
    "ErrImagePull": "check {field} and imagePullSecrets",
    "ImagePullBackOff": "check {field} and imagePullSecrets",
    "RegistryUnavailable": "check {field}, and whether the node reaches the registry",
    "ErrImageNeverPull": "load the image onto the node, or allow another pull policy than Never",
    "ImageInspectError": "check {field}, and the container runtime of the pod's node",
    "SignatureValidationFailed": "sign the image, name a signed one in {field}, or change the node's signature policy",
}
"""What to do, by the reason that the kubelet gives for an image that it does not have (kubelet 1.30 to 1.36)."""

_BETWEEN = re.compile(r'^Back-off pulling image "[^"]*": (?:[A-Z]\w+: )?(?=\S)')
"""Before the words of the last attempt, while the kubelet waits for the next one (kubelet 1.36)."""
_PORT = re.compile(r"(\d|\]):\d+->")
"""Of this end of a connection; each attempt has another one."""

_NO_FAULT = frozenset({"", "ContainerCreating", "PodInitializing", "CrashLoopBackOff"})
"""Reasons of a container that waits for its turn; of a crash loop the last end says why."""

_PASSES = re.compile(r"failed to sync \w+ cache|services have not yet been read at least once")
"""A kubelet that has just started has not read everything yet."""

_ROOT = re.compile(r"container has runAsNonRoot and image")

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
    remedy = _IMAGE_REMEDIES.get(of.pod.waiting_reason or "")
    if remedy is None:
        return None
    image, field = of.image, of.field
    if any(_is_about(of.pod.waiting_message, reference) for reference in of.pod.image_volumes):
        # The kubelet reports it at the container that mounts the volume.
        image, field = "the image of a volume, such as the model's,", "spec.model.image.reference"
    text = f"{image} cannot be pulled: {_steady(of.pod.waiting_message)}"
    return Problem("ImagePullFailed", text, "Warning", remedy.format(field=field))


def _steady(message: str) -> str:
    """Why an image cannot be pulled, in the same words at each attempt and between two: a status is written once."""
    return _PORT.sub(r"\1->", _BETWEEN.sub("", message))


def _is_about(message: str, reference: str) -> bool:
    """Whether the kubelet names this image; the container runtime may have added a registry and a tag."""
    return re.search(rf'["/\s]{re.escape(reference)}(?::latest)?["\s:,]', f" {message} ") is not None


def _configuration(of: Waiting) -> Problem | None:
    """Any other reason for which the kubelet does not start a container, also one that no kubelet gives yet."""
    if (of.pod.waiting_reason or "") in _NO_FAULT or _PASSES.search(of.pod.waiting_message):
        return None
    return _config_problem(of.pod)


WAITING: tuple[Check[Waiting], ...] = (_node, _start, _image_name, _image, _configuration)
"""What keeps a pod from starting, in the order of its start."""


def waiting_trouble(pod: Pod, image: str, field: str, asked: Asked = ANYTHING) -> Problem | None:
    """What keeps a pod from starting; None if nothing does. The arguments are those of Waiting."""
    return first(WAITING, Waiting(pod, image, field, asked))


def _config_problem(pod: Pod) -> Problem:
    message = pod.waiting_message
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
    container = f"container {pod.container!r}" if pod.container else "the container"
    text = f"the kubelet cannot start {container} ({pod.waiting_reason}): {message or 'no message'}"
    remedy = f"`kubectl describe pod {pod.name}` has all events"
    if _ROOT.search(message):
        remedy = "name a user other than 0 in spec.podTemplate (securityContext.runAsUser), or use an image with one"
    return Problem("ContainerConfigError", text, "Warning", remedy)
