"""Two operators that serve one object: noticed by what the other one undoes, and ended by the one that notices first.

Their Leases differ, so no election keeps them apart, and both write under one field manager. Without this, two with
different settings would make each other's Jobs, children and status again for ever. The one that stands aside says so
in a condition of the object, which the other one keeps for RENEW_SECONDS and then drops: while the first one lives, it
says it again. If no one drops it, the other one is gone, and the first one goes on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from llm_operator.kube.keys import Key
from llm_operator.manifests.common import ANNOTATION_REVISION, MANAGER, compact_json

JSON = dict[str, Any]

CONDITION = "Contested"
REASON = "TwoOperators"
WITHIN_SECONDS = 120.0
MOST_UNDONE = 6
"""Points within WITHIN_SECONDS: one for a status that was overwritten, two for a Job or a child."""
STATUS_WRITTEN = "statusWritten"
"""Key of the metadata of an object in the cache: when its status was written, see written_at()."""
MOST_TIME = 40
"""Characters of a time."""
STATUSES_REMEMBERED = 16
"""Of one object: a write whose answer was lost may have been stored."""
MOST_CHILDREN = 65_536
RENEW_SECONDS = 900.0
GONE_SECONDS = 1200.0


@dataclass(frozen=True, slots=True)
class Aside:
    """What a process does about an object that it leaves to another one.

    Attributes:
        status: to be written; None: the object says already what is so.
        seconds: until it is looked at again.
    """

    status: JSON | None
    seconds: float


@dataclass(slots=True)
class _Known:
    said: deque[int] = field(default_factory=lambda: deque(maxlen=STATUSES_REMEMBERED))
    """Digests of the statuses that this process wrote, or tried to write."""
    written: str = ""
    """When the API server recorded the last of them."""
    seen: str = ""
    """Version of the object that was looked at last."""
    undone: list[tuple[float, int]] = field(default_factory=list)
    """When something was undone, and its points."""


class Contest:
    """Remembers, by object, what this process wrote and how often that was undone."""

    def __init__(self, identity: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            identity: of this operator, as the condition names it; the same for all its processes, if there are more.
            clock: monotonic seconds.
        """
        self._identity = identity
        self._clock = clock
        self._known: dict[Key, _Known] = {}
        self._aside: set[Key] = set()
        self._children: dict[str, tuple[int, str]] = {}
        """By uid: digest of what was written last, and the time that the API server recorded for it."""

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._known.pop(key, None)
        self._aside.discard(key)

    def writes_status(self, key: Key, status: JSON | None) -> None:
        """This process is about to write a status: whether it was stored is not known until wrote_status()."""
        said = self._known.setdefault(key, _Known()).said
        digest = _digest(status)
        if digest not in said:
            said.append(digest)

    def wrote_status(self, key: Key, status: JSON, answer: Mapping[str, Any]) -> None:
        """This process wrote a status, and the API server answered with the object as it is stored.

        An older CRD lacks fields, and somebody else's stay: what is stored may be other than what was written.
        """
        if answer.get("status") != status:
            self.writes_status(key, answer.get("status"))
        known = self._known.setdefault(key, _Known())
        known.written = max(known.written, written_at(answer, "status"))

    def wrote_child(self, body: JSON, answer: Mapping[str, Any]) -> None:
        """This process wrote a child, and the API server answered."""
        uid = answer["metadata"]["uid"]
        if uid not in self._children and len(self._children) >= MOST_CHILDREN:
            self._children.pop(next(iter(self._children)))
        self._children[uid] = (_said(body), written_at(answer))

    def finds_child(self, key: Key, body: JSON, live: Mapping[str, Any]) -> None:
        """A child that is about to be written is as somebody left it; whether that was another operator counts.

        Until wrote_child() says how the write ended, nothing is known of the child: it may be stored without an answer,
        and what follows it, the removal of others' fields, may conflict and be tried again.
        """
        known = self._children.pop(live["metadata"]["uid"], None)
        if known is not None and known[0] == _said(body) and written_at(live) > known[1]:
            self.undone(key, 2)

    def undone(self, key: Key, points: int) -> None:
        """Something that this process made for an object was made otherwise."""
        known, now = self._known.setdefault(key, _Known()), self._clock()
        known.undone = [one for one in known.undone if now - one[0] < WITHIN_SECONDS] + [(now, points)]

    def lost(self, key: Key) -> bool:
        """Whether so much was undone that the next look will stand aside."""
        known, now = self._known.get(key), self._clock()
        return (
            known is not None and sum(points for at, points in known.undone if now - at < WITHIN_SECONDS) >= MOST_UNDONE
        )

    def aside(self, key: Key, body: JSON, now: str) -> Aside | None:
        """What to do about an object that is left to another operator; None: it is this operator's.

        Args:
            key: of the object.
            body: the object as it is known.
            now: RFC 3339 time in UTC.
        """
        self._look(key, body)
        condition = _condition_of(body.get("status"))
        own = condition is not None and str(condition.get("message")).startswith(f"{self._identity} ")
        age = _age(condition, now) if condition is not None else None
        if key not in self._aside:
            # A restarted process reads there that it stood aside.
            if not (own and age is not None and age < GONE_SECONDS) and (not self.lost(key) or age is not None):
                if age is not None:
                    self._known.pop(key, None)  # the other one stands aside
                return None
            self._aside.add(key)
        if age is None:
            return Aside({**(body.get("status") or {}), "conditions": self._conditions(body, now)}, GONE_SECONDS)
        if not own or age >= GONE_SECONDS:
            self.forget(key)
            return None
        return Aside(None, GONE_SECONDS - age + 1)

    def carried(self, key: Key, status: JSON | None, now: str) -> tuple[JSON, float] | None:
        """The condition by which another operator stands aside, and the seconds until it is dropped; None: none.

        Args:
            key: of the object.
            status: as it is stored.
            now: RFC 3339 time in UTC.
        """
        condition = _condition_of(status)
        age = _age(condition, now) if condition is not None else None
        if condition is None or age is None or age >= RENEW_SECONDS:
            return None
        return condition, RENEW_SECONDS - age

    def _look(self, key: Key, body: JSON) -> None:
        """Count a status that another operator wrote; the cache keeps managedFields if anyone else wrote it.

        Who only removes fields is not recorded there, but the operators' own entry keeps its time then.
        """
        known, meta = self._known.get(key), body["metadata"]
        if known is None or not known.said or known.seen == meta["resourceVersion"]:
            return
        known.seen, written = meta["resourceVersion"], str(meta.get(STATUS_WRITTEN, ""))
        if _digest(body.get("status")) in known.said:
            known.written = max(known.written, written)
        elif written > known.written and not meta.get("managedFields"):
            self.undone(key, 1)

    def _conditions(self, body: JSON, now: str) -> list[JSON]:
        told = (body.get("status") or {}).get("conditions") or []
        message = (
            f"{self._identity} stands aside: another operator serves this object too, and undid what this one wrote. "
            "The other one goes on. Give each operator its own namespaces (watchNamespaces of the chart), or uninstall "
            "one of them"
        )
        generation = body["metadata"].get("generation", 0)
        own = {"type": CONDITION, "status": "True", "observedGeneration": generation, "lastTransitionTime": now}
        return [*told, {**own, "reason": REASON, "message": message}]


