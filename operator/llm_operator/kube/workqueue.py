"""A queue of keys in the manner of client-go: a key waits once, is worked on by one worker, and comes back later."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from llm_operator.kube.keys import AnyKey, JobKey, Key
from llm_operator.telemetry.metrics import Metrics

K = TypeVar("K", bound=AnyKey)
Version = tuple[str, str]
"""Kind and resourceVersion of something that was written."""

BACKOFF_BASE_SECONDS = 0.05
BACKOFF_LIMIT_SECONDS = 300.0
LATER_TURN = 8
"""Of so many keys that are given out while there is news, one is none."""


def backoff(failures: int) -> float:
    """Seconds to wait after this many failures in a row: doubled each time, from 50 ms up to five minutes."""
    return float(min(BACKOFF_BASE_SECONDS * 2 ** min(failures, 32), BACKOFF_LIMIT_SECONDS))


class WorkQueue(Generic[K]):
    """Keys of one kind. A key added while it is worked on is given out again afterwards, never twice at a time.

    News goes first: after a start every object waits for a look, and most of them want none.
    """

    def __init__(self, name: str, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ready: deque[K] = deque()
        self._later: dict[K, None] = {}
        """Keys that wait behind those in `_ready`, in order."""
        self._turn = 0
        self._added_at: dict[K, float] = {}
        self._in_work: dict[K, float] = {}
        self._again: dict[K, set[Version | None]] = {}
        self._failures: dict[K, int] = {}
        self._timers: dict[K, tuple[float, asyncio.TimerHandle]] = {}
        self._wake = asyncio.Event()
        self._moved = clock()
        """When a worker took or finished a key last."""
        self._depth = metrics.queue_depth.labels(name=name)
        self._depth.set_function(lambda: len(self))
        self._adds = metrics.queue_adds.labels(name=name)
        self._retries = metrics.queue_retries.labels(name=name)
        self._wait = metrics.queue_wait.labels(name=name)
        self._work = metrics.queue_work.labels(name=name)
        metrics.longest_running.labels(name=name).set_function(self.oldest_in_work)

    def __len__(self) -> int:
        """Keys waiting to be worked on now."""
        return len(self._ready) + len(self._later)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is worked on."""
        return not len(self) and not self._in_work

    def add(self, key: K, because: Version | None = None, *, news: bool = True) -> None:
        """Work on a key as soon as a worker is free.

        Args:
            key: what to work on.
            because: the version that is the only reason; the worker that wrote it takes the reason back by `wrote`.
            news: something happened to this very key; else it waits behind those to which something did.
        """
        if key in self._in_work:
            self._again.setdefault(key, set()).add(because)
            return
        if key in self._added_at:
            if news and key in self._later:
                del self._later[key]
                self._ready.append(key)
            return
        self._adds.inc()
        self._added_at[key] = self._clock()
        if news:
            self._ready.append(key)
        else:
            self._later[key] = None
        self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Work on a key after a time; of several times the earliest counts."""
        due = self._clock() + seconds
        known = self._timers.get(key)
        if known is not None:
            if known[0] <= due:
                return
            known[1].cancel()
        handle = asyncio.get_running_loop().call_later(seconds, self._due, key)
        self._timers[key] = (due, handle)

    def retry(self, key: K, at_least: float = 0.0) -> float:
        """Work on a key again after its backoff; the seconds are returned."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._retries.inc()
        seconds = max(backoff(failures), at_least)
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: K) -> None:
        """A key succeeded: its next failure starts with the shortest backoff."""
        self._failures.pop(key, None)

    def wrote(self, key: K, version: Version) -> None:
        """The key's worker got the answer to its own write: if the watch was faster, its event was not news."""
        reasons = self._again.get(key)
        if reasons is not None:
            reasons.discard(version)

    async def get(self) -> K:
        """The next key; the caller must call `done` afterwards."""
        while not len(self):
            self._wake.clear()
            await self._wake.wait()
        key = self._next()
        now = self._moved = self._clock()
        self._wait.observe(now - self._added_at.pop(key))
        self._in_work[key] = now
        return key

    def done(self, key: K) -> None:
        """A worker is finished with a key."""
        self._moved = self._clock()
        self._work.observe(self._moved - self._in_work.pop(key))
        if self._again.pop(key, None):
            self.add(key)

    def oldest_in_work(self) -> float:
        """Seconds that the longest running key has been worked on; 0 when none is."""
        return self._clock() - min(self._in_work.values(), default=self._clock())

    def without_progress(self) -> float:
        """Seconds for which keys have waited and no worker took or finished one; 0 when none waits."""
        return self._clock() - max(self._moved, next(iter(self._added_at.values()))) if self._added_at else 0.0

    def _next(self) -> K:
        """The news, and each LATER_TURN-th time what waits behind it: however much is new, everything has its turn."""
        self._turn += 1
        if self._later and (not self._ready or self._turn % LATER_TURN == 0):
            key = next(iter(self._later))
            del self._later[key]
            return key
        return self._ready.popleft()

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)


class Queues:
    """The queues of both reconcilers: a key says by its type to which one it belongs."""

    def __init__(self, objects: WorkQueue[Key], jobs: WorkQueue[JobKey]) -> None:
        self.objects = objects
        self.jobs = jobs

    def add(self, key: AnyKey, because: Version | None = None, *, news: bool = True) -> None:
        """As WorkQueue.add."""
        if isinstance(key, JobKey):
            self.jobs.add(key, because, news=news)
        else:
            self.objects.add(key, because, news=news)

    def add_after(self, key: AnyKey, seconds: float) -> None:
        """As WorkQueue.add_after."""
        if isinstance(key, JobKey):
            self.jobs.add_after(key, seconds)
        else:
            self.objects.add_after(key, seconds)
