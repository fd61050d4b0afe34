"""Why a Job has no pod: its status does not say that the API server refuses them, so a dry run asks."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Mapping

from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.keys import Key
from llm_operator.pipeline.job_view import JobView
from llm_operator.reconcile.questions import has_no_pod

WAIT_SECONDS = 5.0
"""For this long the Job controller may take to create a pod."""
AGAIN_SECONDS = 30.0
"""At this pace it is asked again, while there is none."""
MOST_REMEMBERED = 4096
REFUSED = (400, 403, 422)
_OWN_RIGHTS = re.compile(r"cannot (?:get|create) resource")


@dataclasses.dataclass(slots=True)
class _Look:
    due: float
    message: str = ""


class JobPods:
    """Dry runs of the pods of Jobs that have none."""

    def __init__(
        self,
        client: ApiClient,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._clock = clock
        self._looks: dict[str, _Look] = {}
        """By uid of the Job."""

    async def with_refusals(self, key: Key, jobs: Mapping[str, JobView]) -> tuple[dict[str, JobView], float | None]:
        """The Jobs that an object waits for, with why their pods are refused.

        Returns:
            Those, and after how many seconds one of them is to be asked about again; None: never.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        found = {name: await self._with_refusal(key, job) for name, job in jobs.items()}
        looks = (self._looks.get(job.uid) for job in jobs.values() if self._looks)
        again = min((look.due for look in looks if look is not None), default=None)
        return found, None if again is None else max(0.1, again - self._clock())

    async def _with_refusal(self, key: Key, job: JobView) -> JobView:
        if not has_no_pod(job):
            self._looks.pop(job.uid, None)
            return job
        look = self._looks.get(job.uid)
        if look is None:
            if len(self._looks) >= MOST_REMEMBERED:
                self._looks.pop(next(iter(self._looks)))
            look = self._looks[job.uid] = _Look(self._clock() + WAIT_SECONDS)
        elif self._clock() >= look.due:
            # Said before the answer is there: another object that waits for the same Job need not ask too.
            look.due = self._clock() + AGAIN_SECONDS
            look.message = await self._refusal(key[0], job)
        return dataclasses.replace(job, refused=look.message) if look.message else job

    async def _refusal(self, namespace: str, job: JobView) -> str:
        try:
            live = await self._client.get("Job", namespace, job.name)
            template = live["spec"]["template"]
            meta = {**template.get("metadata", {}), "namespace": namespace, "name": job.name}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
            await self._client.create(pod, dry_run=True)
        except ApiError as error:
            if error.status == 429 or error.status >= 500:
                raise
            # The operator's own rights say nothing of the Job controller's.
            ours = _OWN_RIGHTS.search(error.message) is not None
            return error.message if error.status in REFUSED and not ours else ""
        return ""
