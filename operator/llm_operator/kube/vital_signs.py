"""Looks at the metrics of engines that serve, now and then, and says when one stops working or starts again.

One small request per pod and half minute (`--engine-look-seconds`), straight to the pod; one in five minutes if its
metrics are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llm_operator.api.finding import Finding
from llm_operator.engines import engine_of
from llm_operator.engines.common import METRICS_PATH
from llm_operator.kube import tasks
from llm_operator.kube.clock import time_of_process
from llm_operator.kube.engine_api import ask
from llm_operator.kube.keys import Key
from llm_operator.live.pods import Pod
from llm_operator.reconcile.health import SILENT_SECONDS, Seen, Vitals, followed, health, sample_of
from llm_operator.reconcile.measured import ANSWER_BYTES
from llm_operator.reconcile.wants import Identity, Wants, identity

log = logging.getLogger("llm_operator.vital_signs")

PACE_SECONDS = 30.0
CLOSED_PACES = 10
"""A pod that did not tell is asked again after this many times the usual pace."""
PATIENCE = 2
"""So many looks in a row without an answer close the metrics: one alone may meet a busy moment."""
AT_ONCE = 8
SILENT = "the metrics do not answer, or do not tell what runs"


@dataclass(frozen=True, slots=True)
class Paces:
    """How often engines that serve are looked at, and what they are allowed."""

    look_seconds: float = PACE_SECONDS
    """Between two looks at the metrics of an engine."""
    silent_seconds: float = SILENT_SECONDS
    """How long requests may run without a token, or a queue grow, before the engine is not Healthy."""


DEFAULT_PACES = Paces()


@dataclass(slots=True)
class _Watched:
    """One container that serves; another start of it is another one."""

    engine: str
    pod: Pod
    due: float
    vitals: Vitals | None = None
    failures: int = 0

    @property
    def closed(self) -> str:
        """Why its metrics are not read; empty while they are."""
        return SILENT if self.failures >= PATIENCE else ""

    def seen(self) -> Seen:
        """What is known of it."""
        return Seen(self.pod.name, self.vitals, self.closed)


class VitalSigns:
    """What is known of the engines that serve, by object."""

    def __init__(
        self,
        changed: Callable[[Key], None],
        now: Callable[[], float] = time_of_process,
        paces: Paces = DEFAULT_PACES,
    ) -> None:
        self._changed = changed
        self._pace = paces.look_seconds
        self._silent = paces.silent_seconds
        self._now = now
        self._watched: dict[Key, dict[Identity, _Watched]] = {}
        self._told: dict[Key, Finding] = {}
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def known(self, key: Key) -> Mapping[Identity, Seen]:
        """What is known of an object's engines that serve, by container."""
        return {of: one.seen() for of, one in self._watched.get(key, {}).items()}

    def follow(self, key: Key, wants: Wants) -> None:
        """Look at the metrics of the engines that serve."""
        if wants.serving is None:
            self.forget(key)
            return
        known = self._watched.get(key, {})
        watched = self._watched[key] = {
            identity(pod): known.get(identity(pod)) or _Watched(wants.serving.engine, pod, self._now())
            for pod in wants.serving.pods
        }
        self._told[key] = self._judged(key)
        if watched.keys() - known.keys():
            self._look.set()
        if watched and self._task is None:
            self._task = tasks.forever(self._watch, "vital-signs")

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._watched.pop(key, None)
        self._told.pop(key, None)

    def _judged(self, key: Key) -> Finding:
        return health(self.known(key).values(), silent_seconds=self._silent)

    async def _watch(self) -> None:
        while True:
            self._look.clear()
            due = [
                (key, one)
                for key, watched in list(self._watched.items())
                for one in watched.values()
                if one.due <= self._now()
            ]
            slots = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(self._ask(slots, key, one) for key, one in due))
            next_due = min((one.due for watched in self._watched.values() for one in watched.values()), default=None)
            await self._pause(self._pace if next_due is None else max(0.1, next_due - self._now()))

    async def _pause(self, seconds: float) -> None:
        """Until the next look is due, or a pod serves that was not asked yet."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._look.wait(), seconds)

    async def _ask(self, slots: asyncio.Semaphore, key: Key, one: _Watched) -> None:
        async with slots:
            text = await ask(one.pod.pod_ip, engine_of(one.engine).port, METRICS_PATH, ANSWER_BYTES)
        now = self._now()
        sample = sample_of(one.engine, text, now)
        if sample is None:
            one.failures += 1
        else:
            one.failures, one.vitals = 0, followed(one.vitals, sample)
        one.due = now + self._pace * (CLOSED_PACES if one.failures >= PATIENCE else 1)
        told = self._told.get(key)
        still = any(one is other for other in self._watched.get(key, {}).values())
        if told is not None and still and self._judged(key) != told:
            self._changed(key)
