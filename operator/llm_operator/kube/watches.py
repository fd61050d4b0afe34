"""Keeps kopf and the other watches going: what ends is started anew, and a kind that no one watches is noticed."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import kopf

from llm_operator.kube import tasks
from llm_operator.kube.api_session import ApiSession
from llm_operator.kube.child_watches import watch_children
from llm_operator.kube.handlers import register, settings
from llm_operator.kube.intake import Intake
from llm_operator.kube.workqueue import Queues
from llm_operator.telemetry.metrics import Metrics

log = logging.getLogger("llm_operator.watches")

CHECK_SECONDS = 1.0
DEAF_CHECKS = 20
"""A kind is deaf if no one watches it or tries to at so many checks in a row; counted by turns of the loop."""
RESTART_SECONDS = 1.0
MOST_RESTARTS = 5
RESTARTS_WITHIN_SECONDS = 300.0
INTERRUPTED_SECONDS = 60.0
"""A watch that does not come back for this long makes the process unready."""


class WatchesFailedError(Exception):
    """The watches end again and again; the message says at what."""


class _Everything(Collection[Any]):
    """kopf cancels every task of the loop that is younger than itself, unless it is among those to ignore."""

    def __contains__(self, _: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Watches:
    """The watches of all kinds: of LLMDeployments by kopf, of what belongs to them without it."""

    def __init__(
        self,
        session: ApiSession,
        server: str,
        namespaces: Sequence[str],
        intake: Intake,
        queues: Queues,
        metrics: Metrics,
    ) -> None:
        """Prepare; `run` watches.

        Args:
            session: what they request through.
            server: base URL of the API server.
            namespaces: empty for all.
            intake: takes what is reported.
            queues: get the keys that it concerns.
            metrics: counts restarts.
        """
        self._session = session
        self._server = server
        self._namespaces = namespaces
        self._intake = intake
        self._queues = queues
        self._metrics = metrics

    async def run(self, stop: asyncio.Event, signals: Callable[[], None] = lambda: None) -> None:
        """Watch until `stop` is set.

        Args:
            stop: ends it.
            signals: restores the process's signal handlers, which kopf replaces by its own.

        Raises:
            WatchesFailedError: they ended MOST_RESTARTS times within RESTARTS_WITHIN_SECONDS.
        """
        loop = asyncio.get_running_loop()
        restarts: list[float] = []
        while not stop.is_set():
            problem = await self._once(stop, signals)
            if stop.is_set():
                return
            now = loop.time()
            restarts = [at for at in restarts if now - at < RESTARTS_WITHIN_SECONDS] + [now]
            if len(restarts) > MOST_RESTARTS:
                raise WatchesFailedError(f"the watches ended {len(restarts)} times in a row, last at: {problem}")
            self._metrics.watch_restarts.inc()
            log.error("the watches are started anew: %s", problem)
            await asyncio.sleep(RESTART_SECONDS)

    def waiting_for(self) -> list[str]:
        """Paths that were never watched since the start."""
        return [path for path, stream in self._session.streams.items() if not stream.opened]

    def interrupted(self) -> list[str]:
        """Paths whose watch has not come back for INTERRUPTED_SECONDS, with the reason."""
        now = asyncio.get_running_loop().time()
        return [
            f"{path} ({stream.reason})"
            for path, stream in self._session.streams.items()
            if stream.failures and not stream.watching and now - stream.failing_since > INTERRUPTED_SECONDS
        ]

    async def _once(self, stop: asyncio.Event, signals: Callable[[], None]) -> str:
        """One run of all watches; what ended it."""
        ended = asyncio.Event()
        self._session.new_run()
        kopf_task = tasks.watched(self._kopf(ended, signals), "kopf")
        others = tasks.watched(self._others(), "child-watches")
        deaf = tasks.watched(self._deaf(), "watch-check")
        stopped = tasks.watched(stop.wait(), "watch-stop")
        try:
            await asyncio.wait([kopf_task, others, deaf, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task, name in ((kopf_task, "kopf"), (others, "a watch")):
                if task.done():
                    error = None if task.cancelled() else task.exception()
                    return f"{name} ended" if error is None else f"{type(error).__name__}: {error}"
            return f"no watch for {deaf.result()}" if deaf.done() else "stopped"
        finally:
            ended.set()
            await tasks.stop(deaf, stopped, others)
            await asyncio.wait([kopf_task], timeout=20)
            await tasks.stop(kopf_task)
            await self._session.close()

    async def _others(self) -> None:
        """Watch what kopf does not; ends at the first error of a watch."""
        await watch_children(self._session, self._server, self._intake, self._queues)

    async def _kopf(self, ended: asyncio.Event, signals: Callable[[], None]) -> None:
        registry = kopf.OperatorRegistry()
        register(registry, self._server, self._session, self._intake, self._queues)
        roots = await kopf.spawn_tasks(
            # Without one, kopf looks up the name of the user, and a pod's user id has no entry in /etc/passwd.
            identity=socket.gethostname(),  # type: ignore[arg-type,unused-ignore]
            registry=registry,
            settings=settings(),
            clusterwide=not self._namespaces,
            namespaces=list(self._namespaces),
            stop_flag=ended,
        )
        signals()
        await kopf.run_tasks(roots, ignored=_Everything())

    async def _deaf(self) -> str:
        """Return the path of a watch that no one keeps open or tries to open, once there is one."""
        silent = dict.fromkeys(self._session.streams, 0)
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            trying = any(stream.trying for stream in self._session.discovery())
            for path, stream in self._session.streams.items():
                silent[path] = 0 if stream.alive or trying else silent[path] + 1
                if silent[path] >= DEAF_CHECKS:
                    return path
