"""Why the engine's pods do not serve: one reason and one message from what kubelet and scheduler say. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from llm_operator.api import EngineType
from llm_operator.engines.failures import diagnose as diagnose_log
from llm_operator.reconcile.observed import ContainerEnd, Pod

# After this many starts with the same end the engine will not come up by itself.
HOPELESS_RESTARTS = 3

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


def trouble_of(pods: Iterable[Pod], engine: EngineType) -> Trouble | None:
    """The trouble that weighs most among the pods of the current spec; None when there is none."""
    found = [trouble for pod in pods if not pod.deleting and not pod.ready and (trouble := _pod_trouble(pod, engine))]
    return min(found, key=lambda trouble: (not trouble.stalled, trouble.reason, trouble.message), default=None)


def _pod_trouble(pod: Pod, engine: EngineType) -> Trouble | None:
    if pod.unschedulable is not None:
        return _unschedulable(pod.unschedulable)
    if pod.waiting_reason == "InvalidImageName":
        return Trouble("InvalidImage", f"{pod.waiting_message}: correct spec.engine.image", stalled=True)
    if pod.waiting_reason in _IMAGE_REASONS:
        message = (
            f"the engine's image cannot be pulled: {pod.waiting_message}; check spec.engine.image and imagePullSecrets"
        )
        return Trouble("ImagePullFailed", message, stalled=False)
    if pod.waiting_reason in _CONFIG_REASONS:
        return _config_trouble(pod.waiting_message)
    if pod.end is not None and (pod.restarts > 0 or not pod.running):
        return _crash(pod.end, pod.restarts, engine)
    return None


def _unschedulable(message: str) -> Trouble:
    missing = re.search(r'persistentvolumeclaim "([^"]+)" not found', message)
    if missing:
        text = f"PersistentVolumeClaim {missing[1]!r} does not exist in this namespace: create it, or name another one"
        return Trouble("ClaimMissing", text, stalled=False)
    return Trouble("Unschedulable", f"no node takes the pod: {message}", stalled=False)


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


def _crash(end: ContainerEnd, restarts: int, engine: EngineType) -> Trouble:
    stalled = restarts >= HOPELESS_RESTARTS
    if end.reason == "OOMKilled":
        text = "the container exceeded its memory limit and was killed: raise spec.resources.limits.memory"
        return Trouble("HostMemoryExhausted", f"{text} ({restarts} restarts)", stalled)
    diagnosis = diagnose_log(engine, end.exit_code, end.signal, end.message)
    text = f"the engine ended with exit code {end.exit_code}: {diagnosis.message}"
    if diagnosis.remedy:
        text = f"{text}; {diagnosis.remedy}"
    return Trouble(diagnosis.reason, f"{text} ({restarts} restarts)", stalled)
