"""Writes of children that others write too: what they added is removed, and no write is repeated in vain.

Others are people with kubectl, controllers and admission webhooks. A webhook may change what is applied each time: such
a difference is written once. A controller may set its field again each time: it is restored, ever more slowly. What is
left is the condition Drifted.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from llm_operator.kube import ownership
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.live.children import Child, child_from
from llm_operator.live.managed_fields import ForeignField, foreign_fields, removal
from llm_operator.manifests.common import compact_json
from llm_operator.problems import Problem
from llm_operator.reconcile.covers import differences
from llm_operator.reconcile.decision import Apply
from llm_operator.reconcile.writes import said

JSON = dict[str, Any]
log = logging.getLogger("llm_operator.restoring")

FREE_RESTORATIONS = 5
"""Restorations of one field that come at once."""
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 300.0
PEACE_SECONDS = 900.0
"""After this long without a restoration of a field the next one comes at once again."""
MOST_REMEMBERED = 4096
MOST_PATHS = 5
"""Paths that one message names."""


@dataclass(frozen=True, slots=True)
class Held:
    """Why a write is not made now.

    Attributes:
        drift: for the condition.
        seconds: until it is made; None: not before something changes.
    """

    drift: Problem
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write.

    Attributes:
        answer: the object as it is stored now.
        undone: what was removed, or taken back, from others.
        drift: what is still not as it should be.
    """

    answer: JSON
    undone: tuple[ForeignField, ...] = ()
    drift: Problem | None = None


@dataclass(slots=True)
class _Fight:
    count: int
    last: float
    desired: str
    """Digest of what was written: something else is written at once."""


class Restoring:
    """Remembers, by child, which writes changed nothing and, by field, how often others set it again."""

    def __init__(self, client: ApiClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._vain: dict[str, tuple[str, Problem]] = {}
        self._fights: dict[tuple[str, ForeignField], _Fight] = {}

    def held(self, apply: Apply) -> Held | None:
        """Whether to leave a child as it is for now; None: write."""
        child = apply.live
        if child is None:
            return None
        vain = self._vain.get(child.uid)
        if vain is not None and vain[0] == _difference(apply.body, child):
            return Held(vain[1])
        waits = [self._wait(child.uid, field, apply.body) for field in child.foreign]
        # One field that was not fought over before is reason enough for a write.
        if not waits or 0.0 in waits:
            return None
        return Held(_again_and_again(child), min(waits))

    async def written(self, apply: Apply, answer: JSON) -> Written:
        """What is done after a write: removes what others added.

        Raises:
            ApiError: the API server failed, or the object has changed: the key is to be tried again.
        """
        foreign = foreign_fields(answer)
        if apply.live is None and not foreign:
            return Written(answer)
        kind, name = apply.body["kind"], apply.body["metadata"]["name"]
        before = apply.live.foreign if apply.live is not None else ()
        refused = ""
        if foreign:
            try:
                answer = await ownership.patch(self._client, {**answer, "kind": kind}, removal(answer, foreign))
            except ApiError as error:
                if error.status in (409, 429) or error.status >= 500:
                    raise
                refused = error.message
        for field in before or foreign:
            self._count((answer["metadata"]["uid"], field), _digest(said(apply.body)))
        child = child_from({**answer, "kind": kind})
        left = (*(f"{one.path} (manager {one.manager})" for one in child.foreign),)
        changed = tuple(differences(child.body(), said(apply.body)))
        if not left and not changed:
            self._vain.pop(child.uid, None)
            return Written(answer, before or foreign)
        drift = _refused(kind, name, left, refused) if left else _on_admission(kind, name, changed)
        self._remember(child.uid, _difference(apply.body, child), drift)
        return Written(answer, () if left else before or foreign, drift)

    def _wait(self, uid: str, field: ForeignField, body: JSON) -> float:
        """Seconds until a field may be restored."""
        fight = self._fights.get((uid, field))
        if fight is None or fight.count < FREE_RESTORATIONS or fight.desired != _digest(said(body)):
            return 0.0
        wait = min(FIRST_WAIT_SECONDS * float(2 ** min(fight.count - FREE_RESTORATIONS, 16)), LONGEST_WAIT_SECONDS)
        return max(0.0, fight.last + wait - self._clock())

    def _count(self, of: tuple[str, ForeignField], desired: str) -> None:
        now = self._clock()
        fight = self._fights.get(of)
        if fight is None or now - fight.last > PEACE_SECONDS:
            if len(self._fights) >= MOST_REMEMBERED:
                self._fights.pop(next(iter(self._fights)))
            fight = self._fights[of] = _Fight(0, now, desired)
        fight.count, fight.last, fight.desired = fight.count + 1, now, desired

    def _remember(self, uid: str, difference: str, drift: Problem) -> None:
        if len(self._vain) >= MOST_REMEMBERED:
            self._vain.pop(next(iter(self._vain)))
        self._vain[uid] = (difference, drift)
        log.warning("%s", drift.text)


def _difference(body: JSON, child: Child) -> str:
    """What is not as it should be, as a digest: the same after a write that changed nothing."""
    live, desired = child.body(), said(body)
    paths = sorted(differences(live, desired))
    state = [desired, [(one.manager, one.path) for one in child.foreign], paths, live["spec"] if paths else None]
    return _digest(state)


def _digest(value: object) -> str:
    return hashlib.sha256(compact_json(value).encode()).hexdigest()


def _again_and_again(child: Child) -> Problem:
    paths = [f"{one.path} (manager {one.manager})" for one in child.foreign]
    return Problem(
        "RestoredRepeatedly",
        f"{child.kind} {child.name!r}: {_some(paths)} is set again whenever the operator restores it, so it does that "
        f"ever more slowly, at most every {LONGEST_WAIT_SECONDS:.0f} s: stop what sets it, or use the fields of the "
        "LLMDeployment",
        "Warning",
    )


def _refused(kind: str, name: str, paths: Iterable[str], message: str) -> Problem:
    why = f"the API server refuses: {message[:500]}" if message else "it is still there after the removal"
    return Problem("ForeignFields", f"{kind} {name!r}: {_some(paths)} cannot be removed: {why}", "Warning")


def _on_admission(kind: str, name: str, paths: Iterable[str]) -> Problem:
    return Problem(
        "ChangedOnAdmission",
        f"{kind} {name!r}: {_some(paths)} is not what the operator writes: an admission webhook or policy of the "
        "cluster changes it; the operator leaves it so",
        "Warning",
    )


def _some(paths: Iterable[str]) -> str:
    every = list(paths)
    more = f" and {len(every) - MOST_PATHS} more" if len(every) > MOST_PATHS else ""
    return ", ".join(every[:MOST_PATHS]) + more
