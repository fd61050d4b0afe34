"""Why the engine's pods do not serve: one reason and one message from what kubelet and scheduler say. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llm_operator.api import EngineType
from llm_operator.engines.failures import diagnose as diagnose_log
from llm_operator.engines.failures import is_more_in_the_log
from llm_operator.live.pods import ContainerEnd, Pod
from llm_operator.live.refused_pods import remedy_of
from llm_operator.live.scheduling import ANYTHING, Asked
from llm_operator.live.trouble import TOOLS_FIELD, waiting_trouble
from llm_operator.manifests.model_volume import FETCHER
from llm_operator.manifests.pod import CONTAINER as ENGINE_CONTAINER
from llm_operator.manifests.trust import CONTAINER as TRUST
from llm_operator.pipeline.result import parse_result
from llm_operator.problems import Check, Problem, Severity, first

# After this many deaths since the pod was Ready last the engine will not come up by itself.
HOPELESS_RESTARTS = 3


def trouble_of(pods: Iterable[Pod], engine: EngineType, asked: Asked = ANYTHING) -> Problem | None:
    """The trouble that weighs most among the pods of the current spec; None when there is none.

    Args:
        pods: the pods.
        engine: which engine they run.
        asked: what they ask of a node.
    """
    alive = [pod for pod in pods if not pod.deleting]
    # What is left of a pod that was given up is history once there is another one.
    if any(pod.phase != "Failed" for pod in alive):
        alive = [pod for pod in alive if pod.phase != "Failed"]
    found = [trouble for pod in alive if not pod.ready and (trouble := first(OF_POD, _Ill(pod, engine, asked)))]
    return min(found, key=lambda problem: (not problem.stalls, problem.reason, problem.text), default=None)


@dataclass(frozen=True, slots=True)
class _Ill:
    """A pod that is not Ready, its engine, and what it asks of a node."""

    pod: Pod
    engine: EngineType
    asked: Asked

    @property
    def fetches(self) -> bool:
        """Whether its words are those of a container that runs before the engine."""
        return self.pod.container in (FETCHER, TRUST)

    @property
    def ended(self) -> ContainerEnd | None:
        """The end that the pod has not come back from."""
        return None if self.pod.restarts == 0 and self.pod.running else self.pod.end


def _waits(of: _Ill) -> Problem | None:
    if of.fetches:
        return waiting_trouble(of.pod, "the model tools' image", TOOLS_FIELD, of.asked)
    return waiting_trouble(of.pod, "the engine's image", "spec.engine.image", of.asked)


def _ended_as_a_whole(of: _Ill) -> Problem | None:
    return _given_up(of.pod) if of.pod.phase == "Failed" and of.pod.failure else None


def _node_lost(of: _Ill) -> Problem | None:
    if not of.pod.node_lost:
        return None
    return Problem(
        "NodeLost",
        f"the node of pod {of.pod.name} does not answer; in 5 minutes Kubernetes makes another pod, if a node has room",
        "Warning",
        f"repair the node that `kubectl get pod {of.pod.name} -o wide` shows, or delete it",
    )


def _fetch_failed(of: _Ill) -> Problem | None:
    return _fetch_failure(of.ended, of.pod.deaths) if of.ended is not None and of.fetches else None


def _engine_died(of: _Ill) -> Problem | None:
    return _crash(of.pod, of.ended, of.engine) if of.ended is not None and not of.fetches else None


OF_POD: tuple[Check[_Ill], ...] = (_waits, _ended_as_a_whole, _node_lost, _fetch_failed, _engine_died)
"""Why a pod does not serve, in the order in which it counts."""


_TAKEN = "other pods of that node have what is left: free the node, or check what its device plugin reports"
_GIVEN_UP = {
    "Evicted": "the node ran out of a resource: request what the pod needs in spec.resources, or free the node",
    "UnexpectedAdmissionError": "the kubelet could not give the pod its devices: check the device plugin of that node",
    "OutOfcpu": "the node has too little CPU left for the pod",
    "OutOfmemory": "the node has too little memory left for the pod",
    "NodeLost": "the node does not answer",
    "NodeShutdown": "the node was shut down",
    "Terminated": "the node was shut down",
    "Preempting": "a pod of higher priority took its place: raise spec.priorityClassName",
}


def _given_up(pod: Pod) -> Problem:
    """A pod that ended as a whole, without a word of its containers."""
    # The kubelet writes the name of the resource into its reason: OutOfnvidia.com/gpu.
    other = "OutOfResource" if pod.failure.startswith("OutOf") else "PodFailed"
    reason = pod.failure if re.fullmatch(r"[A-Z][A-Za-z0-9]*", pod.failure) else other
    text = f"the pod was ended ({pod.failure}): {pod.failure_message or 'no message'}"
    remedy = _GIVEN_UP.get(pod.failure, _TAKEN if other == "OutOfResource" else "")
    return Problem(reason, text, "Warning", remedy)


def _fetch_failure(end: ContainerEnd, restarts: int) -> Problem:
    """Why the init container could not fetch the model into the pod's own volume."""
    result = parse_result(end.message)
    return Problem(result.reason, f"{result.message} ({_restarts(restarts)})", _severity(restarts))


