"""Reads what running engines say of themselves: once per pod, from its metrics or API, or the beginning of its log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import MeasuredStatus
from llm_operator.engines import engine_of
from llm_operator.kube import tasks
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.kube.engine_api import ask
from llm_operator.kube.keys import Key
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.live.pods import Pod
from llm_operator.manifests.pod import CONTAINER
from llm_operator.reconcile.decide import expected_inputs
from llm_operator.reconcile.measured import ANSWER_BYTES, LOG_BYTES, pod_to_measure, seconds_to_ready
from llm_operator.reconcile.observed import Observed

log = logging.getLogger("llm_operator.measurements")

Learn = Callable[[Key, LLMDeployment, int], None]
"""Takes the tokens that an engine told which this process saw starting."""


class Measurements:
    """What was read, by object and pod."""

    def __init__(self, client: ApiClient, queue: WorkQueue[Key], learn: Learn = lambda *_: None) -> None:
        self._client = client
        self._learn = learn
        self._queue = queue
        self._asked: dict[Key, tuple[str, str | None]] = {}
        self._read: dict[Key, MeasuredStatus | None] = {}

    def of(
        self, key: Key, resource: LLMDeployment, observed: Observed, bytes_per_token: int | None
    ) -> MeasuredStatus | None:
        """What is known now; a pod that was not asked yet is asked beside the reconciler.

        Args:
            key: the object.
            resource: the object.
            observed: its pods.
            bytes_per_token: KV cache of one token on one GPU, from the plan.
        """
        before = resource.status.measured if resource.status else None
        pod = pod_to_measure(observed.pods, expected_inputs(resource, observed))
        if pod is None:
            return before
        # A restarted container tells anew.
        identity = (pod.uid, pod.started_at)
        if self._asked.get(key) == identity:
            return self._read.get(key, before)
        if before is not None and key not in self._asked and _is_of(before, pod):
            # Told by an earlier process of this operator, of this very pod.
            self._asked[key], self._read[key] = identity, before
            return before
        self._asked[key] = identity
        tasks.once(self._ask(key, identity, resource, pod, bytes_per_token), "measure", f"measure-{key[1]}", of=key)
        return before

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._asked.pop(key, None)
        self._read.pop(key, None)

    async def _ask(
        self,
        key: Key,
        identity: tuple[str, str | None],
        resource: LLMDeployment,
        pod: Pod,
        bytes_per_token: int | None,
    ) -> None:
        tokens = await self._tokens(key[0], resource, pod, bytes_per_token)
        if self._asked.get(key) != identity:
            return  # another pod serves by now, or the object is gone
        self._read[key] = MeasuredStatus.model_validate(
            {"kv_tokens": tokens, "seconds_to_ready": seconds_to_ready(pod), "pod_uid": pod.uid}, by_name=True
        )
        self._queue.add(key)
        if tokens is not None:
            self._learn(key, resource, tokens)

    async def _tokens(
        self, namespace: str, resource: LLMDeployment, pod: Pod, bytes_per_token: int | None
    ) -> int | None:
        engine = engine_of(resource.spec.engine.type)
        asking = engine.capacity(_backend(resource), bytes_per_token)
        text: str | None = None
        try:
            wanted = next(asking)
            while True:
                if wanted.path is None:
                    text = await self._log(namespace, pod)
                else:
                    text = await ask(pod.pod_ip, engine.port, wanted.path, ANSWER_BYTES)
                wanted = asking.send(text)
        except StopIteration as told:
            tokens: int | None = told.value
            return tokens

    async def _log(self, namespace: str, pod: Pod) -> str | None:
        """The log's beginning; None where it cannot be read."""
        try:
            return await self._client.read_log(namespace, pod.name, CONTAINER, LOG_BYTES)
        except UNREADABLE as error:
            level = logging.DEBUG if isinstance(error, ApiError) and error.status == 404 else logging.INFO
            log.log(level, "the log of %s could not be read: %s", pod.name, error)
            return None


def _is_of(measured: MeasuredStatus, pod: Pod) -> bool:
    """Whether this container of this pod was measured: a container that was restarted takes another time."""
    return measured.pod_uid == pod.uid and measured.seconds_to_ready == seconds_to_ready(pod)


def _backend(resource: LLMDeployment) -> str | None:
    """The engine's backend as it was rendered."""
    running = resource.status.engine if resource.status else None
    return resource.spec.engine.backend if running is None else running.backend
