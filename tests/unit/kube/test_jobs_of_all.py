"""Jobs of the model tools that change while they are looked at."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from llm_operator.kube.cache import Cache
from llm_operator.kube.model_jobs import ModelJobs
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.telemetry.metrics import CONTROLLER, Metrics
from tests.support.model_jobs import TOOLS, cached, fetched, job

SINCE = "2026-01-01T00:00:00Z"


def test_a_job_that_left_the_cache_while_it_was_looked_at_is_still_one_of_all() -> None:
    """max() of nothing ended the reconciliation; found by random changes of specs."""
    client: Any = None
    queue = WorkQueue(CONTROLLER, Metrics(), lambda: 0.0)
    jobs = ModelJobs(client, Cache(), queue, TOOLS, lambda: SINCE)
    done = job(artifacts_of(cached())[0], condition="Complete")
    gone = dataclasses.replace(done, told=json.dumps(fetched()), unused_since=SINCE, claim="models")
    assert gone.removal() is not None
    assert jobs._with_time_of_all("team", gone).unused_since == SINCE
