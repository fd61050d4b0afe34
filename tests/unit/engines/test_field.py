"""The lines that decide in public reports of dead engines, and how many of them are answered, and rightly.

Each case quotes what the report shows of the end, as text of a log; `right` has every reason that would help. Wrappers,
processes and times that a report leaves out are filled in. The cases of each later file were collected, and their right
reasons written down, before any signature was written for them; docs/diagnosis.md has what was answered then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_operator.engines.failures import GENERIC, diagnose
from llm_operator.reasons import NAMES
from tests.support.engine_logs import framed

FILES = tuple(
    f"field{which}.json"
    for which in (
        *("", "_second", "_third", "_fourth", "_fifth", "_sixth"),
        *("_seventh", "_eighth", "_ninth", "_tenth", "_eleventh"),
    )
)
CASES: list[dict[str, Any]] = [
    case for name in FILES for case in json.loads((Path(__file__).parent / name).read_text())
]
ANSWERED_PERCENT, RIGHT_PERCENT = 75, 95
LAST_CHARACTERS = 8 << 10


def _reason(case: dict[str, Any]) -> str:
    text = framed(case.get("frame", ""), case["lines"])[-LAST_CHARACTERS:]
    return diagnose(case["engine"], case["exitCode"], None, text, case.get("version")).reason


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["source"]))
def test_a_specific_reason_is_a_right_one(case: dict[str, Any]) -> None:
    reason = _reason(case)
    assert reason in case["right"] or reason in GENERIC


def test_most_are_answered_and_nearly_all_of_these_rightly() -> None:
    answered = [case for case in CASES if _reason(case) not in GENERIC]
    right = [case for case in answered if _reason(case) in case["right"]]
    assert len(answered) * 100 >= ANSWERED_PERCENT * len(CASES)
    assert len(right) * 100 >= RIGHT_PERCENT * len(answered)


def test_every_right_reason_is_one_that_we_know() -> None:
    assert {reason for case in CASES for reason in case["right"]} - {"nothing better"} - NAMES == set()
