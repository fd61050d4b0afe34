"""The operator as a process: election, then watches, workers and relists in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Set
from dataclasses import dataclass, replace
from typing import Any

from llm_operator.kube import connection as connections
from llm_operator.kube import scrapers, tasks
from llm_operator.kube.api_session import ApiSession
from llm_operator.kube.cache import Cache
from llm_operator.kube.client import UNREADABLE, ApiClient
from llm_operator.kube.controller import Controller
from llm_operator.kube.gather import PlanFactsSource
from llm_operator.kube.intake import Intake
from llm_operator.kube.keys import JobKey, Key
from llm_operator.kube.learned import read_learned
from llm_operator.kube.lease import Leadership, LostLeadershipError, leadership
from llm_operator.kube.relist import Relist
from llm_operator.kube.vital_signs import DEFAULT_PACES, Paces
from llm_operator.kube.watches import Watches
from llm_operator.kube.web import Pulse, WebServer
from llm_operator.kube.worker import Workers
from llm_operator.kube.workqueue import Queues, WorkQueue
from llm_operator.manifests.deployment import NO_TOOLS
from llm_operator.memory.calibration import NOTHING_LEARNED, Calibration
from llm_operator.settings import ToolSettings
from llm_operator.telemetry.metrics import CONTROLLER, JOB_CONTROLLER, Metrics
from llm_operator.telemetry.objects import ObjectsText, Served

log = logging.getLogger("llm_operator")

# Longer than any request may take several times over: a worker that needs so long is stuck.
STUCK_SECONDS = 180.0
FIRST_LIST_RETRY_SECONDS = 2.0
BEHIND_RELIST_SECONDS = 30.0
"""Between relists while the last one found what a watch had missed."""
LEAST_RELIST_SECONDS = 5.0
PULSE_SECONDS = 0.5
STOP_SECONDS = 25.0
"""For watches and the lease to end; the kubelet waits for 30 s."""


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
    plan_wait_seconds: float = 60.0
    """For this long a new object with planPolicy Enforce waits for facts that cannot be had at the moment."""
    gpu_inventory: bool = True
    learned_name: str = ""
    """ConfigMap in the namespace of the lease for what engines measured; empty: it is not kept."""
    calibration: Calibration = NOTHING_LEARNED
    """What earlier leaders kept there."""
    tools: ToolSettings = NO_TOOLS
    paces: Paces = DEFAULT_PACES
    metrics_authentication: bool = False

    def identity(self) -> str:
        """This operator's name for people: that of its Lease, or of its process if there is no election."""
        if self.leader_elect:
            return f"Operator {self.lease_namespace}/{self.lease_name}"
        return f"Operator {socket.gethostname()}/{os.getpid()}"


PlansFactory = Callable[[ApiClient, WorkQueue[Key], Metrics, Options], PlanFactsSource]


