"""Lifecycle of a model Job: keep, record, retry, stop, verify, or remove what it made. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from llm_operator.pipeline.job_view import JobView, last_words

Action = Literal[
    "Keep", "Note", "Record", "RecordLoss", "MarkUnused", "MarkUsed", "End", "Delete", "Remove", "Verify", "Verified"
]
"""Note: write down what its pods left so far. End: stop it, and keep it as the record of what it leaves.

RecordLoss: write down that it is complete and has said nothing. Verify: compare what it made with its hashes.
Verified: write down what that found, and delete the Job that did.
"""

RETRY_SECONDS = 300
"""After this a failure that may go better later is tried again."""

FINAL_RETRY_SECONDS = 1800
"""After this any other failure: a licence may have been accepted, a Secret corrected, a volume enlarged."""

IN_USE_SECONDS = 10
"""Poll interval while pods still mount a model that no object needs."""

LOST_SECONDS = 10
"""How long a complete Job's result may still arrive: its events and those of its pods come in any order."""

REMOVED_SECONDS = 2
"""Poll interval until the Jobs that recorded a removed model are deleted."""

VERIFY_TURN_SECONDS = 600
"""Poll interval while a model is verified: one at a time, and each again."""

KEPT = ("fetch", "quantize", "convert")
"""Stages that leave something on a claim."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What is to be done with a Job.

    Attributes:
        action: the one thing to do now.
        why: for the log.
        directory: path on the claim of what is to be removed.
        look_again_seconds: when to ask again, where only time will change the answer.
    """

    action: Action = "Keep"
    why: str = ""
    directory: str = ""
    look_again_seconds: float | None = None


def fate_of(
    job: JobView,
    *,
    wanted: bool,
    in_use: bool,
    counterpart: JobView | None,
    now: datetime,
    retention_seconds: int,
    finished_elsewhere: bool = False,
) -> Fate:
    """Decide on one Job.

    Args:
        job: the Job, not being deleted.
        wanted: an object requests what it makes.
        in_use: a pod mounts what it made, or an object requests the same, or may do so, under another name.
        counterpart: the Job that removes what this one made, or whose work this one removes, if there is one.
        now: the time.
        retention_seconds: how long what no object needs is kept on the claim; 0: for ever.
        finished_elsewhere: another Job has completed the directory with the partial output of this one.
    """
    if job.stage == "remove":
        return _removal(job, counterpart, now)
    if not wanted and job.stage not in KEPT:
        return Fate("Delete", "no object uses it")
    if job.phase == "Active":
        return _active(job, wanted)
    if job.told is None and job.settled and last_words(job.pods):
        return Fate("Record")
    if counterpart is not None:
        return _being_removed(counterpart)
    usage = _Usage(wanted, in_use, retention_seconds, finished_elsewhere)
    return _complete(job, usage, now) if job.phase == "Complete" else _failed(job, usage, now)


@dataclass(frozen=True, slots=True)
class VerifyFacts:
    """Of the comparison with hashes.

    Attributes:
        seconds: between two of a directory; 0: there is none.
        at: when the directory was last written or compared, by whatever Job (RFC 3339).
        running: its own Job is there.
        busy: the Job of another directory is.
        makers: of a Job that compares: Jobs that made what it reads are there, and wanted.
    """

    seconds: int = 0
    at: str | None = None
    running: bool = False
    busy: bool = False
    makers: bool = False


def verify_fate(job: JobView, verify: VerifyFacts, now: datetime) -> Fate:
    """When what a Job made, which is wanted and to which nothing else is to be done, is compared with its hashes."""
    # What is damaged has no marker any longer: another comparison would say only that.
    if job.phase != "Complete" or not verify.seconds or verify.at is None or job.damaged:
        return Fate()
    left = verify.seconds - _seconds_since(verify.at, now)
    if left > 0:
        return Fate(look_again_seconds=left)
    # Again also while its own comparison runs, and after it is begun: one that finds out nothing leaves no trace.
    if verify.running or verify.busy:
        return Fate(look_again_seconds=VERIFY_TURN_SECONDS)
    return Fate("Verify", "its time has come", look_again_seconds=VERIFY_TURN_SECONDS)


def verification_fate(job: JobView, verify: VerifyFacts, now: datetime) -> Fate:
    """What a comparison found is written down and its Job deleted; one that found out nothing is made again later."""
    if not verify.seconds or not verify.makers:
        return Fate("Delete", "nothing uses what it reads")
    result = job.result() if job.settled else None
    if result is not None and (result.ok or result.reason == "WeightsCorrupt"):
        return Fate("Verified")
    if job.phase == "Active" or job.finished_at is None:
        return Fate()
    left = FINAL_RETRY_SECONDS - _seconds_since(job.finished_at, now)
    return Fate("Delete", "it is tried again") if left <= 0 else Fate(look_again_seconds=left)


