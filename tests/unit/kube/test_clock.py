"""Nothing that lasts is measured by the time of day: a step of it must change nothing."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from llm_operator.kube import clock

KUBE = Path(clock.__file__).parent
TIME_OF_DAY = re.compile(r"\btime\.time\b")


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_step_of_the_time_of_day_changes_neither_clock(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    before, now = (clock.steady(), clock.time_of_process()), time.time()
    monkeypatch.setattr(time, "time", lambda: now + step)
    passed = [after - first for first, after in zip(before, (clock.steady(), clock.time_of_process()), strict=True)]
    assert all(0 <= one < 3000 for one in passed)


def test_the_clocks_begin_at_the_time_of_day() -> None:
    assert abs(clock.time_of_process() - time.time()) < 3000


def test_durations_go_by_a_steady_clock() -> None:
    """The expiry of credentials is a time of day; everything else that runs takes a clock of this module."""
    users = [path.name for path in sorted(KUBE.glob("*.py")) if TIME_OF_DAY.search(path.read_text())]
    assert users == ["clock.py", "connection.py"]
