"""Jobs of the model tools by what they made, so that a look at one Job does not read all others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from llm_operator.kube.keys import JobKey
from llm_operator.pipeline.job_view import JobView

T = TypeVar("T")
M = TypeVar("M")
Place = tuple[str, str]
"""Namespace, and a directory or the name of a Job."""


class Groups(Generic[T, M]):
    """Members by group, in the order in which they came."""

    def __init__(self) -> None:
        self._groups: dict[T, dict[M, None]] = {}

    def add(self, group: T, member: M) -> None:
        """Put a member into a group."""
        self._groups.setdefault(group, {})[member] = None

    def remove(self, group: T, member: M) -> None:
        """Take a member out of a group; empty groups are forgotten."""
        members = self._groups.get(group)
        if members is not None:
            members.pop(member, None)
            if not members:
                del self._groups[group]

    def of(self, group: T) -> Iterable[M]:
        """The members of a group."""
        return tuple(self._groups.get(group, ()))


class JobIndex:
    """Keys of Jobs by directory and by the Job that removes it."""

    def __init__(self) -> None:
        self._directories: Groups[Place, JobKey] = Groups()
        self._removals: Groups[Place, JobKey] = Groups()
        self._undecided: Groups[str, JobKey] = Groups()
        self._known: dict[JobKey, tuple[str, str | None, bool]] = {}
        self.verifying: set[JobKey] = set()
        """Jobs that compare a model with its hashes now."""

    def update(self, key: JobKey, job: JobView | None) -> None:
        """A Job or one of its pods has changed; None: the Job is gone."""
        if job is not None and job.stage == "verify" and job.phase == "Active":
            self.verifying.add(key)
        else:
            self.verifying.discard(key)
        now = None if job is None else (job.directory(), job.removal(), job.stage == "fetch" and job.phase == "Active")
        before = self._known.get(key)
        if now == before:
            return
        namespace = key.namespace
        if before is not None:
            self._directories.remove((namespace, before[0]), key)
            self._removals.remove((namespace, before[1] or ""), key)
            self._undecided.remove(namespace, key)
            del self._known[key]
        if now is None:
            return
        self._known[key] = now
        directory, removal, fetches = now
        if directory:
            self._directories.add((namespace, directory), key)
        elif fetches:
            self._undecided.add(namespace, key)
        if removal is not None:
            self._removals.add((namespace, removal), key)

    def at(self, namespace: str, directory: str) -> Iterable[JobKey]:
        """Jobs that made, or began to make, a directory."""
        return self._directories.of((namespace, directory))

    def removed_by(self, namespace: str, removal: str) -> Iterable[JobKey]:
        """Jobs whose work one Job removes."""
        return self._removals.of((namespace, removal))

    def undecided(self, namespace: str) -> Iterable[JobKey]:
        """Jobs that fetch and do not know yet into which directory."""
        return self._undecided.of(namespace)
