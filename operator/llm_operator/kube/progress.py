"""How far the model tools are: the last line of their pods' logs, read now and then while somebody waits for it."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from llm_operator.api.status import ProgressStatus
from llm_operator.foreign import read_object
from llm_operator.kube import tasks
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.kube.keys import Key
from llm_operator.pipeline.status import progress_status
from llm_operator.reconcile.starting import FORBIDDEN
from llm_operator.reconcile.wants import LogSource, Wants

log = logging.getLogger("llm_operator.progress")

LOOK_SECONDS = 4.0
TELL_SECONDS = 10.0
"""Least seconds between two reports of progress in a status: a write costs the API server more than it is worth."""
FORBIDDEN_SECONDS = 300.0
AT_ONCE = 4
LAST_LINES = 20
LOG_BYTES = 1 << 16


def last_progress(text: str) -> ProgressStatus | None:
    """The newest progress in the end of a log; other lines stand between."""
    for line in reversed(text.splitlines()):
        if '"progress"' not in line:
            continue
        report = read_object(line).get("progress")
        found = progress_status(report) if isinstance(report, dict) else None
        if found is not None:
            return found
    return None


@dataclass
class _Reader:
    """Reads one container's log for all objects that wait for it."""

    task: asyncio.Task[None] | None = None
    keys: set[Key] = field(default_factory=set)
    found: ProgressStatus | None = None
    forbidden: bool = False


class ProgressReader:
    """One reader per container that somebody asked about, however many wait for it."""

    def __init__(self, client: ApiClient, changed: Callable[[Key], None]) -> None:
        self._client = client
        self._changed = changed
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._readers: dict[LogSource, _Reader] = {}
        self._sources: dict[Key, LogSource] = {}

    def known(self, source: LogSource) -> ProgressStatus | None:
        """What was read last of a log that is followed."""
        reader = self._readers.get(source)
        return reader.found if reader is not None else None

    def unseen(self, sources: Iterable[LogSource]) -> str:
        """Why nothing is read of one of these logs; empty if they may be read."""
        readers = (self._readers.get(source) for source in sources)
        return FORBIDDEN if any(reader is not None and reader.forbidden for reader in readers) else ""

    def follow(self, key: Key, wants: Wants) -> None:
        """Read the log of the stage that runs for an object, and no other any longer."""
        source = wants.log
        if self._sources.get(key) != source:
            self.forget(key)
        if source is None:
            return
        self._sources[key] = source
        reader = self._readers.setdefault(source, _Reader())
        reader.keys.add(key)
        if reader.task is None:
            read = functools.partial(self._read, source, reader)
            reader.task = tasks.forever(read, "progress", f"progress-{source.pod}")

    def forget(self, key: Key) -> None:
        """No one waits any longer under this key."""
        source = self._sources.pop(key, None)
        reader = self._readers.get(source) if source is not None else None
        if source is None or reader is None:
            return
        reader.keys.discard(key)
        if not reader.keys:
            del self._readers[source]
            if reader.task is not None:
                reader.task.cancel()

    async def _read(self, source: LogSource, reader: _Reader) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            pause = LOOK_SECONDS
            try:
                async with self._slots:
                    text = await self._client.read_log(*source, LOG_BYTES, LAST_LINES)
            except ApiError as error:
                text = ""
                if error.status == 403:
                    log.info("logs may not be read: no progress is reported (%s)", error.message)
                    pause = FORBIDDEN_SECONDS
                self._judge(reader, forbidden=error.status == 403)
            except UNREADABLE:
                text = ""
            else:
                self._judge(reader, forbidden=False)
            found = last_progress(text)
            if found is not None and found != reader.found and loop.time() >= due:
                due = loop.time() + TELL_SECONDS
                reader.found = found
                for key in tuple(reader.keys):
                    self._changed(key)
            await asyncio.sleep(pause)

    def _judge(self, reader: _Reader, *, forbidden: bool) -> None:
        """Remember whether a log may be read; a change is news."""
        if reader.forbidden != forbidden:
            reader.forbidden = forbidden
            for key in tuple(reader.keys):
                self._changed(key)
