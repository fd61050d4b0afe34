"""What Kubernetes' controllers said of one object in Events, reduced to what is a fault. Pure.

Who may write events in a namespace may write anything into them: they are read as input, and reach the status of that
one object only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MESSAGE_CHARACTERS = 700
"""Of one message: a condition has room for three, and for what to do."""
MOST_WORDS = 3
RECENT = timedelta(minutes=5)
"""What was not said again for this long before the last word has passed: the kubelet tries again every 2 minutes."""

WAITS_FOR_POD = "WaitForFirstConsumer"
"""Of a claim: it gets a volume once the scheduler has chosen a node for a pod. That is not a fault."""
FAULTS = (
    "FailedMount",
    "FailedMapVolume",
    "FailedMountOnFilesystemMismatch",
    "FailedAttachVolume",
    "FailedPrepareDynamicResources",
    "FailedCreatePodSandBox",
    "NetworkNotReady",
    "FailedScheduling",
    "FailedCreate",
    "ClaimLost",
    "ProvisioningFailed",
    "FailedBinding",
    "VolumeMismatch",
    "ExternalProvisioning",
    WAITS_FOR_POD,
)
"""Reasons that are reported, the most precise first (kubelet, kube-scheduler, kube-controller-manager 1.30 to 1.36)."""
_MOVED_ON = frozenset({"Pulling", "Pulled", "Created", "Started", "ProvisioningSucceeded", "SuccessfulCreate"})
"""What was said before one of these has passed."""

_ID = re.compile(
    r"[0-9a-f]{16,}"
    r"|(?<!pvc-)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|\b[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}[0-9.]*(?:Z|[+-][0-9:]{5})?"
)
"""What differs from one attempt to the next: ids of sandboxes and requests, and times. A status repeats none of it."""
# Of the kubelet's caches and of a wait for all volumes: beside the word on one volume, or gone at the next attempt.
_VAGUE = re.compile(r"^(?:Unable to attach or mount volumes|MountVolume\.SetUp failed .*failed to sync \w+ cache)")


@dataclass(frozen=True, slots=True)
class Word:
    """One thing that a controller said.

    Attributes:
        reason: one of FAULTS.
        message: its words, in one line.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said of one object.

    Attributes:
        words: the faults that stand, the most precise first.
        unseen: why events are not seen; empty: they are.
    """

    words: tuple[Word, ...] = ()
    unseen: str = ""

    def of(self, *reasons: str) -> tuple[Word, ...]:
        """The words for one of these reasons."""
        return tuple(word for word in self.words if word.reason in reasons)


NOTHING = Heard()


def heard_from(items: Iterable[object]) -> Heard:
    """What the events of one object say.

    Args:
        items: as the API server sent them.
    """
    said = [_said(item) for item in items if isinstance(item, dict)]
    passed = max((at for at, word in said if word.reason in _MOVED_ON), default=_LONG_AGO)
    faults = [(at, word) for at, word in said if word.reason in FAULTS and at > passed]
    last = max((at for at, _ in faults), default=_LONG_AGO)
    recent = {word for at, word in faults if last - at <= RECENT}
    clear = {word for word in recent if not _VAGUE.match(word.message)} or recent
    return Heard(tuple(sorted(clear, key=lambda word: (FAULTS.index(word.reason), word.message)))[:MOST_WORDS])


_LONG_AGO = datetime(1, 1, 2, tzinfo=UTC)


def _said(item: dict[object, object]) -> tuple[datetime, Word]:
    series, meta = item.get("series"), item.get("metadata")
    times = (
        series.get("lastObservedTime") if isinstance(series, dict) else None,
        item.get("lastTimestamp"),
        item.get("eventTime"),
        meta.get("creationTimestamp") if isinstance(meta, dict) else None,
    )
    at = next((found for time in times if (found := _time(time)) is not None), _LONG_AGO + timedelta(days=1))
    return at, Word(_text(item.get("reason"))[:64], plain(_text(item.get("message"))))


def plain(message: str) -> str:
    """A message in one line, without what differs from one attempt to the next."""
    line = " ".join(message[: 8 * MESSAGE_CHARACTERS].split())
    printable = "".join(letter if letter.isprintable() else "?" for letter in line)
    return _ID.sub("...", printable)[:MESSAGE_CHARACTERS]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(text[:40]) if isinstance(text, str) else None
        return found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
