"""What an engine does while it loads and how far it is, from its log's known lines and the size of the files. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from llm_operator.api.status import ProgressStatus
from llm_operator.engines.registry import ENGINES
from llm_operator.live.pods import Pod
from llm_operator.manifests.pod import CONTAINER
from llm_operator.pipeline.status import progress_status
from llm_operator.reconcile.observed import Observed

STUCK_SECONDS = 600.0
"""A log that says nothing new for this long belongs to a start that does not get on; the largest shards of weights take
minutes from a slow volume."""
MOST_CHARACTERS = 16 << 10
FORBIDDEN = "its progress is not seen: the operator may not read pods/log"

# Who looks at a start from outside.
_LOOKED_AT = re.compile(r"\"GET /(?:health|metrics)")


@dataclass(frozen=True, slots=True)
class Start:
    """What is remembered of an engine that loads.

    Attributes:
        pod: its name.
        trace: the end of its log, without what is said again and again.
        moved_at: when the trace changed last, in seconds since 1970.
        progress: the step that it is at; None if the log does not say.
        waits: what to do where its processes say that they wait for each other; empty: they do not.
        unseen: why its log is not seen; empty: it is.
    """

    pod: str
    trace: str
    moved_at: float
    progress: ProgressStatus | None = None
    waits: str = ""
    unseen: str = ""


def looked(before: Start | None, pod: str, log: str, total_bytes: int | None, at: float) -> Start:
    """What is remembered after one more look at the end of the log.

    Args:
        before: what was remembered; of another pod it does not count.
        pod: name of the pod that loads.
        log: the end of its log.
        total_bytes: size of the files that it reads; None if it is not known.
        at: seconds since 1970.
    """
    lines = log[-MOST_CHARACTERS:].splitlines()
    forms = [engine.log for engine in ENGINES.values()]
    repeated = [_LOOKED_AT, *(form.repeated for form in forms if form.repeated is not None)]
    trace = "\n".join(line for line in lines if not any(one.search(line) for one in repeated))[-400:]
    still = before is not None and before.pod == pod and before.trace == trace and not before.unseen
    moved_at = before.moved_at if before is not None and still else at
    end = "\n".join(lines[-3:])
    waits = next((one.unlinked for one in forms if one.waiting is not None and one.waiting.search(end)), "")
    return Start(pod, trace, moved_at, step(log, total_bytes), waits)


def not_seen(before: Start | None, pod: str, at: float) -> Start:
    """An engine whose log may not be read."""
    return (
        before if before is not None and before.pod == pod and before.unseen else Start(pod, "", at, unseen=FORBIDDEN)
    )


def step(log: str, total_bytes: int | None) -> ProgressStatus | None:
    """The last step in the log; None if it says none."""
    text = log[-MOST_CHARACTERS:]
    best: tuple[int, str, int | None] | None = None
    for name, pattern in (known for engine in ENGINES.values() for known in engine.log.steps):
        match = None
        for match in pattern.finditer(text):  # noqa: B007 - the last one
            pass
        if match is not None and (best is None or match.start() > best[0]):
            percent = min(int(match[1]), 100) if pattern.groups else None
            best = (match.start(), name, percent)
    if best is None:
        return None
    _, name, percent = best
    report: dict[str, str | int] = {"stage": name}
    if percent is not None:
        report["percent"] = percent
        if name == "Reading weights" and total_bytes:
            report |= {"bytes": total_bytes * percent // 100, "totalBytes": total_bytes}
    return progress_status(report)


def is_stuck(start: Start, at: float) -> bool:
    """Whether the log has said nothing new for too long."""
    return not start.unseen and at - start.moved_at >= STUCK_SECONDS


def stuck_message(start: Start) -> str:
    """What to say of a start that does not get on; the words last as long as it does."""
    since = datetime.fromtimestamp(int(start.moved_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    where = f" at {start.progress.summary!r}" if start.progress is not None else ""
    text = f"pod {start.pod}: its log has said nothing new since {since}{where}"
    if start.waits:
        return f"{text}, and its processes wait for each other: {start.waits}"
    if start.progress is not None and start.progress.stage == "Reading weights":
        return f"{text}: look at the speed of the model's volume and at the node's network"
    return f"{text}: kubectl logs {start.pod} shows what it did last; startupTimeoutSeconds ends it"


def loading_pod(observed: Observed) -> Pod | None:
    """The pod whose engine loads, the first one by name; None: none does."""
    return next((pod for pod in observed.pods if _loads(pod)), None)


def _loads(pod: Pod) -> bool:
    waits = pod.running and not pod.ready and not pod.deleting and not pod.node_lost
    return waits and pod.container == CONTAINER