def _condition_of(status: Any) -> JSON | None:
    found: list[JSON] = [one for one in (status or {}).get("conditions") or () if one.get("type") == CONDITION]
    return found[0] if found else None


def _age(condition: JSON, now: str) -> float | None:
    """Seconds since the condition was written; one from the future, or without a time, is as good as none."""
    try:
        since = datetime.fromisoformat(str(condition.get("lastTransitionTime"))).astimezone(UTC)
    except ValueError:
        return GONE_SECONDS
    return max(0.0, (datetime.fromisoformat(now).astimezone(UTC) - since).total_seconds())


def written_at(raw: Mapping[str, Any], subresource: str = "") -> str:
    """When an object was written last under the operators' field manager, as the API server recorded it.

    Args:
        raw: the object.
        subresource: such as `status`; empty: the object itself.
    """
    entries = [one for one in raw["metadata"].get("managedFields") or () if one.get("manager") == MANAGER]
    times = (str(one.get("time"))[:MOST_TIME] for one in entries if (one.get("subresource") or "") == subresource)
    return max(times, default="")


def _said(body: JSON) -> int:
    """Digest of what is written to a child. The name of its revision stands for its pod template."""
    if ANNOTATION_REVISION not in ((body.get("metadata") or {}).get("annotations") or {}):
        return _digest(body)
    return _digest({**body, "spec": {**body["spec"], "template": None}})


def _digest(value: object) -> int:
    return hash(compact_json(value))
