"""What the watches reported, reduced to what is decided on, by the key of the LLMDeployment it belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.names import ANNOTATION_RESTARTED
from llm_operator.api.overlay import too_large
from llm_operator.api.propagation import NO_PROPAGATION, Propagation
from llm_operator.kube.contest import STATUS_WRITTEN, written_at
from llm_operator.kube.job_index import Groups, JobIndex
from llm_operator.kube.keys import AnyKey, JobKey, Key
from llm_operator.kube.revision_index import RevisionIndex
from llm_operator.live.children import Child, ChildKey, Role, child_from, workload_in
from llm_operator.live.pods import Pod, controller_of, pod_from
from llm_operator.live.texts import shrunk
from llm_operator.manifests.chat_page import ROLE
from llm_operator.manifests.common import LABEL_CHAT, LABEL_DEPLOYMENT, MANAGER
from llm_operator.manifests.kinds import KINDS, Reduction
from llm_operator.manifests.network_policy import JOBS_SUFFIX
from llm_operator.manifests.tools import LABEL_STAGE
from llm_operator.pipeline.artifacts import LABEL_ARTIFACT
from llm_operator.pipeline.job_view import JobView, job_from
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.revisions import Revision, owner_of

JSON = dict[str, Any]


def _newer(version: str, than: str) -> bool:
    """Whether a resourceVersion is newer. They are decimal numbers that grow, by the API conventions since 1.35."""
    return int(version) > int(than)


TOO_LARGE = "too large"
"""Key of an object in the cache: fields that are too large to be kept, and how."""
KEPT_METADATA = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp")
MOST_LABELS = 256
MOST_MANAGERS = 16
"""Names of others who wrote the status that are kept."""


def _trimmed(raw: Mapping[str, Any], propagation: Propagation) -> JSON:
    """An LLMDeployment without what the API server keeps for itself, and without others' annotations.

    Of the managed fields only the names of others who wrote its status stay, and when it was written under
    the operators' name; of labels or a spec that are too large only what is wrong with them, under TOO_LARGE.
    """
    problems = too_large(raw.get("spec"))
    meta = {key: raw["metadata"][key] for key in KEPT_METADATA if key in raw["metadata"]}
    entries = raw["metadata"].get("managedFields") or ()
    of_status = [one for one in entries if one.get("subresource") == "status"]
    others = {str(one.get("manager")) for one in of_status} - {MANAGER}
    ours = written_at(raw, "status")
    if others:
        meta["managedFields"] = [{"manager": one, "subresource": "status"} for one in sorted(others)[:MOST_MANAGERS]]
    labels = raw["metadata"].get("labels") or {}
    if len(labels) > MOST_LABELS:
        problems = [("metadata.labels", f"{len(labels):,} labels; at most {MOST_LABELS:,}")]
    elif labels:
        meta["labels"] = labels
    given = raw["metadata"].get("annotations") or {}
    kept = {key: value for key, value in given.items() if key == ANNOTATION_RESTARTED or propagation.keeps(key)}
    if kept:
        meta["annotations"] = kept
    if ours:
        meta[STATUS_WRITTEN] = ours
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": meta,
        "spec": None if problems else raw.get("spec"),
        "status": raw.get("status"),
        **({TOO_LARGE: problems} if problems else {}),
    }


def _owner_name(meta: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """The LLMDeployment that a child is named after.

    `demo-chat` is the page of `demo` or the engine of `demo-chat`: its owner says, and its label if there is none.
    """
    name: str = meta["name"]
    if name.endswith(JOBS_SUFFIX):
        # No object's name holds a dot.
        return name.removesuffix(JOBS_SUFFIX)
    owner = next((owner for owner in meta.get("ownerReferences") or () if owner.get("controller")), None)
    said = labels.get(LABEL_CHAT) if owner is None else owner.get("name")
    return str(said) if name == f"{said}-{ROLE}" else name


def _reduction(kind: str) -> Reduction:
    """How objects of a kind are kept.

    Raises:
        ValueError: they are not.
    """
    reduced = KINDS[kind].reduced
    if reduced is None:
        raise ValueError(f"objects of kind {kind} are not kept: the table of kinds does not say how")
    return reduced


def _role(key: Key, name: str) -> Role:
    """What a child is there for, by its name."""
    return "engine" if name == key[1] else "jobs" if name.endswith(JOBS_SUFFIX) else "chat"


def child_key(key: Key, kind: str, name: str) -> ChildKey:
    """Under which a child of an object is kept."""
    return kind, _role(key, name)


MANY = 1000
"""Objects with children; the texts of what belongs to further ones are compressed."""
MOST_DELETED = 4096
"""Deleted objects and children that are remembered: for longer than a list or an event can be late."""


class Cache:
    """Objects, children and pods as last seen. Older versions never replace newer ones."""

    def __init__(self, propagation: Propagation = NO_PROPAGATION) -> None:
        self._propagation = propagation
        self.objects: dict[Key, JSON] = {}
        self._children: dict[Key, dict[ChildKey, Child]] = {}
        self._revisions = RevisionIndex()
        self._pods: dict[AnyKey, dict[str, Pod]] = {}
        self._jobs: dict[JobKey, JobView] = {}
        self._index = JobIndex()
        self._namespaces: Groups[str, Key] = Groups()
        """Keys of objects by namespace."""
        self._uids: dict[str, Key] = {}
        """Keys of objects by uid."""
        self._mounts: Groups[tuple[str, str], tuple[AnyKey, str]] = Groups()
        """Pods, as (key, name), by namespace and the directory that they mount."""
        self._deleted: dict[str, None] = {}
        """uids of children that this process deleted and of objects that are gone: what is late still shows them."""
        self._gone: dict[JobKey, Pod] = {}
        """By Job: the pod that was deleted last with a termination message, which is kept nowhere else."""

    def observed(self, key: Key) -> Observed:
        """The surroundings of one LLMDeployment; Jobs and claims are looked up where they are needed."""
        pods = self._sorted_pods(key)
        return Observed(
            children=dict(self._children.get(key, {})),
            pods=tuple(pod for pod in pods if pod.role == "engine"),
            chat_pods=tuple(pod for pod in pods if pod.role == "chat"),
            revisions=self._revisions.of(key),
        )

    def child(self, key: Key, kind: str, name: str) -> Child | None:
        """One child; None if there is none."""
        return self._children.get(key, {}).get(child_key(key, kind, name))

    def job(self, key: JobKey) -> JobView | None:
        """A Job with its pods; None if there is none that is ours.

        Ours is what an LLMDeployment that exists or a claim owns, and no one else controls; its pods are those that it
        controls. Names and labels are anyone's.
        """
        job = self._jobs.get(key)
        ours = job is not None and not job.foreign and (job.claim_uid or any(uid in self._uids for uid in job.owners))
        return self._view(key) if ours else None

    def _view(self, key: JobKey) -> JobView | None:
        job = self._jobs.get(key)
        if job is None:
            return None
        gone = (self._gone[key],) if key in self._gone else ()
        own = (pod for pod in self._sorted_pods(key) if pod.controller[0] == "Job" and pod.controller[2] == job.uid)
        return dataclasses.replace(job, pods=(*gone, *own))

    def jobs_at(self, namespace: str, directory: str) -> list[JobView]:
        """Jobs of the model tools that made, or began to make, a directory."""
        return self._views(self._index.at(namespace, directory))

    def jobs_removed_by(self, namespace: str, removal: str) -> list[JobView]:
        """Jobs of the model tools whose work one Job removes."""
        return self._views(self._index.removed_by(namespace, removal))

    def undecided_jobs(self, namespace: str) -> list[JobView]:
        """Jobs of the model tools that fetch and do not know yet into which directory."""
        return self._views(self._index.undecided(namespace))

    def verifies_other_than(self, key: JobKey) -> bool:
        """Whether a Job other than this one compares a model with its hashes, in any namespace."""
        return any(other != key and self.job(other) is not None for other in self._index.verifying)

    def objects_in(self, namespace: str) -> Iterable[Key]:
        """Keys of the LLMDeployments of a namespace."""
        return self._namespaces.of(namespace)

    def mounted(self, namespace: str, directory: str) -> bool:
        """Whether a pod mounts a directory of the cache."""
        return bool(self._mounts.of((namespace, directory)))

    def _views(self, keys: Iterable[JobKey]) -> list[JobView]:
        return [job for key in keys if (job := self.job(key)) is not None]

    def _sorted_pods(self, key: AnyKey) -> tuple[Pod, ...]:
        pods = self._pods.get(key, {})
        return tuple(pods[name] for name in sorted(pods))

    def key_of(self, raw: Mapping[str, Any]) -> AnyKey | None:
        """The LLMDeployment or Job that an object belongs to; None if it says none."""
        meta, labels = raw["metadata"], raw["metadata"].get("labels") or {}
        reduced = KINDS[raw["kind"]].reduced
        if reduced == "job":
            return JobKey(meta["namespace"], meta["name"])
        if reduced == "pod" and LABEL_STAGE in labels:
            return JobKey(meta["namespace"], f"llm-{labels[LABEL_STAGE]}-{labels.get(LABEL_ARTIFACT, '')}")
        if reduced == "revision":
            owner = owner_of(meta)
            return (meta["namespace"], owner) if owner is not None else None
        # Children are named after their object: whatever happens to their labels, they are found.
        of_pod = labels.get(LABEL_CHAT) or labels.get(LABEL_DEPLOYMENT)
        name = of_pod if reduced == "pod" else _owner_name(meta, labels)
        return (meta["namespace"], name) if name else None

    def update(self, raw: Mapping[str, Any], *, replace: bool = False) -> AnyKey | None:
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
        late = known is None and not replace and raw["metadata"].get("uid") in self._deleted
        # With a finalizer it is still there, and says that it goes.
        if late and "deletionTimestamp" not in raw["metadata"]:
            return None
        if known is not None and (version == known if replace else not _newer(version, known)):
            return None
        name, reduction = raw["metadata"]["name"], _reduction(kind)
        if reduction == "pod":
            self._set_pod(key, name, pod_from(raw, self._pods.get(key, {}).get(name)))
        elif isinstance(key, JobKey):
            self._jobs[key] = job_from(raw)
            self._index.update(key, self._view(key))
        elif reduction == "object":
            self._set_object(key, _trimmed(raw, self._propagation))
        elif reduction == "revision":
            self._revisions.update(key, raw, small=self._many)
        else:
            child = child_from(raw)
            if self._many:
                child = dataclasses.replace(child, text=shrunk(child.text))
            self._children.setdefault(key, {})[child_key(key, kind, name)] = child
            if child.revision:
                self._revisions.runs(key, child.revision)
        return key

    def remove(self, raw: Mapping[str, Any]) -> AnyKey | None:
        """Forget an object that is gone; the key to reconcile."""
        key, kind, meta = self.key_of(raw), raw["kind"], raw["metadata"]
        if key is None:
            return None
        known = self.version(kind, key, meta["name"])
        # A successor of the same name may be known already: the answer to an apply comes before the watch's events.
        if known is not None and not _newer(known, meta["resourceVersion"]):
            if _reduction(kind) == "object":
                # No selector hides it: it is deleted, and not only out of this watch's sight.
                self.deleted(kind, key, meta["name"], meta["uid"])
            else:
                self.forget(kind, key, meta["name"])
        job = self._jobs.get(key) if isinstance(key, JobKey) and _reduction(kind) == "pod" else None
        if isinstance(key, JobKey) and job is not None and ("Job", job.uid) == controller_of(meta)[::2]:
            pod = pod_from(raw)
            if pod.end is not None and pod.end.message:
                self._gone[key] = pod
                self._index.update(key, self._view(key))
        return key

    def forget(self, kind: str, key: AnyKey, name: str) -> None:
        """Drop one entry."""
        reduction = _reduction(kind)
        if reduction == "pod":
            self._set_pod(key, name, None)
        elif isinstance(key, JobKey):
            self._jobs.pop(key, None)
            self._gone.pop(key, None)
            self._index.update(key, None)
        elif reduction == "object":
            self._set_object(key, None)
        elif reduction == "revision":
            runs, body = workload_in(self._children.get(key, {}), "engine"), self.objects.get(key)
            uid = body["metadata"]["uid"] if body is not None else None
            self._revisions.forget(key, name, running=runs.revision if runs else "", owner_uid=uid)
        else:
            entries = self._children.get(key, {})
            entries.pop(child_key(key, kind, name), None)
            if not entries:
                self._children.pop(key, None)

    def deleted(self, kind: str, key: AnyKey, name: str, uid: str) -> None:
        """An object or a child is gone, whatever is shown of it later."""
        self.forget(kind, key, name)
        if len(self._deleted) >= MOST_DELETED:
            self._deleted.pop(next(iter(self._deleted)))
        self._deleted[uid] = None

    def learn(self, raw: Mapping[str, Any]) -> Revision | None:
        """Take in what a revision holds, of which the watch has the metadata alone; None: it belongs to no object."""
        key = self.key_of(raw)
        if key is None or isinstance(key, JobKey):
            return None
        return self._revisions.update(key, raw, small=self._many)

    @property
    def _many(self) -> bool:
        """Whether memory counts for more than time."""
        return len(self._children) > MANY

    def _set_object(self, key: Key, body: JSON | None) -> None:
        before = self.objects.pop(key, None)
        if before is not None:
            self._uids.pop(before["metadata"].get("uid"), None)
        if body is None:
            self._namespaces.remove(key[0], key)
            self._revisions.object_gone(key)
            return
        self.objects[key] = body
        self._uids[body["metadata"].get("uid")] = key
        self._namespaces.add(key[0], key)

    def _set_pod(self, key: AnyKey, name: str, pod: Pod | None) -> None:
        entries = self._pods.setdefault(key, {})
        before = entries.pop(name, None)
        for directory in before.models if before is not None else ():
            self._mounts.remove((key[0], directory), (key, name))
        if pod is not None:
            entries[name] = pod
            for directory in pod.models:
                self._mounts.add((key[0], directory), (key, name))
        if not entries:
            del self._pods[key]
        if isinstance(key, JobKey) and key in self._jobs:
            self._index.update(key, self._view(key))

    def entries(self, kind: str) -> Iterable[tuple[AnyKey, str, str]]:
        """Key, name and resourceVersion of everything known of a kind."""
        match _reduction(kind):
            case "object":
                return [(key, key[1], body["metadata"]["resourceVersion"]) for key, body in self.objects.items()]
            case "job":
                return [(job, view.name, view.resource_version) for job, view in self._jobs.items()]
            case "pod":
                every = ((of, pod) for of, pods in self._pods.items() for pod in pods.values())
                return [(of, pod.name, pod.resource_version) for of, pod in every]
            case "child":
                children = ((key, child) for key, own in self._children.items() for child in own.values())
                return [(key, child.name, child.resource_version) for key, child in children if child.kind == kind]
            case "revision":
                return list(self._revisions.entries())

    def version(self, kind: str, key: AnyKey, name: str) -> str | None:
        """The resourceVersion that is known of one object; None if it is not known."""
        reduction = _reduction(kind)
        if reduction == "pod":
            pod = self._pods.get(key, {}).get(name)
            return pod.resource_version if pod else None
        if isinstance(key, JobKey):
            return self._jobs[key].resource_version if key in self._jobs else None
        if reduction == "object":
            body = self.objects.get(key)
            return body["metadata"]["resourceVersion"] if body else None
        if reduction == "revision":
            return self._revisions.version(key, name)
        child = self.child(key, kind, name)
        return child.resource_version if child else None
