"""What a process does with a Lease that it has just read. No requests, and no clock but the one that is passed in.

The rules are client-go's (tools/leaderelection 1.36), and two are stricter, because people edit Leases: one that is
gone or was emptied by hand says nothing of the process that led a moment ago, so its time is waited for; and a leader
whose Lease was deleted leads no longer.

The election of the package kubernetes (37.0.2, aio/leaderelection) goes by the time of day: after a step of an hour a
candidate takes a Lease that is being renewed, or waits for an hour for a dead leader. It also writes an `acquireTime`
of whole seconds in a form that the API server refuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

JSON = dict[str, Any]

LEASE_SECONDS = 15
RELEASED_SECONDS = 1
"""`leaseDurationSeconds` of a Lease that its leader gave up, as client-go writes it."""


class Step(Enum):
    """What is to be done."""

    WAIT = "wait"
    """Another process may lead."""
    WRITE = "write"
    """Write the Lease, as leader."""
    LOST = "lost"
    """This process led, and does no longer."""


class Election:
    """One process's view of one Lease."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._seen: Mapping[str, Any] | None = None
        """The spec of the last look at a Lease."""
        self._others_until = -math.inf
        """Until then a process that was seen to hold the Lease may lead."""

    def look(self, spec: Mapping[str, Any] | None, now: float, *, leading: bool) -> Step:
        """What to do about a Lease.

        Times in the Lease are other machines' times of day, or were written by hand: nothing but a change of the spec
        shows that a process renews it.

        Args:
            spec: of the Lease; empty: it was never held; None: there is no Lease.
            now: seconds, after it was read, by a clock that is never set.
            leading: this process has renewed it, and its time is not over.
        """
        name = holder(spec)
        if leading:
            # An emptied one may be written again; a deleted one was deleted with the release, or to force an election.
            return Step.WRITE if spec is not None and name in ("", self._identity) else Step.LOST
        if spec and spec != self._seen:
            if not name and spec.get("leaseDurationSeconds") == RELEASED_SECONDS:
                self._others_until = -math.inf
            elif name != self._identity:
                self._others_until = now + LEASE_SECONDS
        self._seen = spec
        return Step.WRITE if now >= self._others_until else Step.WAIT

    def written(self, spec: Mapping[str, Any] | None, time_of_day: str) -> JSON:
        """The spec of a Lease that this process holds from now on, or still.

        Args:
            spec: as it was read; fields that are not the election's stay.
            time_of_day: in RFC 3339 with microseconds.
        """
        before = dict(spec or {})
        still = holder(before) == self._identity and "acquireTime" in before
        return {
            **before,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": before["acquireTime"] if still else time_of_day,
            "renewTime": time_of_day,
        }

    def released(self, spec: Mapping[str, Any] | None, time_of_day: str) -> JSON | None:
        """The spec of a Lease that this process gives up; None: it does not hold it."""
        if spec is None or holder(spec) != self._identity:
            return None
        left = {name: value for name, value in spec.items() if name != "holderIdentity"}
        return {**left, "leaseDurationSeconds": RELEASED_SECONDS, "acquireTime": time_of_day, "renewTime": time_of_day}


def holder(spec: Mapping[str, Any] | None) -> str:
    """The process that a Lease names; empty: none."""
    return str((spec or {}).get("holderIdentity") or "")
