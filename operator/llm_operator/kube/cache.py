"""What the watches told, reduced to what is decided on, by the key of the LLMDeployment it belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.names import ANNOTATION_RESTARTED
from llm_operator.kube.workqueue import Key
from llm_operator.manifests.artifacts import LABEL_ARTIFACT, LABEL_STAGE
from llm_operator.manifests.chat_page import ROLE
from llm_operator.manifests.common import LABEL_CHAT, LABEL_DEPLOYMENT
from llm_operator.manifests.network_policy import JOBS_SUFFIX
from llm_operator.reconcile.jobs import JobView, job_from
from llm_operator.reconcile.observed import CHILD_KINDS, Child, ChildKey, Observed, Pod, Role, child_from, pod_from

JSON = dict[str, Any]


def _newer(version: str, than: str) -> bool:
    """Whether a resourceVersion is newer. They are decimal numbers that grow, by the API conventions since 1.35."""
    return int(version) > int(than)


JOB_PREFIX = "job/"
"""Begins the name in a Job's key; no object's name holds a slash."""


def job_key(namespace: str, job: str) -> Key:
    """The queue's key of a Job of the model tools: many objects may wait for it, so it has one of its own."""
    return namespace, f"{JOB_PREFIX}{job}"


def _trimmed(raw: Mapping[str, Any]) -> JSON:
    """An LLMDeployment without what the API server keeps for itself, and without others' annotations."""
    meta = {key: value for key, value in raw["metadata"].items() if key not in ("managedFields", "annotations")}
    restarted = (raw["metadata"].get("annotations") or {}).get(ANNOTATION_RESTARTED)
    if restarted is not None:
        meta["annotations"] = {ANNOTATION_RESTARTED: restarted}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": meta,
        "spec": raw.get("spec"),
        "status": raw.get("status"),
    }


