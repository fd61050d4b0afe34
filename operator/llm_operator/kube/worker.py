"""Workers over one queue: each takes a key, has it reconciled, and lives whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Generic

from llm_operator.kube.client import UNREADABLE, ApiError
from llm_operator.kube.lease import LostLeadershipError
from llm_operator.kube.workqueue import K, WorkQueue
from llm_operator.telemetry import logs
from llm_operator.telemetry.metrics import Metrics

log = logging.getLogger("llm_operator.controller")

# A refused write is tried again at this pace: a quota may be raised, a foreign object removed.
REFUSED_RETRY_SECONDS = 30.0


class Workers(Generic[K]):
    """The workers of one reconciler."""

    def __init__(
        self,
        name: str,
        queue: WorkQueue[K],
        reconcile: Callable[[K], Awaitable[bool]],
        metrics: Metrics,
        about: Callable[[K], dict[str, Any]] = lambda _: {},
    ) -> None:
        """Prepare.

        Args:
            name: of the reconciler, in metrics.
            queue: of its keys.
            reconcile: makes what a key names what it should be; says whether a write was refused and is to be
                tried again. It raises ApiError where the key is to be tried again soon.
            metrics: counts and times.
            about: what the log lines tell of a key, beside its namespace and name.
        """
        self._queue = queue
        self._reconcile = reconcile
        self._about = about
        self._results = {
            result: metrics.reconcile_total.labels(controller=name, result=result)
            for result in ("success", "error", "requeue_after")
        }
        self._errors = metrics.reconcile_errors_total.labels(controller=name)
        self._time = metrics.reconcile_time.labels(controller=name)
        self._active = metrics.active_workers.labels(controller=name)

    async def work(self) -> None:
        """One worker; runs until it is cancelled."""
        while True:
            key = await self._queue.get()
            start = time.perf_counter()
            self._active.inc()
            try:
                await self._guarded(key)
            finally:
                self._active.dec()
                self._time.observe(time.perf_counter() - start)
                self._queue.done(key)

    async def _guarded(self, key: K) -> None:
        """Reconcile one key; whatever goes wrong, the key comes back and the worker lives."""
        token = logs.context.set(
            {"namespace": key[0], "name": key[1], **self._about(key), "reconcileID": uuid.uuid4().hex[:12]}
        )
        try:
            refused = await self._reconcile(key)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            wait = error.retry_after or 0.0 if isinstance(error, ApiError) else 0.0
            seconds = self._queue.retry(key, wait)
            self._errors.inc()
            self._results["error"].inc()
            expected = isinstance(error, (LostLeadershipError, *UNREADABLE))
            log.warning("reconcile failed, again in %.2f s: %s", seconds, error, exc_info=not expected)
        else:
            self._queue.forget(key)
            self._results["requeue_after" if refused else "success"].inc()
            if refused:
                self._queue.add_after(key, REFUSED_RETRY_SECONDS)
        finally:
            logs.context.reset(token)
