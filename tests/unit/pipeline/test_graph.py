"""A further artifact is a node, added here alone: a draft model is fetched and mounted beside the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from llm_operator.api.model import ModelSpec
from llm_operator.api.resource import LLMDeployment
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.model_volume import Mount, Prepared
from llm_operator.pipeline.artifacts import Artifact, fetched_artifact
from llm_operator.pipeline.graph import MODEL, NODES, Node, artifacts_of, branches
from llm_operator.pipeline.job_view import JobView
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Decision
from llm_operator.reconcile.rendered import prepared_of
from llm_operator.reconcile.situation import Situation
from llm_operator.reconcile.status import status_of
from tests.support.build import NOW, plan
from tests.support.model_jobs import (
    COMMIT,
    DIRECTORY,
    TOOLS,
    cached,
    done,
    failed,
    fetched,
    job,
    quantized,
    seen,
    stages,
)

DRAFT_COMMIT = "fedcba9876543210fedcba9876543210fedcba98"
DRAFT_DIRECTORY = f"models/hf--org--draft/{DRAFT_COMMIT}"


def draft_model(resource: LLMDeployment) -> ModelSpec:
    return ModelSpec.model_validate({"huggingFace": {"repository": "org/draft"}}, by_alias=True)


def draft_artifact(resource: LLMDeployment) -> Artifact | None:
    return fetched_artifact(resource, draft_model(resource)) if resource.spec.replicas == 2 else None


DRAFT = Node(draft_artifact, "Fetching", "Cached", branch="draft", model=draft_model)


@pytest.fixture(autouse=True)
def draft() -> Iterator[None]:
    """Objects with two replicas have a draft model."""
    before = dict(NODES)
    NODES["draft"] = DRAFT
    try:
        yield
    finally:
        del NODES["draft"]
        assert before == NODES


OF = cached(replicas=2)


def fetch_jobs(*states: str) -> list[JobView]:
    """The Jobs of model and draft model, each absent, running, done or failed."""
    found = []
    of_model = (artifacts_of(OF)[0], fetched())
    of_draft = (artifacts_of(OF)[1], fetched(directory=DRAFT_DIRECTORY, revision=DRAFT_COMMIT))
    for (artifact, result), state in zip((of_model, of_draft), states, strict=True):
        if state == "done":
            found.append(done(artifact, result))
        elif state == "running":
            found.append(job(artifact))
        elif state == "failed":
            found.append(failed(artifact, "ModelNotFound"))
    return found


def decided(*states: str, **claims: ClaimFacts | None) -> Decision:
    return decide(OF, seen(*fetch_jobs(*states), **claims), plan(OF), TOOLS)


def written(decision: Decision) -> list[str]:
    return [apply.body["metadata"]["name"] for apply in decision.applies if apply.body["kind"] == "Job"]


def test_both_are_fetched_at_the_same_time() -> None:
    first, second = decided("absent", "absent").applies
    assert [first.body["metadata"]["name"], second.body["metadata"]["name"]] == [
        one.job_name for one in artifacts_of(OF)
    ]
    arguments = [one.body["spec"]["template"]["spec"]["containers"][0]["args"] for one in (first, second)]
    assert [words[words.index("--repository") + 1] for words in arguments] == ["org/model", "org/draft"]


@pytest.mark.parametrize(
    ("states", "missing"),
    [
        (("done", "absent"), [1]),
        (("absent", "done"), [0]),
        (("running", "absent"), [1]),
        (("done", "running"), []),
        (("running", "done"), []),
        (("failed", "absent"), [1]),
        (("failed", "done"), []),
    ],
)
def test_nothing_serves_before_both_are_there(states: tuple[str, str], missing: list[int]) -> None:
    decision = decided(*states)
    assert decision.held
    assert decision.template is None
    assert written(decision) == [artifacts_of(OF)[index].job_name for index in missing]


def test_both_are_mounted() -> None:
    template = decided("done", "done").template
    assert template is not None
    pod = template["spec"]
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    own, beside = mounts["/models/model"], mounts["/artifacts/draft"]
    assert own == {"name": "model", "mountPath": "/models/model", "subPath": DIRECTORY, "readOnly": True}
    assert beside == {"name": "model", "mountPath": "/artifacts/draft", "subPath": DRAFT_DIRECTORY, "readOnly": True}
    # One claim is one volume, however many of its directories are mounted.
    of_claims = [one for one in pod["volumes"] if "persistentVolumeClaim" in one]
    assert of_claims == [{"name": "model", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}]


def test_the_template_says_so_when_the_jobs_are_gone() -> None:
    prepared = prepared_of(decided("done", "done").template)
    assert prepared is not None
    assert (prepared.directory, prepared.revision) == (DIRECTORY, COMMIT)
    assert prepared.beside == (Mount("draft", "models", DRAFT_DIRECTORY, single_node=True),)
    assert Prepared.from_json(prepared.to_json()) == prepared


def test_the_model_goes_through_its_own_branch() -> None:
    of = cached(replicas=2, weightQuantization={"method": "AWQ"})
    jobs = [done(stages(of)["quantize"], quantized())]
    jobs += [
        replace(one, name=artifact.job_name)
        for one, artifact in zip(fetch_jobs("done", "done"), _fetches(of), strict=True)
    ]
    template = decide(of, seen(*jobs), plan(of), TOOLS).template
    prepared = prepared_of(template)
    assert prepared is not None
    assert prepared.format == "AWQ"
    assert prepared.directory.startswith(f"{DIRECTORY}--awq")
    assert [one.directory for one in prepared.beside] == [DRAFT_DIRECTORY]


def _fetches(of: LLMDeployment) -> list[Artifact]:
    return [artifact for artifact in artifacts_of(of) if artifact.stage == "fetch"]


def test_an_object_that_needs_none_is_rendered_as_without_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    of = cached()
    observed = seen(done(stages(of)["fetch"], fetched()))
    with_node = decide(of, observed, plan(of), TOOLS)
    monkeypatch.delitem(NODES, "draft")
    assert with_node == decide(of, observed, plan(of), TOOLS)
    monkeypatch.setitem(NODES, "draft", DRAFT)
    assert with_node.template is not None
    assert "beside" not in with_node.template["metadata"]["annotations"]["llm-operator.dev/model"]


def test_without_a_cache_there_is_no_second_artifact() -> None:
    of = cached(replicas=2, cache=None)
    assert artifacts_of(of) == ()


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        (("done", "running"), "Fetching"),
        (("running", "done"), "Fetching"),
        (("done", "failed"), "ModelNotFound"),
        (("failed", "running"), "ModelNotFound"),
        (("done", "done"), "Cached"),
    ],
)
def test_the_condition_tells_the_one_that_is_furthest_behind(states: tuple[str, str], reason: str) -> None:
    observed = seen(*fetch_jobs(*states))
    situation = Situation(OF, observed, decide(OF, observed, plan(OF), TOOLS), plan(OF))
    found = {condition.type: condition.reason for condition in status_of(situation, NOW).conditions}
    assert found["ModelCached"] == reason


def test_a_result_of_another_repository_is_not_mounted() -> None:
    model, other = artifacts_of(OF)
    decision = decide(OF, seen(done(model, fetched()), done(other, fetched())), plan(OF), TOOLS)
    assert decision.template is None
    assert decision.preparation is not None
    assert decision.preparation.trouble is not None
    assert decision.preparation.trouble.reason == "JobFailed"


def test_the_claims_of_another_cache_are_volumes_of_their_own() -> None:
    prepared = Prepared("models", DIRECTORY, beside=(Mount("draft", "drafts", "a"), Mount("adapter", "drafts", "b")))
    assert prepared.claims == (("models", False), ("drafts", False))


def test_the_model_is_the_first_branch() -> None:
    assert list(branches()) == [MODEL, "draft"]