@dataclass(frozen=True, slots=True)
class _Usage:
    """See fate_of()."""

    wanted: bool
    in_use: bool
    retention_seconds: int
    finished_elsewhere: bool


def _active(job: JobView, wanted: bool) -> Fate:
    if not wanted:
        # One that is held back runs no pod, and would not fail either.
        if job.suspended:
            return Fate("Delete", "no object uses it")
        return Fate() if job.abandoned else Fate("End", "no object uses it")
    if job.abandoned:
        return Fate("Delete", "it was being ended; the next one goes on with what is there")
    leftover = job.leftover()
    return Fate("Note") if leftover is not None and leftover != job.recorded_leftover else Fate()


def _being_removed(removal: JobView) -> Fate:
    return Fate("Delete", "what it made was removed") if removal.phase == "Complete" else Fate()


def _complete(job: JobView, usage: _Usage, now: datetime) -> Fate:
    result = job.result()
    if result is None:
        return _without_result(job, usage, now)
    if not result.ok:
        # Its exit code says that all went well, and its words do not: the words decide.
        return _failed(job, usage, now)
    if usage.wanted:
        return Fate("MarkUsed") if job.unused_since is not None or job.to_be_removed else Fate()
    if usage.in_use:
        # Nothing reports the last pod's end.
        return Fate(look_again_seconds=IN_USE_SECONDS)
    return _unused(job, result.directory, now=now, retention_seconds=usage.retention_seconds)


def _without_result(job: JobView, usage: _Usage, now: datetime) -> Fate:
    """A Job that is complete, and that nothing is known of: to make it again at once could go on for ever."""
    left = LOST_SECONDS - _seconds_since(job.finished_at, now) if job.finished_at is not None else 0
    if left > 0:
        return Fate(look_again_seconds=left)
    return Fate("RecordLoss") if usage.wanted else Fate("Delete", "no object uses it, and its result was lost")


def _failed(job: JobView, usage: _Usage, now: datetime) -> Fate:
    if not usage.wanted:
        return _abandoned(job, usage, now)
    if job.abandoned:
        return Fate("Delete", "an object uses it again")
    if job.finished_at is None:
        return Fate(look_again_seconds=RETRY_SECONDS)
    result = job.result()
    wait = RETRY_SECONDS if result is not None and result.retry else FINAL_RETRY_SECONDS
    left = wait - _seconds_since(job.finished_at, now)
    return Fate("Delete", "it is tried again") if left <= 0 else Fate(look_again_seconds=left)


def _abandoned(job: JobView, usage: _Usage, now: datetime) -> Fate:
    """A Job that did not finish, and that no object needs."""
    if not job.settled:
        return Fate()
    leftover = job.leftover()
    if leftover is None or job.claim is None or usage.finished_elsewhere:
        return Fate("Delete", "no object uses it, and it left nothing")
    if usage.in_use and job.unused_since is not None:
        return Fate(look_again_seconds=IN_USE_SECONDS)
    return _unused(job, leftover.path, now=now, retention_seconds=usage.retention_seconds)


def _unused(job: JobView, directory: str, *, now: datetime, retention_seconds: int) -> Fate:
    if job.unused_since is None:
        return Fate("MarkUnused")
    if job.to_be_removed:
        return Fate("Remove", "its removal was requested", directory)
    if retention_seconds == 0:
        return Fate()
    left = retention_seconds - _seconds_since(job.unused_since, now)
    return (
        Fate("Remove", "it was unused for the retention time", directory)
        if left <= 0
        else Fate(look_again_seconds=left)
    )


def _removal(job: JobView, maker: JobView | None, now: datetime) -> Fate:
    """A removal's Job goes after the record of what it removed; one that failed is tried again."""
    if job.phase == "Complete":
        done = Fate("Delete", "its work is done")
        return done if maker is None else Fate(look_again_seconds=REMOVED_SECONDS)
    if job.phase == "Failed" and job.finished_at is not None:
        left = FINAL_RETRY_SECONDS - _seconds_since(job.finished_at, now)
        return Fate("Delete", "it is tried again") if left <= 0 else Fate(look_again_seconds=left)
    return Fate()


def _seconds_since(moment: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(moment)).total_seconds()
