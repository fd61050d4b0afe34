"""Clocks that no step of the machine's time of day changes: administrators and NTP set that one, by hours at times."""

from __future__ import annotations

import time

_BEGAN = time.time() - time.monotonic()


def steady() -> float:
    """Seconds, for leadership: they go on while the machine sleeps, as another process takes over then."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def time_of_process() -> float:
    """Seconds since 1970 by the time of day at which the process began, and steady since.

    For what is both measured from and shown: a step of an hour must not make an engine that loads a stuck one.
    """
    return _BEGAN + time.monotonic()
