"""Jobs of the model tools that change while they are looked at."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime

from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job_evaluate import evaluate_job
from llm_operator.pipeline.job_snapshot import JobSnapshot
from tests.support.model_jobs import cached, fetched, job

SINCE = "2026-01-01T00:00:00Z"


def test_a_job_that_left_the_cache_while_it_was_looked_at_is_still_one_of_all() -> None:
    """max() of nothing ended the reconciliation; found by random changes of specs."""
    done = job(artifacts_of(cached())[0], condition="Complete")
    gone = dataclasses.replace(done, told=json.dumps(fetched()), unused_since=SINCE, claim="models")
    assert gone.removal() is not None
    outcome = evaluate_job(JobSnapshot(gone, unused_with=()), datetime.fromisoformat(SINCE), retention_seconds=60)
    assert outcome.fate.look_again_seconds == 60
