"""The operator as a process: election, then watches, workers and relists in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp
import kopf

from llm_operator.kube import connection as connections
from llm_operator.kube import tasks
from llm_operator.kube.cache import Cache
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.controller import Controller, Planner
from llm_operator.kube.handlers import register, settings
from llm_operator.kube.intake import Intake
from llm_operator.kube.lease import Leadership, LostLeadershipError, leadership
from llm_operator.kube.relist import Relist
from llm_operator.kube.web import WebServer
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.manifests.deployment import NO_TOOLS
from llm_operator.manifests.tools import ToolSettings
from llm_operator.telemetry.metrics import CONTROLLER, Metrics
from llm_operator.telemetry.objects import ObjectsCollector, Served

log = logging.getLogger("llm_operator")

# Longer than any request may take several times over: a worker or key this old is stuck.
STUCK_SECONDS = 180.0
FIRST_LIST_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose."""

    namespaces: tuple[str, ...] = ()
    """Empty: all."""
    workers: int = 8
    metrics_port: int = 8080
    health_port: int = 8081
    host: str = "0.0.0.0"  # noqa: S104 - the kubelet probes the pod's address
    leader_elect: bool = True
    lease_name: str = "llm-operator"
    lease_namespace: str = "default"
    relist_seconds: float = 300.0
    gpu_inventory: bool = True
    tools: ToolSettings = NO_TOOLS


PlannerFactory = Callable[[ApiClient, WorkQueue, Metrics, Options], Planner]


class OperatorProcess:
    """One operator process from start to end."""

    def __init__(self, options: Options, make_planner: PlannerFactory) -> None:
        self._options = options
        self._make_planner = make_planner
        self._connection = connections.load()
        self._metrics = Metrics()
        self._cache = Cache()
        self._queue = WorkQueue(CONTROLLER, self._metrics, time.monotonic)
        self._relist: Relist | None = None
        self._leading = not options.leader_elect
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal comes.

        Raises:
            LostLeadershipError: the lease could not be renewed.
        """
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        self._metrics.registry.register(ObjectsCollector(self._served))
        web = WebServer(self._metrics, self._healthy, self._ready, self._options.host)
        await web.start(self._options.metrics_port, self._options.health_port)
        election: Leadership | None = None
        try:
            if self._options.leader_elect:
                identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{os.getpid()}"
                election = leadership(self._options.lease_name, self._options.lease_namespace, identity)
                if not await self._unless_stopped(election.acquire()):
                    return
                self._leading = True
            self._metrics.leader.labels(name=self._options.lease_name).set(1)
            await self._lead(election)
        finally:
            if election is not None:
                await election.release()
            await web.stop()

    async def _lead(self, election: Leadership | None) -> None:
        fence = election.fence if election is not None else None
        async with ApiClient(self._connection, self._metrics, fence=fence) as client:
            namespaces = self._options.namespaces or (None,)
            self._relist = Relist(client, self._cache, self._queue, namespaces, self._metrics)
            if not await self._unless_stopped(self._first_list()):
                return
            planner = self._make_planner(client, self._queue, self._metrics, self._options)
            controller = Controller(client, self._cache, self._queue, planner, self._metrics, self._options.tools)
            self._metrics.max_concurrent.labels(controller=CONTROLLER).set(self._options.workers)
            running = [tasks.forever(controller.work, "worker", f"worker-{n}") for n in range(self._options.workers)]
            running.append(tasks.forever(self._relists, "relist"))
            if election is not None:
                running.append(tasks.watched(self._hold(election), "lease"))
            watches = tasks.watched(self._watch(), "watches")
            try:
                done, _ = await asyncio.wait([watches, *running], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await task
            finally:
                self._stop.set()
                await tasks.stop(*running)
                with contextlib.suppress(asyncio.CancelledError):
                    await watches

    async def _watch(self) -> None:
        registry = kopf.OperatorRegistry()
        register(registry, self._connection, Intake(self._cache, self._metrics), self._queue)
        await kopf.operator(
            # Without one, kopf asks for the name of the user, and a pod's user id has no entry in /etc/passwd.
            identity=socket.gethostname(),  # type: ignore[arg-type,unused-ignore]
            registry=registry,
            settings=settings(),
            clusterwide=not self._options.namespaces,
            namespaces=list(self._options.namespaces),
            stop_flag=self._stop,
        )

    async def _first_list(self) -> None:
        """Fill the cache before anything is decided; wait for the API server as long as it takes."""
        assert self._relist is not None  # noqa: S101
        while True:
            try:
                await self._relist.run()
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("cannot list yet, again in %.0f s: %s", FIRST_LIST_RETRY_SECONDS, error)
                await asyncio.sleep(FIRST_LIST_RETRY_SECONDS)
            else:
                log.info("%d objects known", len(self._cache.objects))
                return

    async def _relists(self) -> None:
        assert self._relist is not None  # noqa: S101
        while True:
            await asyncio.sleep(self._options.relist_seconds)
            try:
                await self._relist.run()
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("relist failed, again in %.0f s: %s", self._options.relist_seconds, error)

    async def _hold(self, election: Leadership) -> None:
        await election.hold()
        self._leading = False
        raise LostLeadershipError("the lease was lost: ending, so that two operators never write")

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Await something unless the process is told to stop first; whether it finished."""
        task, stop = tasks.watched(work, "start"), tasks.watched(self._stop.wait(), "stop")
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            await task
            return True
        await tasks.stop(task)
        return False

    def _healthy(self) -> str | None:
        if self._queue.oldest_in_work() > STUCK_SECONDS:
            return f"a reconciliation has run for {self._queue.oldest_in_work():.0f} s"
        if self._queue.oldest_waiting() > STUCK_SECONDS:
            return f"a key has waited for {self._queue.oldest_waiting():.0f} s"
        dead = self._relist.dead_watches if self._relist else []
        return f"the watch of {', '.join(dead)} is dead" if dead else None

    def _ready(self) -> str | None:
        if self._leading and (self._relist is None or not self._relist.synced):
            return "the cache is not filled yet"
        return self._healthy()

    def _served(self) -> Iterable[Served]:
        for key, body in self._cache.objects.items():
            yield Served(body, sum(pod.restarts for pod in self._cache.observed(key).pods))
