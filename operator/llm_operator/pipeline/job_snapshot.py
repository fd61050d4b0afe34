"""Everything that is known of one Job of the model tools when its key is taken, and what it leads to. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llm_operator.pipeline.job_view import JobView
from llm_operator.pipeline.retention import Fate, VerifyFacts

ClaimState = Literal["Stays", "Deleting", "Orphaned"]
"""Orphaned: the object that owns the claim is gone, so the garbage collector is about to delete it."""


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """What one reconcile of a Job decides on; nothing reads the world a second time. Names are of the Job's namespace.

    Attributes:
        job: the Job with its pods; None: it is gone, or not ours.
        wanted: an LLMDeployment needs what it makes.
        interest_known: the needs of every LLMDeployment are known.
        unread: one of them cannot be read: any Job may be its.
        makers: Jobs whose work this one removes.
        counterpart: the Job that removes what this one made, or whose work this one removes; None: there is none.
        claim: what becomes of the claim that it works on.
        in_use: a pod mounts what it made, or an object requests the same, or may do so, under another name.
        finished_elsewhere: another Job has completed the directory with the partial output of this one.
        unfinished: other Jobs with partial output in the same directory.
        unused_with: of all other Jobs that made or left the same, since when it is unused; None: it is not marked yet.
        verify: what decides when what it made is compared with its hashes.
        compared: of a Job that compares: the Jobs that made the directory.
    """

    job: JobView | None
    wanted: bool = False
    interest_known: bool = True
    unread: bool = False
    makers: tuple[str, ...] = ()
    counterpart: JobView | None = None
    claim: ClaimState = "Stays"
    in_use: bool = False
    finished_elsewhere: bool = False
    unfinished: tuple[str, ...] = ()
    unused_with: tuple[str | None, ...] = ()
    verify: VerifyFacts = field(default_factory=VerifyFacts)
    compared: tuple[JobView, ...] = ()


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What one snapshot leads to.

    Attributes:
        fate: what is to be done with the Job.
        for_good: it is deleted at once, however often one of its name was: it is not made again.
        left_alone: nothing is done, because it may be the Job of an object that cannot be read.
        leftover: what the next Job of its name is to know: the annotation's text; None: it left nothing.
        leftover_known: False: what was known before stays.
        look_at: other Jobs that this changes something for, by name.
        look_again_seconds: when to look again although nothing reports a change; beside the fate's time.
    """

    fate: Fate = field(default_factory=Fate)
    for_good: bool = False
    left_alone: bool = False
    leftover: str | None = None
    leftover_known: bool = False
    look_at: tuple[str, ...] = ()
    look_again_seconds: float | None = None