class OperatorProcess:
    """One operator process from start to end."""

    def __init__(self, options: Options, make_plans: PlansFactory) -> None:
        self._options = options
        self._make_plans = make_plans
        self._connection = connections.load()
        self._metrics = Metrics()
        self._cache = Cache(options.tools.propagation)
        self._queues = Queues(
            WorkQueue[Key](CONTROLLER, self._metrics, time.monotonic),
            WorkQueue[JobKey](JOB_CONTROLLER, self._metrics, time.monotonic),
        )
        self._relist: Relist | None = None
        self._watches: Watches | None = None
        self._controller: Controller | None = None
        self._leading = not options.leader_elect
        self._stop = asyncio.Event()
        self._list_soon = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal comes.

        Raises:
            LostLeadershipError: the lease could not be renewed.
            WatchesFailedError: the watches end again and again.
            OSError: a port is taken.
        """
        self._catch_signals()
        review = functools.partial(scrapers.prepare, self._connection, self._metrics)
        web = WebServer(
            self._metrics,
            self._options.host,
            review=review if self._options.metrics_authentication else None,
            objects=ObjectsText(self._served).text,
        )
        await web.start(self._options.metrics_port, self._options.health_port)
        pulse = tasks.watched(self._pulse(web), "pulse")
        work = tasks.watched(self._elect_and_lead(), "work")
        try:
            done, _ = await asyncio.wait([pulse, work], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            self._stop.set()
            await asyncio.wait([work], timeout=STOP_SECONDS)
            await tasks.stop(pulse, work)
            await web.stop()

    async def _elect_and_lead(self) -> None:
        election: Leadership | None = None
        try:
            if self._options.leader_elect:
                identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{os.getpid()}"
                name, namespace = self._options.lease_name, self._options.lease_namespace
                election = leadership(self._connection, name, namespace, identity)
                if not await self._unless_stopped(election.acquire()):
                    return
                self._leading = True
            self._metrics.leader.labels(name=self._options.lease_name).set(1)
            await self._lead(election)
        finally:
            if election is not None:
                await election.release()

    async def _lead(self, election: Leadership | None) -> None:
        fence = election.fence if election is not None else None
        async with ApiClient(self._connection, self._metrics, fence=fence) as client:
            namespaces = self._options.namespaces or (None,)
            self._relist = Relist(client, self._cache, self._queues, namespaces, self._metrics)
            if not await self._unless_stopped(self._first_list()):
                return
            intake = Intake(self._cache, self._metrics)

            def vanished(kind: str, namespace: str | None, listed: Set[tuple[str, str]], version: str) -> None:
                for key in intake.vanish(kind, namespace, listed, version):
                    self._queues.add(key)

            session = ApiSession(
                self._connection, namespaces, self._metrics, intake.knows, self._list_soon.set, vanished
            )
            session.begin_at(self._relist.versions)
            self._watches = Watches(
                session, self._connection.server, self._options.namespaces, intake, self._queues, self._metrics
            )
            # Before the first plan, so that it is the last one of the leader before.
            kept = await read_learned(client, self._options.lease_namespace, self._options.learned_name)
            options = replace(self._options, calibration=kept)
            plans = self._make_plans(client, self._queues.objects, self._metrics, options)
            controller = Controller(
                client,
                self._cache,
                self._queues,
                plans,
                self._options.tools,
                identity=self._options.identity(),
                paces=self._options.paces,
            )
            self._controller = controller
            running = self._workers(controller)
            running.append(tasks.forever(functools.partial(self._relists, self._relist, session), "relist"))
            if election is not None:
                running.append(tasks.watched(self._hold(election), "lease"))
            watches = tasks.watched(self._watches.run(self._stop, self._catch_signals), "watches")
            try:
                done, _ = await asyncio.wait([watches, *running], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await task
            finally:
                self._stop.set()
                await tasks.stop(*running)
                await asyncio.wait([watches], timeout=STOP_SECONDS)
                await tasks.stop(watches)

    def _workers(self, controller: Controller) -> list[asyncio.Task[None]]:
        """The workers of both reconcilers."""
        metrics, count = self._metrics, self._options.workers
        objects = Workers(CONTROLLER, self._queues.objects, controller.reconcile, metrics, controller.about)
        jobs = Workers(JOB_CONTROLLER, self._queues.jobs, controller.jobs.reconcile, metrics)
        for name in (CONTROLLER, JOB_CONTROLLER):
            metrics.max_concurrent.labels(controller=name).set(count)
        return [
            *(tasks.forever(objects.work, "worker", f"worker-{n}") for n in range(count)),
            *(tasks.forever(jobs.work, "worker", f"job-worker-{n}") for n in range(count)),
        ]

    async def _first_list(self) -> None:
        """Fill the cache before anything is decided; wait for the API server as long as it takes."""
        assert self._relist is not None  # noqa: S101
        while True:
            try:
                await self._relist.run()
            except UNREADABLE as error:
                log.warning("cannot list yet, again in %.0f s: %s", FIRST_LIST_RETRY_SECONDS, error)
                await asyncio.sleep(FIRST_LIST_RETRY_SECONDS)
            else:
                log.info("%d objects known", len(self._cache.objects))
                return

    async def _relists(self, relist: Relist, session: ApiSession) -> None:
        """List now and then; sooner while a watch misses things, and after one that had to begin anew."""
        while True:
            seconds = min(self._options.relist_seconds, BEHIND_RELIST_SECONDS if relist.behind else math.inf)
            await asyncio.sleep(min(LEAST_RELIST_SECONDS, seconds))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._list_soon.wait(), max(0.0, seconds - LEAST_RELIST_SECONDS))
            self._list_soon.clear()
            try:
                await relist.run()
            except UNREADABLE as error:
                log.warning("the relist failed and is tried again: %s", error)
            else:
                for kind in relist.behind:
                    session.reopen(kind)

    async def _hold(self, election: Leadership) -> None:
        await election.hold()
        self._leading = False
        raise LostLeadershipError("the lease was lost: ending, so that two operators never write")

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Await something unless the process is stopped first; whether it finished."""
        task, stop = tasks.watched(work, "start"), tasks.watched(self._stop.wait(), "stop")
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            await task
            return True
        await tasks.stop(task)
        return False

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)

    async def _pulse(self, web: WebServer) -> None:
        """Tell the web server's thread how the process is, as often as the loop turns.

        Raises:
            BaseException: what ended that thread.
        """
        while web.error is None:
            web.pulse = Pulse(time.monotonic(), self._unhealthy(), self._unready())
            await asyncio.sleep(PULSE_SECONDS)
        raise web.error

    def _unhealthy(self) -> str | None:
        """Whether workers finish. How long the queue is says nothing: 10,000 objects at once may wait for minutes."""
        queues = (self._queues.objects, self._queues.jobs)
        running = max(queue.oldest_in_work() for queue in queues)
        if running > STUCK_SECONDS:
            return f"a reconciliation has run for {running:.0f} s"
        idle = max(queue.without_progress() for queue in queues)
        return f"keys wait, and none has been worked on for {idle:.0f} s" if idle > STUCK_SECONDS else None

    def _unready(self) -> str | None:
        if not self._leading:
            return None
        if self._relist is None or self._watches is None or not self._relist.synced:
            return "the cache is not filled yet"
        waiting = self._watches.waiting_for()
        if waiting:
            return f"not watched yet: {', '.join(waiting)}"
        interrupted = self._watches.interrupted()
        return f"the watch is interrupted: {', '.join(interrupted)}" if interrupted else None

    def _served(self) -> Iterable[Served]:
        return [self._controller.served(key) for key in self._cache.objects] if self._controller is not None else []