def _owner_name(meta: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """The LLMDeployment that a child is named after.

    `demo-chat` is the page of `demo` or the engine of `demo-chat`: its owner tells, and its label where there is none.
    """
    name: str = meta["name"]
    if name.endswith(JOBS_SUFFIX):
        # No object's name holds a dot.
        return name.removesuffix(JOBS_SUFFIX)
    owner = next((owner for owner in meta.get("ownerReferences") or () if owner.get("controller")), None)
    said = labels.get(LABEL_CHAT) if owner is None else owner.get("name")
    return str(said) if name == f"{said}-{ROLE}" else name


def _role(key: Key, name: str) -> Role:
    """What a child is there for, by its name."""
    return "engine" if name == key[1] else "jobs" if name.endswith(JOBS_SUFFIX) else "chat"


class Cache:
    """Objects, children and pods as last seen. Older versions never replace newer ones."""

    def __init__(self) -> None:
        self.objects: dict[Key, JSON] = {}
        self._children: dict[Key, dict[ChildKey, Child]] = {}
        self._pods: dict[Key, dict[str, Pod]] = {}
        self._jobs: dict[Key, JobView] = {}
        self._gone: dict[Key, Pod] = {}
        """By Job: the pod that was deleted last with last words. They are told nowhere else."""

    def observed(self, key: Key) -> Observed:
        """The surroundings of one LLMDeployment; Jobs and claims are looked up where they are needed."""
        pods = self._sorted_pods(key)
        return Observed(
            children=dict(self._children.get(key, {})),
            pods=tuple(pod for pod in pods if pod.role == "engine"),
            chat_pods=tuple(pod for pod in pods if pod.role == "chat"),
        )

    def job(self, key: Key) -> JobView | None:
        """A Job with its pods, by its key in the queue."""
        job = self._jobs.get(key)
        if job is None:
            return None
        gone = (self._gone[key],) if key in self._gone else ()
        return dataclasses.replace(job, pods=(*gone, *self._sorted_pods(key)))

    def jobs(self, namespace: str) -> list[JobView]:
        """Every Job of the model tools in a namespace."""
        return [job for key in self._jobs if key[0] == namespace and (job := self.job(key)) is not None]

    def pods(self, namespace: str) -> list[Pod]:
        """Every pod in a namespace that belongs to a deployment or a Job of ours."""
        return [pod for key, pods in self._pods.items() if key[0] == namespace for pod in pods.values()]

    def _sorted_pods(self, key: Key) -> tuple[Pod, ...]:
        pods = self._pods.get(key, {})
        return tuple(pods[name] for name in sorted(pods))

    def key_of(self, raw: Mapping[str, Any]) -> Key | None:
        """The LLMDeployment that an object belongs to; None where it says none."""
        meta, labels = raw["metadata"], raw["metadata"].get("labels") or {}
        if raw["kind"] == "Job":
            return job_key(meta["namespace"], meta["name"])
        if raw["kind"] == "Pod" and LABEL_STAGE in labels:
            return job_key(meta["namespace"], f"llm-{labels[LABEL_STAGE]}-{labels.get(LABEL_ARTIFACT, '')}")
        if raw["kind"] == "Pod":
            name = labels.get(LABEL_CHAT) or labels.get(LABEL_DEPLOYMENT)
        else:
            # Children are named after their object: whatever happens to their labels, they are found.
            name = _owner_name(meta, labels)
        return (meta["namespace"], name) if name else None

    def update(self, raw: Mapping[str, Any], *, replace: bool = False) -> Key | None:
        """Take in a live object; the key to reconcile, or None when it was known already.

        Args:
            raw: as the API server sent it.
            replace: another version counts although it is lower: a list says what is there, also after etcd was
                restored from a backup.
        """
        key, kind = self.key_of(raw), raw["kind"]
        if key is None:
            return None
        version = raw["metadata"]["resourceVersion"]
        known = self.version(kind, key, raw["metadata"]["name"])
        if known is not None and (version == known if replace else not _newer(version, known)):
            return None
        if kind == KIND:
            self.objects[key] = _trimmed(raw)
        elif kind == "Pod":
            pods = self._pods.setdefault(key, {})
            pods[raw["metadata"]["name"]] = pod_from(raw, pods.get(raw["metadata"]["name"]))
        elif kind == "Job":
            self._jobs[key] = job_from(raw)
        else:
            self._children.setdefault(key, {})[kind, _role(key, raw["metadata"]["name"])] = child_from(raw)
        return key

    def remove(self, raw: Mapping[str, Any]) -> Key | None:
        """Forget an object that is gone; the key to reconcile."""
        key, kind, meta = self.key_of(raw), raw["kind"], raw["metadata"]
        if key is None:
            return None
        known = self.version(kind, key, meta["name"])
        # A successor of the same name may be known already: the answer to an apply comes before the watch's events.
        if known is not None and not _newer(known, meta["resourceVersion"]):
            self.forget(kind, key, meta["name"])
        job = self._jobs.get(key) if kind == "Pod" else None
        if job is not None and job.uid in {owner["uid"] for owner in meta.get("ownerReferences") or ()}:
            pod = pod_from(raw)
            if pod.end is not None and pod.end.message:
                self._gone[key] = pod
        return key

    def forget(self, kind: str, key: Key, name: str) -> None:
        """Drop one entry."""
        if kind == KIND:
            self.objects.pop(key, None)
            return
        if kind == "Job":
            self._jobs.pop(key, None)
            self._gone.pop(key, None)
            return
        table: dict[Key, dict[Any, Any]] = self._pods if kind == "Pod" else self._children
        entries = table.get(key, {})
        entries.pop(name if kind == "Pod" else (kind, _role(key, name)), None)
        if not entries:
            table.pop(key, None)

    def entries(self, kind: str) -> Iterable[tuple[Key, str, str]]:
        """Key, name and resourceVersion of everything known of a kind."""
        if kind == KIND:
            return [(key, key[1], body["metadata"]["resourceVersion"]) for key, body in self.objects.items()]
        if kind == "Job":
            return [(key, job.name, job.resource_version) for key, job in self._jobs.items()]
        if kind == "Pod":
            return [(key, pod.name, pod.resource_version) for key, pods in self._pods.items() for pod in pods.values()]
        return [
            (key, child.name, child.resource_version)
            for key, children in self._children.items()
            for child in children.values()
            if child.kind == kind
        ]

    def version(self, kind: str, key: Key, name: str) -> str | None:
        """The resourceVersion that is known of one object; None if it is not known."""
        if kind == KIND:
            body = self.objects.get(key)
            return body["metadata"]["resourceVersion"] if body else None
        if kind == "Job":
            return self._jobs[key].resource_version if key in self._jobs else None
        if kind == "Pod":
            pod = self._pods.get(key, {}).get(name)
            return pod.resource_version if pod else None
        child = self._children.get(key, {}).get((kind, _role(key, name)))
        return child.resource_version if child else None


WATCHED_KINDS = (KIND, *CHILD_KINDS, "Job", "Pod")
