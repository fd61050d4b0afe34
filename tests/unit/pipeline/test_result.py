"""What a Job's last words tell, whoever wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_operator.live.pods import ContainerEnd, Pod
from llm_operator.pipeline.job_view import job_from, last_words
from llm_operator.pipeline.result import CONFIG_LIMIT, Result, parse_result
from tests.support.build import pod, resource
from tests.support.model_jobs import CONFIG, DIRECTORY, fetched, packed

OF = resource()
RAW: dict[str, Any] = {"metadata": {"name": "llm-fetch-0", "uid": "1", "resourceVersion": "1"}}


def ended(exit_code: int, message: str, finished_at: str = "2026-01-01T00:00:00Z", **fields: Any) -> Pod:
    return pod(OF, end=ContainerEnd(exit_code, None, "", message, finished_at), **fields)


def test_a_result_is_read_from_the_last_line_that_is_one() -> None:
    text = "warning: something\n" + json.dumps(fetched(config=packed(CONFIG), weightsBytes=7))
    result = parse_result(text)
    assert (result.ok, result.directory, result.weight_bytes) == (True, DIRECTORY, 7)
    assert json.loads(result.config or "") == CONFIG


@pytest.mark.parametrize("text", ["", "Killed", "{}", '{"ok": 1}', "[1]", '{"ok": true', "\x00", "a" * 500])
def test_other_last_words_are_a_failure_that_quotes_them(text: str) -> None:
    said = f"the tool ended without a result: {text or 'it left no message'}"
    assert parse_result(text) == Result(ok=False, reason="ToolFailed", message=said, retry=True)


def test_of_long_last_words_the_end_is_quoted() -> None:
    assert parse_result("b" + "a" * 500).message == f"the tool ended without a result: {'a' * 500}"


def test_a_failure_has_a_reason_and_is_final_unless_it_says_otherwise() -> None:
    assert parse_result('{"ok": false}') == Result(ok=False, reason="ToolFailed")
    assert parse_result('{"ok": false, "reason": "DiskFull", "message": "full", "retry": true}') == Result(
        ok=False, reason="DiskFull", message="full", retry=True
    )
    assert parse_result('{"ok": false, "retry": 1, "reason": 5, "message": ["a"]}') == Result(False, "ToolFailed")
    assert parse_result('{"ok": true}') == Result(ok=True)


@pytest.mark.parametrize(("told", "number"), [(0, 0), (7, 7), (-1, None), (True, None), (7.0, None), ("7", None)])
def test_a_size_is_a_whole_number_from_zero(told: object, number: int | None) -> None:
    assert parse_result(json.dumps({"ok": True, "bytes": told})).bytes == number


@pytest.mark.parametrize("config", ["", "!", "AAAA", packed("x" * (CONFIG_LIMIT - 1)), 5])
def test_a_damaged_or_huge_config_is_none(config: object) -> None:
    assert parse_result(json.dumps({"ok": True, "config": config})).config is None


def test_a_large_config_is_read() -> None:
    # Two quotes belong to the text.
    text = "x" * (CONFIG_LIMIT - 2)
    assert parse_result(json.dumps({"ok": True, "config": packed(text)})).config == json.dumps(text)
    assert CONFIG_LIMIT == 256 << 10


def test_success_counts_before_failure_and_then_what_came_last() -> None:
    first, second = ended(0, "first"), ended(0, "second", "2026-01-01T00:00:01Z")
    broken = ended(3, "broken", "2026-01-01T00:00:02Z")
    assert last_words((second, broken, first)) == "second"
    assert last_words((broken, ended(1, "earlier"))) == "broken"


def test_what_runs_again_or_says_nothing_has_no_last_words() -> None:
    assert last_words(()) is None
    assert last_words((pod(OF), ended(0, ""), ended(0, "before", running=True))) is None


def test_a_job_of_which_nothing_is_known_is_at_work() -> None:
    view = job_from(RAW)
    assert (view.phase, view.failure, view.finished_at) == ("Active", "", None)
    assert (view.deleting, view.suspended, view.to_be_removed) == (False, False, False)
    assert (view.unused_since, view.claim, view.recorded_leftover, view.told) == (None, None, None, None)
    unused = {**RAW["metadata"], "annotations": {"llm-operator.dev/unused-since": ""}}
    assert job_from({"metadata": unused}).unused_since is None
