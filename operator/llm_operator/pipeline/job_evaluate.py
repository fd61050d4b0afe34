"""From the snapshot of a Job of the model tools to what is to be done. Pure."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from llm_operator.pipeline.job_snapshot import JobOutcome, JobSnapshot
from llm_operator.pipeline.job_view import JobView
from llm_operator.pipeline.retention import Fate, fate_of, verification_fate, verify_fate

UNKNOWN_INTEREST_SECONDS = 5.0
"""Poll interval until the needs of every object are known."""
CLAIM_SECONDS = 5.0
"""Claims are not watched: one that is about to be deleted is looked at again at this pace."""
HARMLESS = ("Record", "RecordLoss", "Note")
"""What is done also with a Job that may be an unreadable object's."""


def evaluate_job(snapshot: JobSnapshot, now: datetime, retention_seconds: int) -> JobOutcome:
    """What is to be done with a Job.

    Args:
        snapshot: what is known of it.
        now: the time in UTC.
        retention_seconds: how long what no object needs is kept on the claim; 0: for ever.
    """
    job = snapshot.job
    if job is None or job.deleting:
        return JobOutcome()
    if not snapshot.interest_known:
        return JobOutcome(look_again_seconds=UNKNOWN_INTEREST_SECONDS)
    look_at = snapshot.makers if job.stage == "remove" and job.phase == "Complete" else ()
    if snapshot.claim == "Deleting":
        # Its ended pod names the claim and so holds it (kubernetes.io/pvc-protection), while the claim owns the Job:
        # each would wait for the other for ever.
        fate = Fate("Delete", f"its claim {job.claim} is being deleted")
        return JobOutcome(fate, for_good=True, look_at=look_at)
    look_again = CLAIM_SECONDS if snapshot.claim == "Orphaned" else None
    fate = _fate(job, snapshot, now, retention_seconds)
    if snapshot.unread and not snapshot.wanted and fate.action not in HARMLESS:
        return JobOutcome(left_alone=True, look_at=look_at, look_again_seconds=look_again)
    if fate.action == "Record":
        look_at = (*look_at, *snapshot.unfinished)
    return JobOutcome(
        fate,
        leftover=_leftover(job, snapshot, fate),
        leftover_known=True,
        look_at=look_at,
        look_again_seconds=look_again,
    )


def _fate(job: JobView, snapshot: JobSnapshot, now: datetime, retention_seconds: int) -> Fate:
    if job.stage == "verify":
        return verification_fate(job, snapshot.verify, now)
    fate = fate_of(
        _with_time_of_all(job, snapshot.unused_with, now),
        wanted=snapshot.wanted,
        in_use=snapshot.in_use,
        counterpart=snapshot.counterpart,
        now=now,
        retention_seconds=retention_seconds,
        finished_elsewhere=snapshot.finished_elsewhere,
    )
    if fate == Fate() and snapshot.wanted and snapshot.counterpart is None:
        return verify_fate(job, snapshot.verify, now)
    return fate


def _leftover(job: JobView, snapshot: JobSnapshot, fate: Fate) -> str | None:
    """Partial output of a Job, kept across its deletion for the next one of its name; None if it is removed."""
    leftover = job.leftover()
    goes = fate.action == "Delete" and (snapshot.counterpart is not None or not snapshot.wanted)
    return leftover.to_text() if leftover is not None and not goes else None


def _with_time_of_all(job: JobView, others: tuple[str | None, ...], now: datetime) -> JobView:
    """The Job, unused no longer than all others that made or left the same: its time begins with the last of them."""
    if job.unused_since is None or job.removal() is None:
        return job
    since = (job.unused_since, *(other or now.isoformat() for other in others))
    return dataclasses.replace(job, unused_since=max(since, key=datetime.fromisoformat))
