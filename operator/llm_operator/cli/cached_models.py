"""The models on a cluster's caches, from its Jobs and LLMDeployments as the API server returns them. Pure.

A Job is the record of what it put on a claim: directory, size, revision. Which objects use it follows from their specs,
by the same names that the operator gives Jobs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from llm_operator.api.resource import InvalidResource, LLMDeployment
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job_view import JobView, job_from
from llm_operator.pipeline.retention import KEPT

JSON = dict[str, Any]

READY = "Ready"
FAILED = "Failed"
INCOMPLETE = "Incomplete"
"""A Job failed, or was ended because no object used it, and left partial output."""
REMOVING = "Removing"
_DOING: Mapping[str, str] = {"fetch": "Fetching", "quantize": "Quantizing", "convert": "Converting"}


@dataclass(frozen=True, slots=True)
class CachedModel:
    """What one Job put, or is putting, on a claim.

    Attributes:
        namespace: of the Job and the claim.
        claim: the PersistentVolumeClaim.
        job: name of the Job.
        resource_version: the Job's, as it was read.
        directory: directory on the claim, also of partial output; empty while it is not known.
        source: what it was made from, from the Job's annotation.
        revision: commit of the hub; None: not known, or no hub.
        bytes: size of the files that are there; None: not known.
        state: Ready, Failed, Incomplete, Removing, or what the Job does now.
        reason: CamelCase word, where something failed.
        message: what was wrong, or how far the Job that runs is.
        used_by: names of the LLMDeployments that use this directory.
        unused_since: RFC 3339; since when no object uses it, as recorded by the operator.
        to_be_removed: its removal was requested.
    """

    namespace: str
    claim: str
    job: str
    resource_version: str
    directory: str
    source: Mapping[str, Any]
    revision: str | None
    bytes: int | None
    state: str
    reason: str
    message: str
    used_by: tuple[str, ...]
    unused_since: str | None
    to_be_removed: bool

    @property
    def place(self) -> tuple[str, str, str]:
        """Namespace, claim and directory: two Jobs may have filled the same one (a branch, and its commit)."""
        return self.namespace, self.claim, self.directory

    @property
    def unused(self) -> bool:
        """It exists, complete or partial, and no object uses it."""
        return self.state in (READY, INCOMPLETE) and not self.used_by


@dataclass(frozen=True, slots=True)
class Inventory:
    """The models, and the objects that could not be read: the models of those are unknown."""

    models: tuple[CachedModel, ...]
    unreadable: tuple[tuple[str, str, str], ...] = ()
    """Namespace, name and problem."""


@dataclass(frozen=True, slots=True)
class ClaimTotal:
    """What lies on one claim; bytes are those of the models whose size is known."""

    namespace: str
    claim: str
    models: int
    bytes: int
    unused_models: int
    unused_bytes: int


def inventory(jobs: Iterable[Mapping[str, Any]], objects: Iterable[Mapping[str, Any]]) -> Inventory:
    """Everything that the model tools keep on claims.

    Args:
        jobs: Jobs with the label of a stage.
        objects: the LLMDeployments of the same namespaces.
    """
    users, unreadable = _users(objects)
    views = [(raw, job_from(raw)) for raw in jobs]
    removals = {(raw["metadata"]["namespace"], job.name): job for raw, job in views if job.stage == "remove"}
    models: list[CachedModel] = []
    asked: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for raw, job in views:
        if job.stage not in KEPT or job.deleting:
            continue
        namespace = raw["metadata"]["namespace"]
        here = users.get((namespace, job.name), ())
        model = _model(raw, job, removals.get((namespace, job.removal() or "")), here)
        models.append(model)
        asked[model.place].update(model.used_by)
    shared = [
        replace(model, used_by=tuple(sorted(asked[model.place]))) if model.directory else model for model in models
    ]
    return Inventory(tuple(sorted(shared, key=lambda model: (*model.place, model.job))), tuple(sorted(unreadable)))


def _users(
    objects: Iterable[Mapping[str, Any]],
) -> tuple[dict[tuple[str, str], list[LLMDeployment]], list[tuple[str, str, str]]]:
    """Which objects use which Job, and which objects cannot be read."""
    users: dict[tuple[str, str], list[LLMDeployment]] = defaultdict(list)
    unreadable: list[tuple[str, str, str]] = []
    for body in objects:
        meta = body["metadata"]
        if "deletionTimestamp" in meta:
            continue
        try:
            resource = LLMDeployment.parse(body)
        except InvalidResource as invalid:
            unreadable.append((meta["namespace"], meta["name"], str(invalid)))
            continue
        for artifact in artifacts_of(resource):
            users[meta["namespace"], artifact.job_name].append(resource)
    return users, unreadable


def _model(
    raw: Mapping[str, Any], job: JobView, removal: JobView | None, users: Sequence[LLMDeployment]
) -> CachedModel:
    result = job.result() if job.phase == "Complete" else None
    leftover = job.leftover()
    state, reason, message = _removing(removal) if removal is not None else _state(job, users)
    return CachedModel(
        namespace=raw["metadata"]["namespace"],
        claim=job.claim or _mounted(raw),
        job=job.name,
        resource_version=job.resource_version,
        directory=leftover.path if leftover is not None else job.directory(),
        source=job.about,
        revision=result.revision if result is not None else None,
        bytes=leftover.bytes if leftover is not None else result.bytes if result is not None else None,
        state=state,
        reason=reason,
        message=message,
        used_by=tuple(sorted(resource.metadata.name for resource in users)),
        unused_since=job.unused_since,
        to_be_removed=job.to_be_removed,
    )


def _state(job: JobView, users: Sequence[LLMDeployment]) -> tuple[str, str, str]:
    if job.phase == "Active":
        if job.abandoned and not users:
            return INCOMPLETE, "", ""
        told = (resource.status.progress for resource in users if resource.status is not None)
        return _DOING[job.stage], "", next((progress.summary for progress in told if progress is not None), "")
    result = job.result()
    failed = FAILED if job.leftover() is None else INCOMPLETE
    if result is not None and not result.ok:
        return failed, result.reason, result.message
    if job.phase == "Failed":
        return failed, "JobFailed", job.failure
    # A Job that has just ended: the operator reads its result within seconds.
    return (READY if result is not None else _DOING[job.stage]), "", ""


def _removing(removal: JobView) -> tuple[str, str, str]:
    if removal.phase != "Failed":
        return REMOVING, "", ""
    result = removal.result()
    if result is None or result.ok:
        return REMOVING, "JobFailed", removal.failure
    return REMOVING, result.reason, result.message


def _mounted(raw: Mapping[str, Any]) -> str:
    """The claim that a Job's pod writes to, where the Job has another owner."""
    volumes = raw["spec"]["template"]["spec"].get("volumes") or []
    claims = [volume.get("persistentVolumeClaim") for volume in volumes if volume["name"] == "model"]
    return next((claim["claimName"] for claim in claims if claim), "")


