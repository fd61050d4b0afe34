"""Reads what Kubernetes' controllers say in Events of pods, claims and Jobs that wait, and of nothing else."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llm_operator.kube import tasks
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.kube.keys import Key
from llm_operator.live.heard import Heard, heard_from
from llm_operator.reconcile.wants import Subject, Wants

log = logging.getLogger("llm_operator.object_events")

WAIT_SECONDS = 5.0
"""For this long a pod may wait for its start, a claim for its volume, a Job for its pod; then its events are read."""
AGAIN_SECONDS = 30.0
"""At this pace they are read again, while it waits."""
REWORDED_SECONDS = 300.0
"""Least time between two reports of other words for the same reasons: some name each attempt."""
FORBIDDEN_SECONDS = 300.0
TIMEOUT_SECONDS = 5.0
AT_ONCE = 4
MOST_PER_SECOND = 5.0
"""Lists: the API server reads all events of the namespace for each, since it keeps no index of them."""
MOST_EVENTS = 100
"""Of one object."""
FORBIDDEN = "why is not seen: the operator may not list events"
FAILED = "why is not seen: the API server does not answer with the events"


@dataclass
class _Reader:
    """Reads the events of one object for all LLMDeployments that wait for it."""

    task: asyncio.Task[None] | None = None
    keys: set[Key] = field(default_factory=set)
    heard: Heard | None = None
    heard_at: float = 0.0


class ObjectEvents:
    """One reader for each object that waits."""

    def __init__(
        self, client: ApiClient, changed: Callable[[Key], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._changed = changed
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._readers: dict[tuple[str, Subject], _Reader] = {}
        self._followed: dict[Key, frozenset[Subject]] = {}

    def known(self, key: Key) -> Mapping[Subject, Heard]:
        """What was read last of what an LLMDeployment waits for."""
        found = ((subject, self._readers[key[0], subject].heard) for subject in self._followed.get(key, ()))
        return {subject: heard for subject, heard in found if heard is not None}

    def follow(self, key: Key, wants: Wants) -> None:
        """Read the events of what an LLMDeployment waits for, and of nothing else for it."""
        wanted, before = frozenset(wants.events), self._followed.get(key, frozenset())
        for subject in before - wanted:
            self._leave(key, subject)
        if not wanted:
            self._followed.pop(key, None)
            return
        self._followed[key] = wanted
        for subject in wanted - before:
            reader = self._readers.setdefault((key[0], subject), _Reader())
            reader.keys.add(key)
            if reader.task is None:
                read = functools.partial(self._read, key[0], subject, reader)
                reader.task = tasks.forever(read, "events", f"events-{subject.name}")

    def forget(self, key: Key) -> None:
        """Read nothing for an LLMDeployment any longer."""
        for subject in self._followed.pop(key, ()):
            self._leave(key, subject)

    def _leave(self, key: Key, subject: Subject) -> None:
        reader = self._readers[key[0], subject]
        reader.keys.discard(key)
        if not reader.keys:
            del self._readers[key[0], subject]
            if reader.task is not None:
                reader.task.cancel()

    async def _read(self, namespace: str, subject: Subject, reader: _Reader) -> None:
        await asyncio.sleep(WAIT_SECONDS)
        while True:
            pause = max(AGAIN_SECONDS, len(self._readers) / MOST_PER_SECOND)
            try:
                async with self._slots, asyncio.timeout(TIMEOUT_SECONDS):
                    items = await self._client.list_events(namespace, subject.uid, MOST_EVENTS)
            except (TimeoutError, *UNREADABLE) as error:
                log.info("the events of %s %s could not be read: %s", subject.kind, subject.name, error)
                heard = reader.heard or Heard(unseen=FAILED)
                if isinstance(error, ApiError) and error.status == 403:
                    heard, pause = Heard(unseen=FORBIDDEN), FORBIDDEN_SECONDS
            else:
                heard = heard_from(items)
            self._tell(reader, heard)
            await asyncio.sleep(pause)

    def _tell(self, reader: _Reader, heard: Heard) -> None:
        before, now = reader.heard, self._clock()
        if heard == before or (_reasons(heard) == _reasons(before) and now - reader.heard_at < REWORDED_SECONDS):
            return
        reader.heard, reader.heard_at = heard, now
        for key in tuple(reader.keys):
            self._changed(key)


def _reasons(heard: Heard | None) -> object:
    return None if heard is None else (heard.unseen, [word.reason for word in heard.words])
