"""One snapshot of a Job leads to one thing to do; nothing else is asked."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job_evaluate import CLAIM_SECONDS, UNKNOWN_INTEREST_SECONDS, evaluate_job
from llm_operator.pipeline.job_snapshot import JobOutcome, JobSnapshot
from llm_operator.pipeline.job_view import JobView
from tests.support.model_jobs import cached, fetched, job, tool_pod

SINCE = "2026-01-01T00:00:00Z"
NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)
DAY = 86_400


def fetch(**fields: Any) -> JobView:
    done = job(artifacts_of(cached())[0], condition="Complete")
    return dataclasses.replace(done, **{"told": json.dumps(fetched()), "claim": "models", **fields})


def evaluated(snapshot: JobSnapshot) -> JobOutcome:
    return evaluate_job(snapshot, NOW, DAY)


def test_a_job_that_is_gone_or_going_is_left_to_itself() -> None:
    assert evaluated(JobSnapshot(None)) == JobOutcome()
    assert evaluated(JobSnapshot(fetch(deleting=True))) == JobOutcome()


def test_before_every_object_has_spoken_nothing_is_unwanted() -> None:
    outcome = evaluated(JobSnapshot(fetch(), interest_known=False, claim="Deleting"))
    assert outcome == JobOutcome(look_again_seconds=UNKNOWN_INTEREST_SECONDS)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_job_of_a_claim_that_goes_is_deleted_at_once(wanted: bool) -> None:
    outcome = evaluated(JobSnapshot(fetch(), wanted=wanted, claim="Deleting"))
    assert (outcome.fate.action, outcome.for_good) == ("Delete", True)


def test_a_claim_that_nobody_owns_any_more_is_looked_at_again_whatever_else_is_done() -> None:
    outcome = evaluated(JobSnapshot(fetch(), claim="Orphaned"))
    assert (outcome.fate.action, outcome.look_again_seconds) == ("MarkUnused", CLAIM_SECONDS)


def test_what_may_be_an_unreadable_objects_is_left_alone_but_its_result_is_kept() -> None:
    assert evaluated(JobSnapshot(fetch(), unread=True)).left_alone
    assert not evaluated(JobSnapshot(fetch(), unread=True, wanted=True)).left_alone


@pytest.mark.parametrize(
    ("others", "left"),
    [
        ((), DAY - 3600),
        (("2026-01-01T00:30:00Z",), DAY - 1800),
        ((None,), DAY),
        (("2025-01-01T00:00:00Z",), DAY - 3600),
    ],
)
def test_what_several_made_is_unused_no_longer_than_the_last(others: tuple[str | None, ...], left: int) -> None:
    outcome = evaluated(JobSnapshot(fetch(unused_since=SINCE), unused_with=others))
    assert outcome.fate.look_again_seconds == left


def test_a_finished_removal_sends_for_those_whose_work_is_gone() -> None:
    removal = dataclasses.replace(fetch(), stage="remove")
    assert evaluated(JobSnapshot(removal, makers=("llm-fetch-1",))).look_at == ("llm-fetch-1",)


def test_a_recorded_result_is_news_for_those_who_left_the_same_half_done() -> None:
    ended = fetch(told=None, pods=(tool_pod(cached(), fetched()),))
    outcome = evaluated(JobSnapshot(ended, wanted=True, unfinished=("llm-fetch-2",)))
    assert (outcome.fate.action, outcome.look_at) == ("Record", ("llm-fetch-2",))
