"""The work queues of both reconcilers, and the reconciler of Jobs, as the process wires them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from llm_operator.kube.cache import Cache
from llm_operator.kube.client import ApiClient
from llm_operator.kube.contest import Contest
from llm_operator.kube.job_controller import JobController
from llm_operator.kube.keys import JobKey, Key
from llm_operator.kube.workqueue import Queues, WorkQueue
from llm_operator.settings import ToolSettings
from llm_operator.telemetry.metrics import CONTROLLER, JOB_CONTROLLER, Metrics


def queues(clock: Callable[[], float] = time.monotonic) -> Queues:
    """Empty ones."""
    metrics = Metrics()
    return Queues(WorkQueue[Key](CONTROLLER, metrics, clock), WorkQueue[JobKey](JOB_CONTROLLER, metrics, clock))


class FakeQueues:
    """Remember what is added, for objects and Jobs in one list."""

    def __init__(self) -> None:
        self.added: list[object] = []
        self.later: list[object] = []
        self.jobs = self.objects = self

    def add(self, key: object, because: object = None) -> None:
        self.added.append(key)

    def add_after(self, key: object, seconds: float) -> None:
        self.later.append(key)


class Jobs:
    """The reconciler of Jobs with its surroundings."""

    def __init__(
        self, client: Any, cache: Cache, queues: FakeQueues, tools: ToolSettings, now: Callable[[], str]
    ) -> None:
        api, both = cast("ApiClient", client), cast("Queues", queues)
        self.controller = JobController(api, cache, both, Contest("this operator"), tools, now)
        self.interest, self.maker = self.controller.interest, self.controller.maker
