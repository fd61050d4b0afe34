"""Leadership by Lease: one process reconciles, the others wait."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

from llm_operator.kube import tasks
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.kube.clock import steady
from llm_operator.kube.connection import Connection
from llm_operator.kube.election import LEASE_SECONDS, Election, Step, holder
from llm_operator.telemetry.metrics import Metrics

log = logging.getLogger("llm_operator.lease")

JSON = dict[str, Any]

RENEW_DEADLINE_SECONDS = 10
RETRY_SECONDS = 2
ATTEMPT_SECONDS = 3.0
"""For one attempt to read and renew: three fit before the deadline."""
CHECK_SECONDS = 0.5
RELEASE_SECONDS = 5.0
CONNECTIONS = 2


class LostLeadershipError(Exception):
    """Another process may lead now; this one must not write."""


class Lease:
    """One Lease at the API server."""

    def __init__(self, client: ApiClient, name: str, namespace: str) -> None:
        self._client = client
        self._name = name
        self._namespace = namespace
        self._body: JSON = {}

    async def find(self) -> JSON | None:
        """Its spec, empty if it was never held; None: there is no Lease.

        Raises:
            ApiError: refused, or the answer is not a Lease.
            aiohttp.ClientError, TimeoutError, OSError: there was no answer.
        """
        try:
            body = await self._client.get("Lease", self._namespace, self._name)
        except ApiError as error:
            # Not the page of a proxy which knows no such path.
            if (error.status, error.reason) != (404, "NotFound"):
                raise
            return None
        spec = body.get("spec") or {}
        if not isinstance(spec, dict) or not isinstance(spec.get("holderIdentity", ""), str):
            raise ApiError(502, "Unreadable", "the answer is not a Lease")
        self._body = body
        return spec

    async def create(self, spec: JSON) -> None:
        """Make it; raises as `find` does, ApiError with 409 if another process was faster."""
        meta = {"name": self._name, "namespace": self._namespace}
        await self._client.create(
            {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
        )

    async def replace(self, spec: JSON) -> None:
        """Write the spec; raises as `find` does, ApiError with 409 if the Lease has changed since."""
        await self._client.replace(
            {**self._body, "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec}
        )


class Leadership:
    """The election of one process, in a separate thread with its own loop: no work of the reconcilers delays a renewal.

    Leading ends by this process's steady clock: RENEW_DEADLINE_SECONDS after the last renewal was *sent*, whatever
    became of the requests since, and at once if the Lease is seen to be gone or to name another process. `fence` asks
    before each write, so that nothing is written between the end and the moment at which somebody notices.
    """

    def __init__(
        self,
        identity: str,
        name: str,
        namespace: str,
        client: Callable[[], AbstractAsyncContextManager[ApiClient]],
        clock: Callable[[], float] = steady,
    ) -> None:
        """Prepare.

        Args:
            identity: this process's name in the Lease.
            name: of the Lease.
            namespace: of the Lease.
            client: makes what requests it; called in the election's own loop, in which its connections live.
            clock: seconds by a clock that is never set.
        """
        self._identity = identity
        self._name = name
        self._namespace = namespace
        self._client = client
        self._clock = clock
        self._election = Election(identity)
        self._told = ""
        """The holder that was logged last."""
        self._renewed: float | None = None
        """When the last renewal that succeeded was sent; None: never led."""
        self._lost = False
        self._leading: asyncio.Event | None = None
        self._main: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: tasks.Started | None = None
        self._error: BaseException | None = None

    async def acquire(self) -> None:
        """Wait until this process leads.

        Raises:
            Exception: the credentials of the Lease's client cannot be read.
        """
        self._main, self._leading = asyncio.get_running_loop(), asyncio.Event()
        self._thread = tasks.thread(self._run, "lease")
        await self._leading.wait()
        if self._error is not None:
            raise self._error

    async def hold(self) -> None:
        """Return when this process leads no longer."""
        # A clock has no event to wait for.
        while self.seconds_left() > 0:  # noqa: ASYNC110
            await asyncio.sleep(CHECK_SECONDS)
        log.error("the lease was not renewed for %d s, was deleted, or names another process", RENEW_DEADLINE_SECONDS)

    def seconds_left(self) -> float:
        """Seconds for which this process leads if no renewal succeeds; 0 or less: it does not."""
        if self._renewed is None or self._lost:
            return 0.0
        return self._renewed + RENEW_DEADLINE_SECONDS - self._clock()

    def fence(self) -> float:
        """Seconds that a write may take at most, so that it has ended before another process can lead.

        Raises:
            LostLeadershipError: this process does not lead.
        """
        left = self.seconds_left()
        if left <= 0:
            raise LostLeadershipError("not written: this process does not hold the lease")
        return left + LEASE_SECONDS - RENEW_DEADLINE_SECONDS - 1

    async def release(self) -> None:
        """Give the lease up and end the thread; within RELEASE_SECONDS, whatever the API server does."""
        if self._thread is None:
            return
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.to_thread(self._thread.join, RELEASE_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            log.exception("the election ended")
            self._error = error
        finally:
            self._lost = True
            self._tell()

    def _tell(self) -> None:
        if self._main is not None and self._leading is not None:
            with contextlib.suppress(RuntimeError):  # the process ends
                self._main.call_soon_threadsafe(self._leading.set)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._client() as client:
            lease = Lease(client, self._name, self._namespace)
            try:
                while not self._stop.is_set() and not self._lost:
                    await self._attempt(lease)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stop.wait(), RETRY_SECONDS)
            finally:
                await self._give_up(lease)
        # aiohttp closes the sockets of cancelled requests some turns of the loop later.
        await asyncio.sleep(0.1)

    async def _attempt(self, lease: Lease) -> None:
        if self._renewed is not None and self.seconds_left() <= 0:
            # Also after the machine slept: not even one more renewal.
            self._lost = True
            return
        sent = self._clock()
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                step = await self._look(lease)
        except TimeoutError:
            log.warning("the API server did not answer about the lease within %.0f s", ATTEMPT_SECONDS)
            step = None
        except (*UNREADABLE, ValueError) as error:
            # Also an answer that is not a Lease, of a proxy for example: try again until the deadline.
            log.warning("the lease could not be read or written: %s: %s", type(error).__name__, str(error)[:200])
            step = None
        if step is Step.WRITE:
            first = self._renewed is None
            self._renewed = sent
            if first:
                log.info("leading as %s", self._identity)
                self._tell()
        elif step is Step.LOST or (self._renewed is not None and self.seconds_left() <= 0):
            self._lost = True

    async def _look(self, lease: Lease) -> Step:
        """Read the Lease, and write it if this process may; what was done."""
        spec = await lease.find()
        step = self._election.look(spec, self._clock(), leading=self._renewed is not None)
        if step is Step.WRITE:
            body = self._election.written(spec, _time_of_day())
            await (lease.create(body) if spec is None else lease.replace(body))
        elif holder(spec) not in ("", self._told):
            self._told = holder(spec)
            log.info("%s: the lease names %s", "waiting" if step is Step.WAIT else "lost", self._told)
        return step

    async def _give_up(self, lease: Lease) -> None:
        """Let the next process lead at once, if this one holds the Lease."""
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                spec = self._election.released(await lease.find(), _time_of_day())
                if spec is not None:
                    await lease.replace(spec)
        except (*UNREADABLE, ValueError) as error:
            log.warning("the lease could not be given up, the next leader waits %d s: %s", LEASE_SECONDS, error)


def _time_of_day() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def leadership(connection: Connection, name: str, namespace: str, identity: str) -> Leadership:
    """Prepare an election over the Lease `namespace/name` as candidate `identity`."""
    # Not the process's metrics: a renewal every two seconds would hide that an operator writes nothing.
    client = functools.partial(ApiClient, connection, Metrics(), CONNECTIONS)
    return Leadership(identity, name, namespace, client)
