"""What becomes of Jobs: recorded, tried again, ended, and their results removed only when nobody could miss them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llm_operator.reconcile.jobs import JobView, parse_result
from llm_operator.reconcile.retention import FINAL_RETRY_SECONDS, IN_USE_SECONDS, RETRY_SECONDS, Fate, fate_of
from tests.unit.reconcile.build import resource
from tests.unit.reconcile.model_jobs import CONFIG, DIRECTORY, done, failed, fetched, job, packed, stages, tool_pod

OF = resource(model={"huggingFace": {"repository": "org/model"}}, cache={"claimName": "models"})
FETCH = stages(OF)["fetch"]
ENDED = datetime(2026, 1, 1, tzinfo=UTC)


def fate(one: JobView, *, after: float = 1, **facts: Any) -> Fate:
    known = {"wanted": True, "in_use": False, "counterpart": None, "retention_seconds": 0, **facts}
    return fate_of(one, now=ENDED + timedelta(seconds=after), **known)


def test_a_result_is_recorded_once() -> None:
    told = job(FETCH, tool_pod(OF, fetched()), condition="Complete")
    assert fate(told).action == "Record"
    assert fate(done(FETCH, fetched())).action == "Keep"


def test_an_active_job_that_nobody_wants_is_ended() -> None:
    assert fate(job(FETCH)).action == "Keep"
    assert fate(job(FETCH), wanted=False).action == "Delete"


def test_a_lost_result_is_made_anew() -> None:
    assert fate(job(FETCH, condition="Complete")).action == "Delete"


@pytest.mark.parametrize(("retry", "seconds"), [(True, RETRY_SECONDS), (False, FINAL_RETRY_SECONDS)])
def test_failures_are_tried_again_later(retry: bool, seconds: int) -> None:
    broken = failed(FETCH, "HubUnreachable", retry=retry)
    assert fate(broken, after=seconds - 10) == Fate(look_again_seconds=10)
    assert fate(broken, after=seconds).action == "Delete"
    assert fate(broken, wanted=False).action == "Delete"


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
    assert fate(marked, wanted=False, retention_seconds=100, after=100) == Fate("Remove", "nobody used it", DIRECTORY)


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
    assert fate(removed, counterpart=marked).action == "Keep"
    assert fate(removed, counterpart=None).action == "Delete"


##### Last words


def test_a_result_is_read_from_the_last_line_that_is_one() -> None:
    text = "warning: something\n" + json.dumps(fetched(config=packed(CONFIG), weightsBytes=7))
    result = parse_result(text)
    assert (result.ok, result.directory, result.weight_bytes) == (True, DIRECTORY, 7)
    assert json.loads(result.config or "") == CONFIG


@pytest.mark.parametrize("text", ["", "Killed", "{}", '{"ok": 1}', "[1]", '{"ok": true', "\x00"])
def test_other_last_words_are_a_failure_that_quotes_them(text: str) -> None:
    result = parse_result(text)
    assert (result.ok, result.reason, result.retry) == (False, "ToolFailed", True)


@pytest.mark.parametrize("config", ["", "!", "AAAA", packed("x" * (2 << 20)), 5])
def test_a_damaged_or_huge_config_is_none(config: object) -> None:
    assert parse_result(json.dumps({"ok": True, "config": config})).config is None
