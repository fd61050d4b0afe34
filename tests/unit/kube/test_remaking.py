"""However often there is a reason to make a Job again, it is not made again all the time."""

from __future__ import annotations

import pytest

from llm_operator.kube import remaking
from llm_operator.kube.keys import JobKey
from llm_operator.kube.remaking import FIRST_WAIT_SECONDS, FREE, LONGEST_WAIT_SECONDS, PEACE_SECONDS, Remaking

KEY = JobKey("team", "llm-fetch-1")


class Clock:
    """A time that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_first_ones_come_at_once_and_the_next_ever_more_slowly() -> None:
    clock = Clock()
    bound = Remaking(clock)
    waits = []
    for _ in range(FREE + 8):
        waits.append(bound.wait(KEY))
        clock.now += waits[-1]
        assert bound.wait(KEY) == 0
        bound.count(KEY)
    assert waits[:FREE] == [0] * FREE
    assert waits[FREE : FREE + 3] == [FIRST_WAIT_SECONDS, 2 * FIRST_WAIT_SECONDS, 4 * FIRST_WAIT_SECONDS]
    assert waits[-1] == LONGEST_WAIT_SECONDS
    assert bound.wait(JobKey("team", "another")) == 0
    clock.now += PEACE_SECONDS + 1
    bound.count(KEY)
    assert bound.wait(KEY) == 0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remaking, "MOST_REMEMBERED", 2)
    bound = Remaking(Clock())
    for name in ("a", "b", "c"):
        for _ in range(FREE):
            bound.count(JobKey(name, name))
    assert [bound.wait(JobKey(name, name)) > 0 for name in ("a", "b", "c")] == [False, True, True]