def _severity(restarts: int) -> Severity:
    return "Error" if restarts >= HOPELESS_RESTARTS else "Warning"


def _restarts(count: int) -> str:
    return f"{count} restart{'' if count == 1 else 's'}"


def wants_log(pod: Pod, engine: EngineType) -> bool:
    """The pod's engine died, and its termination message is empty, says nothing of the cause, or was cut before it."""
    if pod.end is None or pod.ready or pod.deleting or pod.end.reason == "OOMKilled":
        return False
    end = pod.end
    return is_more_in_the_log(engine, end.exit_code, end.signal, end.message, pod.engine_version)


def _crash(pod: Pod, end: ContainerEnd, engine: EngineType) -> Problem:
    often, severity = f"({_restarts(pod.deaths)})", _severity(pod.deaths)
    if end.reason == "OOMKilled":
        text = "the container exceeded its memory limit and was killed: raise spec.resources.limits.memory"
        return Problem("HostMemoryExhausted", f"{text} {often}", severity)
    diagnosis = diagnose_log(engine, end.exit_code, end.signal, end.message, pod.engine_version)
    text = f"the engine ended with exit code {end.exit_code}: {diagnosis.text}"
    if end.log_unread:
        text = f"{text}; the log would tell more: {end.log_unread}"
    return Problem(diagnosis.reason, f"{text} {often}", severity)


def end_reason(pod: Pod, engine: str) -> str | None:
    """The reason of the engine's latest end, by what the pod itself says of it; None: it has not ended.

    Args:
        pod: a pod of the engine.
        engine: name of the engine.
    """
    if pod.phase == "Failed" and pod.failure:
        return _given_up(pod).reason
    if pod.end is None or pod.container != ENGINE_CONTAINER:
        return None
    return _reason(engine, pod.end, pod.engine_version)


@lru_cache(maxsize=1024)
def _reason(engine: str, end: ContainerEnd, version: str | None) -> str:
    if end.reason == "OOMKilled":
        return "HostMemoryExhausted"
    return diagnose_log(engine, end.exit_code, end.signal, end.message, version).reason


def write_refused(kind: str, name: str, message: str) -> Problem:
    """A write that the API server, a quota or a policy refused."""
    return Problem("WriteRefused", f"{kind} {name!r} was refused: {message}", "Warning", remedy_of(kind, message))


def deletion_refused(kind: str, name: str, message: str) -> Problem:
    """A deletion that the API server or a policy refused: what is there is not what the object requests."""
    return Problem("WriteRefused", f"the deletion of {kind} {name!r} was refused: {message}", "Warning")


def namespace_goes(namespace: str) -> Problem:
    """The API server creates nothing in a namespace that is being deleted."""
    text = f"namespace {namespace!r} is being deleted: nothing can be created in it"
    return Problem("NamespaceTerminating", text, "Warning")


def image_volumes(body: Mapping[str, Any]) -> frozenset[str]:
    """Names of a pod template's volumes that are images; empty for objects without a pod template."""
    spec = ((body.get("spec") or {}).get("template") or {}).get("spec") or {}
    return frozenset(volume["name"] for volume in spec.get("volumes") or [] if "image" in volume)


def without_image_volumes() -> Problem:
    """The API server drops image volumes and their mounts without a word if it does not know them."""
    text = "spec.model.image: this cluster has no image volumes (Kubernetes 1.35, or the feature gate ImageVolume)"
    return Problem("ImageVolumesMissing", f"{text}: use persistentVolumeClaim, or a hub", "Error")
