"""The condition ModelDamaged: while what runs may serve damaged files, and no longer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_operator.api.finding import Finding
from llm_operator.api.status import Condition
from llm_operator.pipeline.damage import damage_findings
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job_view import JobView
from tests.support.model_jobs import cached, fetched, job

DAMAGE = "1 file differs from what was written, of 3: model.safetensors is missing"
RESOURCE = cached()
(FETCH,) = artifacts_of(RESOURCE)


def made(condition: str | None = "Complete", damaged: str = "", **result: Any) -> dict[str, JobView]:
    notes = {"damaged": damaged} if damaged else {}
    told = {"result": json.dumps(fetched(**result))} if condition == "Complete" else {}
    return {FETCH.job_name: job(FETCH, condition=condition, **told, **notes)}


def told(finding: Finding) -> Condition:
    return Condition(
        type=finding.type,
        status="True",
        observed_generation=1,
        last_transition_time="2026-01-01T00:00:00Z",
        reason=finding.reason,
        message=finding.message,
    )


def first() -> Condition:
    (finding,) = damage_findings(RESOURCE, made(damaged=DAMAGE))
    assert DAMAGE in finding.message
    return told(finding)


@pytest.mark.parametrize(
    "jobs",
    [{}, made(None), made("Failed"), made(ok=False, reason="WeightsCorrupt", message="x")],
    ids=["deleted", "made again", "failed", "refused"],
)
def test_it_stands_until_the_files_were_compared_again(jobs: dict[str, JobView]) -> None:
    before = first()
    (finding,) = damage_findings(RESOURCE, jobs, before)
    assert (finding.status, finding.reason, finding.message) == ("True", "HashMismatch", before.message)
    assert damage_findings(RESOURCE, jobs, told(finding)) == (finding,), "nor does it change by being told again"
    assert damage_findings(RESOURCE, jobs) == (), "what was never told is not invented"


def test_it_goes_with_a_successor_that_is_whole() -> None:
    assert damage_findings(RESOURCE, made(), first()) == ()


def test_new_damage_is_told_in_its_own_words() -> None:
    (finding,) = damage_findings(RESOURCE, made(damaged="config.json differs"), first())
    assert "config.json differs" in finding.message
    assert DAMAGE not in finding.message


def test_another_model_has_nothing_of_it() -> None:
    other = cached(model={"huggingFace": {"repository": "org/another"}})
    assert damage_findings(other, {}, first()) == ()
