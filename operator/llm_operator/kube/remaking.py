"""How often the Job of one name may be deleted to be made again: a last bound, whatever the reason for it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from llm_operator.kube.keys import JobKey

FREE = 3
"""Deletions of one name that come at once."""
FIRST_WAIT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 300.0
PEACE_SECONDS = 900.0
"""After this long without a deletion the next ones come at once again."""
MOST_REMEMBERED = 4096


class Remaking:
    """Counts the deletions of each name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[JobKey, tuple[int, float]] = {}
        """Deletions so far, and when the last one was."""

    def wait(self, key: JobKey) -> float:
        """Seconds until the Job may be deleted."""
        count, last = self._known.get(key, (0, 0.0))
        past = self._clock() - last
        if count < FREE or past > PEACE_SECONDS:
            return 0.0
        return max(0.0, min(FIRST_WAIT_SECONDS * float(2 ** min(count - FREE, 16)), LONGEST_WAIT_SECONDS) - past)

    def count(self, key: JobKey) -> None:
        """The Job is deleted now."""
        now = self._clock()
        count, last = self._known.pop(key, (0, now))
        if len(self._known) >= MOST_REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[key] = (1 if now - last > PEACE_SECONDS else count + 1, now)
