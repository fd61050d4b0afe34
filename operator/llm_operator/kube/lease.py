"""Leadership by Lease: one process reconciles, the others wait."""

from __future__ import annotations

import logging

import aiohttp
from kubernetes.aio.client import ApiClient as PackageClient
from kubernetes.aio.client import Configuration, V1Lease, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import load_config
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

log = logging.getLogger("llm_operator.lease")

LEASE_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10
RETRY_SECONDS = 2

_UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError)


class PatientLock(LeaseLock):
    """A Lease whose reads and writes fail softly while the API server is away; the election's deadline decides."""

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        """The lease's record; an ApiException where the server cannot be reached."""
        try:
            return await super().get(name, namespace)
        except _UNREACHABLE as error:
            return False, ApiException(status=0, reason=str(error))

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Make the lease where there is none; False where somebody else was faster.

        One that this process held and that is gone was deleted with the release, or to force a new election: a leader
        that made it again would outlive either. kubernetes 37.0.2 passes `pretty=True` in its own version, which its
        own models refuse.
        """
        held = self.lease_reference.spec if self.lease_reference is not None else None
        if held is not None and held.holder_identity == self.identity:
            return False
        body = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        try:
            await self.api_instance.create_namespaced_lease(namespace, body)
        except (ApiException, *_UNREACHABLE) as error:
            log.warning("the lease could not be made: %s", error)
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Write the lease; False where that failed."""
        try:
            return bool(await super().update(name, namespace, updated_record))
        except _UNREACHABLE as error:
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
        except (ApiException, *_UNREACHABLE) as error:
            log.warning("the lease could not be given up, the next leader waits %d s: %s", LEASE_SECONDS, error)


class Leadership:
    """The election of one process."""

    def __init__(self, lock: PatientLock, client: PackageClient) -> None:
        self._client = client
        self.lock = lock
        self.election = LeaderElection(
            Config(
                lock,
                lease_duration=LEASE_SECONDS,
                renew_deadline=RENEW_DEADLINE_SECONDS,
                retry_period=RETRY_SECONDS,
                onstarted_leading=_nothing,
                onstopped_leading=_nothing,
            )
        )

    async def acquire(self) -> None:
        """Wait until this process leads."""
        await self.election.acquire()
        log.info("leading as %s", self.lock.identity)

    async def hold(self) -> None:
        """Renew the lease until that fails for too long."""
        await self.election.renew_loop()
        log.error("the lease was lost after %d s without renewal", RENEW_DEADLINE_SECONDS)

    async def release(self) -> None:
        """Give the lease up and close the connection."""
        await self.lock.release()
        await self._client.close()  # type: ignore[no-untyped-call]


async def _nothing() -> None:
    """Starting is the caller's part."""


async def leadership(name: str, namespace: str, identity: str) -> Leadership:
    """Prepare an election over the Lease `namespace/name` as candidate `identity`."""
    configuration = Configuration()
    await load_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    client = PackageClient(configuration)
    return Leadership(PatientLock(name, namespace, identity, client), client)
