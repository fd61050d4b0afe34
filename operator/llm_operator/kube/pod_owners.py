"""Whose a pod is: its controller decides, by uid, never its labels or its name.

Anyone who may create pods can give one our labels. A Deployment's pods are controlled by ReplicaSets, which are asked
for once each; to watch them all would cost an event for every change of a pod.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.live.children import Child, workload_in
from llm_operator.live.pods import Pod
from llm_operator.reconcile.observed import Observed

log = logging.getLogger("llm_operator.pod_owners")

T = TypeVar("T")

MOST_REMEMBERED = 16384
ABSENT_SECONDS = 30.0
"""A ReplicaSet that was not found is requested again after this long."""


class PodOwners:
    """The Deployment that controls each ReplicaSet, by the uids of both."""

    def __init__(self, client: ApiClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._deployments: dict[str, str] = {}
        self._absent: dict[str, float] = {}
        self._forbidden = False

    async def own(self, namespace: str, uid: str, observed: Observed) -> Observed:
        """What is observed, without pods that are not controlled by the object's own Deployments.

        Args:
            namespace: the object's.
            uid: the object's.
            observed: with every pod that says that it is the object's.

        Raises:
            ApiError: the API server failed.
        """
        engine = [pod for pod in observed.pods if await self._is_own(namespace, uid, pod, observed)]
        chat = [pod for pod in observed.chat_pods if await self._is_own(namespace, uid, pod, observed)]
        return dataclasses.replace(observed, pods=tuple(engine), chat_pods=tuple(chat))

    def known_own(self, uid: str, observed: Observed) -> tuple[Pod, ...]:
        """The engine's pods that are known to be the object's own, without a request.

        Args:
            uid: the object's.
            observed: with every pod that says that it is the object's.
        """
        child = observed.workload
        if child is None or child.owner_uid != uid:
            return ()
        return tuple(pod for pod in observed.pods if self._deployments.get(pod.controller[2]) == child.uid)

    async def _is_own(self, namespace: str, uid: str, pod: Pod, observed: Observed) -> bool:
        child = workload_in(observed.children, pod.role)
        kind, name, replica_set = pod.controller
        if child is None or child.owner_uid != uid or kind != "ReplicaSet":
            return False
        deployment = await self._deployment_of(namespace, name, replica_set, child)
        return deployment == child.uid

    async def _deployment_of(self, namespace: str, name: str, uid: str, child: Child) -> str | None:
        known = self._deployments.get(uid)
        if known is not None:
            return known
        if self._clock() < self._absent.get(uid, 0.0):
            return None
        try:
            live = await self._client.get("ReplicaSet", namespace, name)
        except ApiError as error:
            if error.status == 403:
                self._warn(error)
                return child.uid if name.startswith(f"{child.name}-") else None
            if error.status != 404:
                raise
            live = {}
        meta = live.get("metadata") or {}
        owners = [owner for owner in meta.get("ownerReferences") or () if owner.get("controller")]
        if meta.get("uid") != uid or not owners:
            _remember(self._absent, uid, self._clock() + ABSENT_SECONDS)
            return None
        found = str(owners[0].get("uid"))
        _remember(self._deployments, uid, found)
        return found

    def _warn(self, error: ApiError) -> None:
        if not self._forbidden:
            log.warning(
                "ReplicaSets may not be read: pods are matched by the names of their ReplicaSets (%s)", error.message
            )
            self._forbidden = True


def _remember(table: dict[str, T], key: str, value: T) -> None:
    table[key] = value
    if len(table) > MOST_REMEMBERED:
        del table[next(iter(table))]
