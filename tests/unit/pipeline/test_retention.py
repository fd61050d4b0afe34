"""What becomes of Jobs: recorded, tried again, ended, and their results removed only when nobody could miss them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llm_operator.pipeline.artifacts import removal_name
from llm_operator.pipeline.job_view import JobView, lost_result
from llm_operator.pipeline.result import Leftover
from llm_operator.pipeline.retention import (
    FINAL_RETRY_SECONDS,
    IN_USE_SECONDS,
    LOST_SECONDS,
    REMOVED_SECONDS,
    RETRY_SECONDS,
    VERIFY_TURN_SECONDS,
    Fate,
    VerifyFacts,
    fate_of,
    verification_fate,
    verify_fate,
)
from tests.support.build import pod, resource
from tests.support.model_jobs import DIRECTORY, cached, done, failed, fetched, job, stages, tool_pod

OF = cached()
FETCH = stages(OF)["fetch"]
ENDED = datetime(2026, 1, 1, tzinfo=UTC)
SINCE = "2026-01-01T00:00:00Z"
LEFT: dict[str, Any] = {"directory": DIRECTORY, "bytes": 7}


def fate(one: JobView, *, after: float = 1, **facts: Any) -> Fate:
    known = {"wanted": True, "in_use": False, "counterpart": None, "retention_seconds": 0, **facts}
    return fate_of(one, now=ENDED + timedelta(seconds=after), **known)


def test_a_result_is_recorded_once() -> None:
    told = job(FETCH, tool_pod(OF, fetched()), condition="Complete")
    assert fate(told).action == "Record"
    assert fate(done(FETCH, fetched())).action == "Keep"


def test_an_active_job_that_nobody_wants_is_ended() -> None:
    assert fate(job(FETCH)).action == "Keep"
    assert fate(job(FETCH), wanted=False).action == "End"
    ending = replace(job(FETCH), unused_since=SINCE)
    assert fate(ending, wanted=False).action == "Keep"
    # Its pods may be on a node that does not answer: whoever asks again does not wait for them.
    assert fate(ending).action == "Delete"
    # A queue holds it back: it has no pod, and would not fail either.
    assert fate(replace(job(FETCH), suspended=True), wanted=False).action == "Delete"
    assert fate(replace(job(FETCH), suspended=True)).action == "Keep"


def test_a_look_that_nobody_wants_leaves_nothing() -> None:
    claim = resource(model={"persistentVolumeClaim": {"claimName": "models", "path": "a"}})
    assert fate(job(stages(claim)["inspect"]), wanted=False).action == "Delete"


def test_a_result_that_does_not_come_is_a_failure() -> None:
    silent = job(FETCH, tool_pod(OF, ""), condition="Complete")
    for lost in (silent, job(FETCH, condition="Complete")):
        assert fate(lost, after=1) == Fate(look_again_seconds=LOST_SECONDS - 1), "the pod may tell it yet"
        assert fate(lost, after=LOST_SECONDS).action == "RecordLoss"
        assert fate(lost, after=LOST_SECONDS, wanted=False).action == "Delete"
    recorded = job(FETCH, condition="Complete", result=lost_result(silent))
    assert fate(recorded, after=RETRY_SECONDS - 10) == Fate(look_again_seconds=10)
    assert fate(recorded, after=RETRY_SECONDS).action == "Delete"
    assert fate(recorded, wanted=False).action == "Delete"


@pytest.mark.parametrize("words", ["", "\x00", "done", "{}", '{"ok": "yes"}', '{"ok": false}', "[" * 4096])
@pytest.mark.parametrize("noted", [{}, {"incomplete": json.dumps(LEFT)}], ids=["nothing left", "left half-done"])
def test_nothing_that_a_complete_job_says_has_it_made_again_at_once(words: str, noted: dict[str, str]) -> None:
    ended = job(FETCH, tool_pod(OF, words), condition="Complete", **noted)
    assert fate(ended).action != "Delete"
    recorded = job(FETCH, condition="Complete", result=words or lost_result(ended), **noted)
    assert fate(recorded).action == "Keep"
    assert fate(recorded).look_again_seconds is not None, "it is tried again, as its message says"
    assert recorded.leftover() == (Leftover(DIRECTORY, 7) if noted else None)


@pytest.mark.parametrize(("retry", "seconds"), [(True, RETRY_SECONDS), (False, FINAL_RETRY_SECONDS)])
def test_failures_are_tried_again_later(retry: bool, seconds: int) -> None:
    broken = failed(FETCH, "HubUnreachable", retry=retry)
    assert fate(broken, after=seconds - 10) == Fate(look_again_seconds=10)
    assert fate(broken, after=seconds).action == "Delete"
    assert fate(broken, wanted=False).action == "Delete"


##### What is left half-done


def test_what_ended_pods_left_is_noted_once_while_the_job_goes_on() -> None:
    words = tool_pod(OF, {**LEFT, "ok": False, "reason": "HubUnreachable"}, 4)
    assert fate(job(FETCH, words)).action == "Note"
    noted = job(FETCH, words, incomplete=json.dumps(LEFT))
    assert noted.leftover() == Leftover(DIRECTORY, 7)
    assert fate(noted).action == "Keep"
    more = tool_pod(OF, {**LEFT, "ok": False, "bytes": 8}, 4)
    assert fate(job(FETCH, more, incomplete=json.dumps(LEFT))).action == "Note"


def test_what_was_left_is_known_from_the_last_words_or_from_before() -> None:
    before = json.dumps(LEFT)
    words = json.dumps({"ok": False, "reason": "HubUnreachable", "message": "away"})
    assert failed(FETCH, "DiskFull", **LEFT).leftover() == Leftover(DIRECTORY, 7)
    assert failed(FETCH, "ModelGated").leftover() is None
    assert job(FETCH, condition="Failed", result=words, incomplete=before).leftover() == Leftover(DIRECTORY, 7)
    assert job(FETCH, condition="Complete", result=json.dumps(fetched()), incomplete=before).leftover() is None
    assert job(FETCH, incomplete="{").leftover() is None
    assert Leftover(DIRECTORY, 7).path == f"{DIRECTORY}.partial"
    assert job(FETCH, incomplete=Leftover(DIRECTORY).to_text()).leftover() == Leftover(DIRECTORY)


def test_the_words_of_the_pod_that_ended_last_count() -> None:
    ends = [
        replace(tool_pod(OF, {"ok": False, "directory": name}, 4), name=f"pod-{number}")
        for number, name in enumerate(("late", "early"))
    ]
    times = ("2026-01-01T00:00:09Z", "2026-01-01T00:00:08Z")
    pods = [
        replace(pod, end=replace(pod.end, finished_at=time))
        for pod, time in zip(ends, times, strict=True)
        if pod.end is not None
    ]
    assert job(FETCH, *pods).leftover() == Leftover("late")


def test_a_failed_job_is_the_record_of_what_it_left() -> None:
    left = failed(FETCH, "DiskFull", **LEFT)
    for in_use in (False, True):
        assert fate(left, wanted=False, in_use=in_use).action == "MarkUnused"
    marked = replace(left, unused_since=SINCE)
    assert fate(marked, wanted=False, after=1e9).action == "Keep"
    assert fate(marked, wanted=False, retention_seconds=100, after=40) == Fate(look_again_seconds=60)
    path = f"{DIRECTORY}.partial"
    assert fate(marked, wanted=False, retention_seconds=100, after=100) == Fate(
        "Remove", "it was unused for the retention time", path
    )
    asked = replace(marked, to_be_removed=True)
    assert fate(asked, wanted=False) == Fate("Remove", "its removal was requested", path)
    assert fate(asked, wanted=False, in_use=True) == Fate(look_again_seconds=IN_USE_SECONDS)
    assert fate(asked, wanted=False, finished_elsewhere=True).action == "Delete"
    # Within the time, whoever asks again goes on with it, and at once.
    assert fate(marked).action == "Delete"


def test_a_failed_job_that_left_nothing_goes() -> None:
    assert fate(failed(FETCH, "ModelGated"), wanted=False).action == "Delete"
    assert fate(replace(failed(FETCH, "DiskFull", **LEFT), claim=None), wanted=False).action == "Delete"


def test_before_its_pods_have_ended_nothing_is_known() -> None:
    ended = job(FETCH, condition="Failed")
    assert fate(replace(ended, pods=(pod(OF, phase="Running"),)), wanted=False).action == "Keep"
    assert fate(job(FETCH, condition="FailureTarget"), wanted=False).action == "Keep"
    words = tool_pod(OF, {**LEFT, "ok": False, "reason": "Interrupted"}, 143)
    assert fate(replace(ended, pods=(words,)), wanted=False).action == "Record"
    assert fate(replace(ended, pods=(pod(OF, phase="Failed"),)), wanted=False).action == "Delete"
    # One has told; the one that came after it is still to tell more.
    for wanted in (True, False):
        assert fate(replace(ended, pods=(words, pod(OF, phase="Running"))), wanted=wanted).action == "Keep"
        assert fate(job(FETCH, words, condition="FailureTarget"), wanted=wanted).action == "Keep"


def test_a_removal_is_of_what_was_left_and_its_record_goes_after_it() -> None:
    left = replace(failed(FETCH, "DiskFull", **LEFT), unused_since=SINCE)
    assert left.removal() == removal_name("models", f"{DIRECTORY}.partial")
    assert left.removal() != done(FETCH, fetched()).removal()
    assert job(FETCH, incomplete=json.dumps(LEFT)).removal() is None, "it is still at work"
    removal = replace(job(FETCH), name=left.removal() or "", stage="remove")
    for wanted in (True, False):
        assert fate(left, wanted=wanted, counterpart=removal).action == "Keep"
        assert fate(left, wanted=wanted, counterpart=replace(removal, phase="Complete")).action == "Delete"


@pytest.mark.parametrize(
    ("other", "may"),
    [
        (job(FETCH), True),
        (job(FETCH, source='{"repository": "org/model"}'), True),
        (job(FETCH, source='{"repository": "other/model"}'), False),
        (job(FETCH, incomplete='{"directory": "models/hf--org--model/other"}'), False),
        (job(FETCH, incomplete=json.dumps({"directory": DIRECTORY})), True),
        (failed(FETCH, "ModelGated"), False),
        (failed(FETCH, "DiskFull", directory=DIRECTORY), True),
        (done(FETCH, fetched()), True),
    ],
)
def test_who_may_work_on_a_directory(other: JobView, may: bool) -> None:
    other = replace(other, about=other.about or {"repository": "org/model"})
    assert other.may_fill(DIRECTORY) == may
    assert not replace(other, stage="quantize", phase="Active", recorded_leftover=None, told=None).may_fill(DIRECTORY)
    assert not other.may_fill(f"{DIRECTORY}--awq")


##### What is complete


def test_without_a_time_limit_a_model_is_kept_for_ever() -> None:
    kept = done(FETCH, fetched())
    assert fate(kept, wanted=False).action == "MarkUnused"
    marked = replace(kept, unused_since="2026-01-01T00:00:00Z")
    assert fate(marked, wanted=False, after=1e9).action == "Keep"
    assert fate(marked).action == "MarkUsed"


def test_after_its_time_an_unused_model_is_removed() -> None:
    marked = replace(done(FETCH, fetched()), unused_since="2026-01-01T00:00:00Z")
    waiting = fate(marked, wanted=False, retention_seconds=100, after=40)
    assert waiting == Fate(look_again_seconds=60)
    assert fate(marked, wanted=False, retention_seconds=100, after=100) == Fate(
        "Remove", "it was unused for the retention time", DIRECTORY
    )


def test_a_removal_that_was_asked_for_still_heeds_pods() -> None:
    marked = replace(done(FETCH, fetched()), unused_since="2026-01-01T00:00:00Z", to_be_removed=True)
    assert fate(marked, wanted=False).action == "Remove"
    assert fate(marked, wanted=False, in_use=True) == Fate(look_again_seconds=IN_USE_SECONDS)
    assert fate(marked).action == "MarkUsed"


def test_the_record_goes_after_the_files_and_the_removal_last() -> None:
    marked = replace(done(FETCH, fetched()), unused_since="2026-01-01T00:00:00Z")
    removal = replace(job(FETCH), name=f"llm-remove-{FETCH.digest}", stage="remove")
    assert fate(marked, wanted=False, counterpart=removal).action == "Keep"
    removed = replace(removal, phase="Complete")
    assert fate(marked, wanted=False, counterpart=removed).action == "Delete"
    assert fate(removed, counterpart=marked) == Fate(look_again_seconds=REMOVED_SECONDS)
    assert fate(removed, counterpart=None).action == "Delete"


def test_a_removal_that_failed_is_tried_again_after_a_while() -> None:
    at_work = replace(job(FETCH), name=f"llm-remove-{FETCH.digest}", stage="remove")
    assert fate(at_work, after=1e6) == Fate()
    broken = replace(at_work, phase="Failed", finished_at="2026-01-01T00:00:00Z")
    assert fate(broken, after=FINAL_RETRY_SECONDS - 1) == Fate(look_again_seconds=1)
    assert fate(broken, after=FINAL_RETRY_SECONDS) == Fate("Delete", "it is tried again")
    assert fate(replace(broken, finished_at=None), after=1e6) == Fate()


##### The comparison with hashes

DAY = 86_400


def due(one: JobView, *, after: float = 1, **facts: Any) -> Fate:
    known = VerifyFacts(**{"seconds": 30 * DAY, "at": SINCE, **facts})
    return verify_fate(one, known, ENDED + timedelta(seconds=after))


def test_what_is_in_use_is_compared_with_its_hashes_when_its_time_has_come() -> None:
    made = done(FETCH, fetched())
    assert due(made) == Fate(look_again_seconds=30 * DAY - 1)
    assert due(made, after=30 * DAY).action == "Verify"
    # One at a time, and the same only once.
    assert due(made, after=30 * DAY, busy=True) == Fate(look_again_seconds=VERIFY_TURN_SECONDS)
    assert due(made, after=30 * DAY, running=True) == Fate(look_again_seconds=VERIFY_TURN_SECONDS)
    # The one that ended is forgotten later than what it found is known.
    assert due(made, running=True) == Fate(look_again_seconds=30 * DAY - 1)
    assert due(made, after=90 * DAY, seconds=0) == Fate()
    assert due(replace(made, damaged="1 file differs"), after=90 * DAY) == Fate()
    assert due(failed(FETCH, "DiskFull"), after=90 * DAY) == Fate()


@pytest.mark.parametrize(
    ("words", "condition", "action"),
    [
        ('{"ok": true, "bytes": 7}', "Complete", "Verified"),
        ('{"ok": false, "reason": "WeightsCorrupt", "message": "1 file differs"}', "Failed", "Verified"),
        # The volume was full, or the pod was killed: nothing is known.
        ('{"ok": false, "reason": "ToolFailed", "message": "x"}', "Failed", "Keep"),
        ("killed", "Failed", "Keep"),
        ("", None, "Keep"),
    ],
)
def test_what_a_comparison_found_is_written_down(words: str, condition: str | None, action: str) -> None:
    ended = SINCE if condition else None
    one = replace(job(FETCH, condition=condition), stage="verify", told=words or None, finished_at=ended)

    def found(*, after: float = 1, **facts: Any) -> Fate:
        known = VerifyFacts(**{"seconds": 30 * DAY, "makers": True, **facts})
        return verification_fate(one, known, ENDED + timedelta(seconds=after))

    assert found().action == action
    assert found(makers=False).action == "Delete"
    assert found(seconds=0).action == "Delete"
    if action == "Keep" and condition:
        assert found(after=FINAL_RETRY_SECONDS).action == "Delete"