def totals(models: Iterable[CachedModel]) -> list[ClaimTotal]:
    """What lies on each claim; a directory counts once, even if several Jobs made it."""
    places = {model.place: model for model in models if model.directory}
    claims: dict[tuple[str, str], list[CachedModel]] = defaultdict(list)
    for model in places.values():
        claims[model.namespace, model.claim].append(model)
    found = []
    for (namespace, claim), lying in sorted(claims.items()):
        unused = [model for model in lying if model.unused]
        found.append(ClaimTotal(namespace, claim, len(lying), bytes_of(lying), len(unused), bytes_of(unused)))
    return found


def bytes_of(models: Iterable[CachedModel]) -> int:
    """Bytes of the models whose size is known; a directory counts once."""
    return sum({model.place: model.bytes or 0 for model in models}.values())


def prunable(found: Inventory, *, now: datetime, older_than: timedelta | None) -> list[CachedModel]:
    """The models that may be removed: unused for at least the given time.

    A directory that two Jobs filled goes when both are due. Where an object cannot be read, nothing of its namespace is
    taken: its models are unknown.
    """
    unknown = {namespace for namespace, _, _ in found.unreadable}
    groups: dict[tuple[str, str, str], list[CachedModel]] = defaultdict(list)
    for model in found.models:
        if model.directory and model.namespace not in unknown:
            groups[model.place].append(model)
    due = (group for group in groups.values() if all(_due(model, now, older_than) for model in group))
    return [model for group in due for model in group]


def _due(model: CachedModel, now: datetime, older_than: timedelta | None) -> bool:
    if not model.unused:
        return False
    if older_than is None:
        return True
    if model.unused_since is None:
        return False
    try:
        since = datetime.fromisoformat(model.unused_since)
        return now - since >= older_than
    except (ValueError, TypeError):  # not a time, or one without a zone
        return False


def source_text(source: Mapping[str, Any]) -> str:
    """What a model was made from, in a few words."""
    kind = str(source.get("kind", ""))
    if kind == "persistentVolumeClaim":
        place = "/".join(str(source[name]) for name in ("claimName", "path") if source.get(name))
    elif kind == "image":
        place = " ".join(str(source[name]) for name in ("reference", "path") if source.get(name))
    else:
        place = "@".join(str(source[name]) for name in ("repository", "revision") if source.get(name))
    made = [str(source[name]) for name in ("recipe", "conversion") if source.get(name)]
    return ", ".join([f"{kind} {place}".strip() or "-", *made])
