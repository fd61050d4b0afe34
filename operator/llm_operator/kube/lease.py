"""Leadership by Lease: one process reconciles, the others wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

from kubernetes.aio.client import ApiClient as PackageClient
from kubernetes.aio.client import Configuration, V1Lease, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from llm_operator.kube import tasks
from llm_operator.kube.connection import Connection
from llm_operator.kube.reading import UNREACHABLE

log = logging.getLogger("llm_operator.lease")

LEASE_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10
RETRY_SECONDS = 2
ATTEMPT_SECONDS = 3.0
"""For one attempt to read and renew: three fit before the deadline. The package's own limit is five minutes."""
CHECK_SECONDS = 0.5
RELEASE_SECONDS = 5.0


class LostLeadershipError(Exception):
    """Another process may lead now; this one must not write."""


Prepare = Callable[[], Awaitable[tuple["PatientLock", PackageClient]]]
"""Makes the Lease's client; called in the election's own loop, where its connections live."""


class PatientLock(LeaseLock):
    """A Lease whose reads and writes fail softly while the API server is away; the election's deadline decides."""

    holder: str | None = None
    """The process that the Lease named when it was read last."""
    refused: Callable[[], None] = staticmethod(lambda: None)
    """Called if the API server does not know the credentials."""

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        """The lease's record; an ApiException where the server cannot be reached."""
        try:
            found, record = await super().get(name, namespace)
            if isinstance(record, ApiException) and record.status == 401:
                self.refused()
            self.holder = record.holder_identity if isinstance(record, LeaderElectionRecord) else None
            return found, record  # type: ignore[return-value]
        except UNREACHABLE as error:
            return False, ApiException(status=0, reason=str(error))

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Make the lease if there is none; False if somebody else was faster.

        One that this process held and that is gone was deleted with the release, or to force a new election: a leader
        that made it again would outlive either. kubernetes 37.0.2 passes `pretty=True` in its own version, which its
        own models refuse.
        """
        held = self.lease_reference.spec if self.lease_reference is not None else None
        if held is not None and held.holder_identity == self.identity:
            return False
        body = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        try:
            self.lease_reference = await self.api_instance.create_namespaced_lease(namespace, body)
        except (ApiException, *UNREACHABLE) as error:
            log.warning("the lease could not be made: %s", error)
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Write the lease; False if that failed."""
        try:
            return bool(await super().update(name, namespace, updated_record))
        except UNREACHABLE as error:
            log.warning("the lease could not be written: %s", error)
            return False

    async def release(self) -> None:
        """Give the lease up so that the next process need not wait for it to expire."""
        if self.lease_reference is None:
            return
        try:
            self.lease_reference = await self.api_instance.read_namespaced_lease(self.name, self.namespace)
            spec = self.lease_reference.spec
            if spec is not None and spec.holder_identity == self.identity:
                spec.holder_identity = None
                await self.api_instance.replace_namespaced_lease(self.name, self.namespace, self.lease_reference)
        except (ApiException, *UNREACHABLE) as error:
            log.warning("the lease could not be given up, the next leader waits %d s: %s", LEASE_SECONDS, error)


class Leadership:
    """The election of one process, in a separate thread with its own loop: no work of the reconcilers delays a renewal.

    Leading ends by this process's monotonic clock: RENEW_DEADLINE_SECONDS after the last renewal was *sent*, whatever
    became of the requests since, and at once if the Lease is seen to name another process. `fence` asks before each
    write, so that nothing is written between the end and the moment at which somebody notices.
    """

    def __init__(self, prepare: Prepare, clock: Callable[[], float] = time.monotonic) -> None:
        self._prepare = prepare
        self._clock = clock
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
        log.error("the lease was not renewed for %d s, or another process holds it", RENEW_DEADLINE_SECONDS)

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
        lock, client = await self._prepare()
        election = LeaderElection(_config(lock))
        try:
            while not self._stop.is_set() and not self._lost:
                await self._attempt(election, lock)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), RETRY_SECONDS)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    await lock.release()
            await client.close()  # type: ignore[no-untyped-call]
            # aiohttp closes the sockets of cancelled requests some turns of the loop later.
            await asyncio.sleep(0.1)

    async def _attempt(self, election: LeaderElection, lock: PatientLock) -> None:
        sent = self._clock()
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                succeeded = await election.try_acquire_or_renew()
        except TimeoutError:
            log.warning("the API server did not answer about the lease within %.0f s", ATTEMPT_SECONDS)
            succeeded = False
        except Exception as error:
            # An answer that is not a Lease, from a proxy for example: try again until the deadline.
            log.warning("the lease could not be read or written: %s: %s", type(error).__name__, str(error)[:200])
            succeeded = False
        if succeeded:
            first = self._renewed is None
            self._renewed = sent
            if first:
                log.info("leading as %s", lock.identity)
                self._tell()
        elif self._renewed is not None and (lock.holder not in (None, lock.identity) or self.seconds_left() <= 0):
            self._lost = True


def _config(lock: PatientLock) -> Config:
    """What the package's election reads; the pace and the end of leading are decided here, by another clock."""
    return Config(
        lock,
        lease_duration=LEASE_SECONDS,
        renew_deadline=LEASE_SECONDS - 1,
        retry_period=RETRY_SECONDS,
        onstarted_leading=_nothing,
        onstopped_leading=_nothing,
    )


async def _nothing() -> None:
    """Starting is the caller's part."""


def leadership(connection: Connection, name: str, namespace: str, identity: str) -> Leadership:
    """Prepare an election over the Lease `namespace/name` as candidate `identity`."""

    async def prepare() -> tuple[PatientLock, PackageClient]:
        configuration = Configuration(host=connection.server)

        def credentials(of: Any) -> None:
            authorization = connection.authorization()
            of.api_key = {"BearerToken": authorization} if authorization else {}

        # The hook is asked only if there is something before.
        credentials(configuration)
        configuration.refresh_api_key_hook = credentials  # type: ignore[assignment]
        configuration.proxy = connection.proxy
        # As all other requests: the environment's proxy for the hub is none for the API server.
        configuration.client_session_kwargs = {"trust_env": False}
        client = PackageClient(configuration)
        tls = connection.ssl_context()
        if isinstance(tls, ssl.SSLContext):
            client.rest_client.ssl_context = tls
        lock = PatientLock(name, namespace, identity, client)
        lock.refused = connection.refused
        return lock, client

    return Leadership(prepare)
