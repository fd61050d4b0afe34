"""What the stages before serving say: of a result, of a failure, of what is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.live.pods import ContainerEnd
from llm_operator.pipeline.job_view import JobView
from llm_operator.pipeline.preparation import Preparation
from llm_operator.pipeline.prepare import prepare
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.problems import Problem
from llm_operator.reconcile.observed import Observed
from tests.support.build import plan, pod
from tests.support.model_jobs import (
    COMMIT,
    DIRECTORY,
    HUB,
    TOOLS,
    cached,
    done,
    failed,
    fetched,
    job,
    quantized,
    seen,
    stages,
    tool_pod,
)

OF = cached()
FETCH = stages(OF)["fetch"]
AGAIN = f"it is tried again later, at once after `kubectl delete job {FETCH.job_name}`"
RECIPE = {"method": "AWQ"}


def prepared(of: LLMDeployment, observed: Observed, outcome: PlanOutcome | None = None) -> Preparation:
    return prepare(of, observed, outcome or plan(of), TOOLS)


def output_of(preparation: Preparation) -> str:
    """The directory that the Job which is to be made writes."""
    (body,) = preparation.writes
    (container,) = body["spec"]["template"]["spec"]["containers"]
    words: list[str] = container["args"]
    return words[words.index("--output") + 1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, f"{DIRECTORY}, 5.00 GiB, revision {COMMIT}"),
        ({"bytes": 0, "message": "all there"}, f"{DIRECTORY}, 0.00 GiB, revision {COMMIT}; all there"),
        ({"bytes": None, "revision": None}, DIRECTORY),
    ],
)
def test_a_result_is_told_with_its_size_and_revision(more: dict[str, Any], said: str) -> None:
    found = prepared(OF, seen(done(FETCH, fetched(**more))))
    (report,) = found.reports
    assert (report.state, report.reason, report.message) == ("Done", "Cached", said)
    assert (found.trouble, found.claim_missing, found.running) == (None, False, None)


@pytest.mark.parametrize(
    ("one", "reason", "said"),
    [
        (failed(FETCH, "ModelGated"), "ModelGated", "what was wrong"),
        (job(FETCH, condition="Failed"), "JobFailed", f"Job {FETCH.job_name} failed: Why: "),
        (replace(job(FETCH, condition="Failed"), failure=""), "JobFailed",
         f"Job {FETCH.job_name} failed: no reason was given"),
        (replace(failed(FETCH, "ModelGated"), pods=(pod(OF, end=ContainerEnd(137, None, "OOMKilled", "")),)),
         "HostMemoryExhausted",
         f"Job {FETCH.job_name} exceeded its memory limit: raise the one of container 'tool' in spec.tools"
         ".podTemplate"),
        (replace(failed(FETCH, "ModelGated"), pods=(pod(OF), tool_pod(OF, "", 3))), "ModelGated", "what was wrong"),
    ],
)  # fmt: skip
def test_a_failure_is_told_with_what_to_do(one: JobView, reason: str, said: str) -> None:
    found = prepared(OF, seen(one))
    assert found.trouble == Problem(reason, said, "Error", AGAIN)
    (report,) = found.reports
    assert (report.state, report.reason, report.message) == ("Blocked", reason, f"{said}; {AGAIN}")
    assert not found.claim_missing


def test_a_missing_claim_may_still_come() -> None:
    found = prepared(OF, seen(models=None))
    said = "PersistentVolumeClaim 'models' does not exist in this namespace: create it, or name another one"
    assert found.trouble == Problem("ClaimMissing", said, "Warning")
    assert found.claim_missing


def test_a_refused_recipe_waits_for_the_user() -> None:
    of = cached(weightQuantization=RECIPE)
    outcome = replace(plan(of), quantization_problems=("too wide", "too long"))
    found = prepared(of, seen(done(stages(of)["fetch"], fetched())), outcome)
    assert found.trouble == Problem("RecipeRefused", "spec.weightQuantization: too wide; too long", "Error")


def test_results_lie_beside_the_original_under_names_of_their_recipe() -> None:
    engine = {"type": "LMDeploy", "version": "0.9.2.post1", "conversion": "TurboMind"}
    model = {**HUB, "trustRemoteCode": True}
    of = cached(engine=engine, model=model)
    output = output_of(prepared(of, seen(done(stages(of)["fetch"], fetched()))))
    digest = stages(of)["convert"].digest[:8]
    assert (output, len(digest)) == (f"{DIRECTORY}--turbomind-{digest}", 8)


def test_a_result_of_an_image_lies_in_the_cache_by_the_images_name() -> None:
    def output(reference: str) -> str:
        model = {"image": {"reference": reference, "path": "weights"}}
        of = cached(model=model, weightQuantization=RECIPE)
        assert "fetch" not in stages(of)
        return output_of(prepared(of, seen()))

    first, second = output("registry.example/a:1"), output("registry.example/b:1")
    assert re.fullmatch(r"models/image--[0-9a-f]+/[0-9a-f]+--awq[-\w]*", first)
    assert first != second
    assert first == output("registry.example/a:1")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"recipe": {"bits": 4, "samples": 64}}, {"recipe": "bits 4, samples 64"}),
        ({"recipe": "by hand"}, {"recipe": "by hand"}),
        ({"recipe": "a" * 1025}, {"recipe": "a" * 1024}),
        ({"recipe": "a", "toolVersion": "0.18.0"}, {"recipe": "a", "toolVersion": "0.18.0"}),
        ({"recipe": "a", "toolVersion": 18}, {"recipe": "a"}),
        ({"recipe": "a", "quality": {"agreementPercent": 97, "other": 1}}, {"recipe": "a", "agreementPercent": 97}),
        ({"recipe": "a", "quality": {"error": "b" * 1024}},
         {"recipe": "a", "warning": f"the quality could not be measured: {'b' * 1024}"[:1024]}),
    ],
)  # fmt: skip
def test_a_quantization_is_told_in_the_recipes_words(more: dict[str, Any], told: dict[str, Any]) -> None:
    of = cached(weightQuantization=RECIPE)
    result = {**quantized(), "quality": {}, **more}
    found = prepared(of, seen(done(stages(of)["fetch"], fetched()), done(stages(of)["quantize"], result)))
    assert found.prepared is not None
    assert found.prepared.quantization == told


def test_a_job_that_a_queue_holds_back_does_not_run() -> None:
    (report,) = prepared(OF, seen(replace(job(FETCH), suspended=True))).reports
    assert (report.state, report.reason) == ("Running", "Fetching")
    assert report.message.startswith(f"Job {FETCH.job_name} is suspended")
    assert "Kueue" in report.message
    (report,) = prepared(OF, seen(job(FETCH))).reports
    assert report.message == f"Job {FETCH.job_name} runs"
