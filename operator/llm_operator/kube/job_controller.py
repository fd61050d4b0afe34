"""The reconciler of the model tools' Jobs: get a key, gather what is known of the Job, evaluate, execute, publish.

Results are kept, failures are tried again, what no one wants ends.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from llm_operator.kube.cache import Cache
from llm_operator.kube.client import ApiClient
from llm_operator.kube.contest import Contest
from llm_operator.kube.interest import Interest
from llm_operator.kube.job_execute import JobExecutor
from llm_operator.kube.job_gather import JobGatherer
from llm_operator.kube.job_making import JobMaker
from llm_operator.kube.keys import JobKey
from llm_operator.kube.leftovers import Leftovers
from llm_operator.kube.workqueue import Queues
from llm_operator.pipeline.job_evaluate import evaluate_job
from llm_operator.pipeline.job_snapshot import JobOutcome
from llm_operator.settings import ToolSettings


class JobController:
    """Reconciles Jobs, and queues the objects that wait for them."""

    def __init__(
        self,
        client: ApiClient,
        cache: Cache,
        queues: Queues,
        contest: Contest,
        tools: ToolSettings,
        now: Callable[[], str],
    ) -> None:
        self._queues = queues
        self._retention_seconds = tools.retention_seconds
        self._now = now
        self.interest = Interest(cache, queues, enabled=tools.enabled)
        """Takes what the objects request."""
        self.maker = JobMaker(client, cache, queues, self.interest, contest)
        """Makes the Jobs that they need."""
        self.leftovers = Leftovers()
        """What the next Jobs are reported."""
        self._gatherer = JobGatherer(client, cache, self.interest, tools)
        self._executor = JobExecutor(client, cache, queues, self.maker, tools, now)

    async def reconcile(self, key: JobKey) -> bool:
        """Do the one thing that is to be done with a Job now.

        Returns:
            False: the API server refused nothing that is to be tried again.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        try:
            snapshot = await self._gatherer.gather(key)
            now = datetime.fromisoformat(self._now()).astimezone(UTC)
            outcome = evaluate_job(snapshot, now, self._retention_seconds)
            self._remember(key, outcome)
            await self._executor.execute(key, snapshot, outcome)
        finally:
            # Who waits for the Job hears of it also if it could not be written to.
            self._publish(key)
        for name in outcome.look_at:
            self._queues.add(JobKey(key.namespace, name))
        return False

    def _remember(self, key: JobKey, outcome: JobOutcome) -> None:
        """What outlasts this look: times to look again, partial output, and who may be asked again."""
        for seconds in (outcome.look_again_seconds, outcome.fate.look_again_seconds):
            if seconds is not None:
                self._queues.add_after(key, seconds)
        if outcome.left_alone:
            self.interest.leave_alone(key)
        self.leftovers.learn(key, outcome)

    def _publish(self, key: JobKey) -> None:
        for waiting in self._gatherer.concerned(key):
            self._queues.add(waiting)
