"""What the Jobs of a namespace say of the models in its caches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.cli.cache_command import table
from llm_operator.cli.cached_models import CachedModel, bytes_of, inventory, prunable, totals
from llm_operator.manifests.common import compact_json
from llm_operator.pipeline.artifacts import quantized_artifact
from tests.support.cached_models import COMMIT, DIRECTORY, ENDED, FETCHED, GATED, QUANTIZED, body, job, removal

RECIPE: JSON = {"weightQuantization": {}}
LEFT = compact_json({"directory": DIRECTORY, "bytes": 1 << 30})
FULL = {"ok": False, "reason": "DiskFull", "message": "9 GB are missing", "directory": DIRECTORY, "bytes": 3 << 30}
NOW = datetime(2026, 2, 1, tzinfo=UTC)
JSON = dict[str, Any]


def only(jobs: Sequence[JSON], *objects: JSON) -> CachedModel:
    (model,) = inventory(jobs, objects).models
    return model


def test_a_model_is_told_with_everything_known_of_it() -> None:
    model = only([job(body(), result=FETCHED, unused_since=ENDED)])
    assert model == CachedModel(
        namespace="team",
        claim="models",
        job=job(body())["metadata"]["name"],
        resource_version="7",
        directory=DIRECTORY,
        source={"kind": "huggingFace", "repository": "org/model", "claimName": "models"},
        revision=COMMIT,
        bytes=5 << 30,
        state="Ready",
        reason="",
        message="",
        used_by=(),
        unused_since=ENDED,
        to_be_removed=False,
    )
    assert model.unused


def test_whoever_asks_for_a_stage_uses_also_what_it_was_made_from() -> None:
    quantized = body("quantized", **RECIPE)
    jobs = [job(quantized, result=FETCHED), job(quantized, "quantize", QUANTIZED)]
    found = inventory(jobs, [quantized, body("plain")])
    assert [(model.directory, model.used_by) for model in found.models] == [
        (DIRECTORY, ("plain", "quantized")),
        (QUANTIZED["directory"], ("quantized",)),
    ]


def test_objects_of_another_namespace_recipe_or_about_to_go_use_nothing() -> None:
    jobs = [job(body(**RECIPE), "quantize", QUANTIZED)]
    other = body("other", weightQuantization={"calibration": {"samples": 16}})
    going = body("going", **RECIPE)
    going["metadata"]["deletionTimestamp"] = ENDED
    model = only(jobs, body("elsewhere", "other-team", **RECIPE), other, going)
    assert model.used_by == ()


def test_a_branch_and_its_commit_are_one_directory() -> None:
    commit = body("commit", model={"huggingFace": {"repository": "org/model", "revision": COMMIT}})
    jobs = [job(body("branch"), result=FETCHED), job(commit, result=FETCHED)]
    found = inventory(jobs, [commit])
    assert len(found.models) == 2
    assert {model.used_by for model in found.models} == {("commit",)}
    (total,) = totals(found.models)
    assert (total.models, total.bytes, total.unused_models) == (1, 5 << 30, 0)
    assert prunable(found, now=NOW, older_than=None) == []
    both = prunable(inventory(jobs, []), now=NOW, older_than=None)
    assert len(both) == 2
    assert bytes_of(both) == 5 << 30


@pytest.mark.parametrize(
    ("raw", "state", "reason"),
    [
        (job(body()), "Fetching", ""),
        (job(body(**RECIPE), "quantize"), "Quantizing", ""),
        (job(body(), result=GATED), "Failed", "ModelGated"),
        (job(body(), condition="Failed"), "Failed", "JobFailed"),
        # Complete, and the operator has not read yet what it told.
        (job(body(), condition="Complete"), "Fetching", ""),
        # Words of another program in the annotation are no result.
        (job(body(), condition="Complete", result={"ok": False}), "Failed", "ToolFailed"),
    ],
)
def test_the_state_of_a_job(raw: JSON, state: str, reason: str) -> None:
    model = only([raw], body())
    assert (model.state, model.reason, model.directory) == (state, reason, "")
    assert not model.unused


@pytest.mark.parametrize(
    ("raw", "reason", "size"),
    [
        (job(body(), result=FULL), "DiskFull", 3 << 30),
        (job(body(), result={"ok": False, "reason": "Interrupted", "directory": DIRECTORY}), "Interrupted", None),
        # Killed without a word; an earlier pod had told.
        (job(body(), condition="Failed", incomplete=LEFT), "JobFailed", 1 << 30),
        # An object went, and the pods still end.
        (job(body(), incomplete=LEFT, unused_since=ENDED), "", 1 << 30),
    ],
)
def test_what_is_half_done(raw: JSON, reason: str, size: int | None) -> None:
    model = only([raw])
    assert (model.state, model.reason, model.bytes) == ("Incomplete", reason, size)
    assert (model.directory, model.unused) == (f"{DIRECTORY}.partial", True)
    found = inventory([raw], [])
    assert totals(found.models)[0].unused_bytes == (size or 0)
    assert prunable(found, now=NOW, older_than=None) == [model]
    # Somebody waits for it.
    waiting = inventory([raw], [body()])
    assert prunable(waiting, now=NOW, older_than=None) == []
    assert waiting.models[0].used_by == ("demo",)


def test_what_is_being_continued_is_no_leftover() -> None:
    model = only([job(body(), incomplete=LEFT)], body())
    assert (model.state, model.directory, model.bytes) == ("Fetching", f"{DIRECTORY}.partial", 1 << 30)


def test_a_beginning_and_the_whole_are_two_places() -> None:
    commit = body(model={"huggingFace": {"repository": "org/model", "revision": COMMIT}})
    found = inventory([job(body(), result=FULL), job(commit, result=FETCHED)], [commit])
    assert [(model.state, model.used_by) for model in found.models] == [("Ready", ("demo",)), ("Incomplete", ())]
    assert [model.directory for model in prunable(found, now=NOW, older_than=None)] == [f"{DIRECTORY}.partial"]
    assert [(total.models, total.bytes) for total in totals(found.models)] == [(2, 8 << 30)]


def test_progress_comes_from_an_object_that_waits_for_it() -> None:
    waiting = body()
    waiting["status"] = {
        "observedGeneration": 1,
        "conditions": [],
        "progress": {"stage": "Fetching", "summary": "Fetching 41 % 120.0 MB/s 1m12s left", "percent": 41},
    }
    model = only([job(waiting)], waiting, body("other"))
    assert (model.state, model.message) == ("Fetching", "Fetching 41 % 120.0 MB/s 1m12s left")
    assert "Fetching 41 % 120.0 MB/s 1m12s left" in table([model])


@pytest.mark.parametrize(("condition", "reason"), [(None, ""), ("Failed", "JobFailed")])
def test_what_is_being_removed_is_not_removed_again(condition: str | None, reason: str) -> None:
    found = inventory([job(body(), result=FETCHED), removal(body(), condition=condition)], [])
    (model,) = found.models
    assert (model.state, model.reason) == ("Removing", reason)
    assert prunable(found, now=NOW, older_than=None) == []


def test_looking_at_files_caches_nothing_and_a_job_that_goes_is_gone() -> None:
    on_claim = body(model={"persistentVolumeClaim": {"claimName": "models"}})
    going = job(body(), result=FETCHED)
    going["metadata"]["deletionTimestamp"] = ENDED
    assert inventory([job(on_claim, "inspect"), going], []).models == ()


def test_the_claim_of_a_job_that_an_object_owns_is_the_one_it_writes_to() -> None:
    raw = job(body(), result=FETCHED)
    raw["metadata"]["ownerReferences"] = [{"kind": "LLMDeployment", "name": "demo", "uid": "u"}]
    assert only([raw]).claim == "models"


@pytest.mark.parametrize(
    ("of", "stage", "words"),
    [
        (body(), "fetch", "huggingFace org/model"),
        (
            body(model={"modelScope": {"repository": "org/model", "revision": "v1"}}, **RECIPE),
            "quantize",
            "modelScope org/model@v1, AWQ W4 g128 WikiText2",
        ),
        (
            body(model={"persistentVolumeClaim": {"claimName": "originals", "path": "a/b"}}, **RECIPE),
            "quantize",
            "persistentVolumeClaim originals/a/b, AWQ W4 g128 WikiText2",
        ),
        (
            body(model={"image": {"reference": "registry/model:1"}}, **RECIPE),
            "quantize",
            "image registry/model:1, AWQ W4 g128 WikiText2",
        ),
        (
            body(engine={"type": "LMDeploy", "version": "0.9.2.post1", "conversion": "TurboMind"}, **RECIPE),
            "convert",
            "huggingFace org/model, AWQ W4 g128 WikiText2, TurboMind workspace, tensor parallelism 1",
        ),
    ],
)
def test_the_source_in_words(of: JSON, stage: str, words: str) -> None:
    raw = (
        job(of, stage, QUANTIZED) if of["spec"]["model"].keys() & {"huggingFace", "modelScope"} else job_from_claim(of)
    )
    assert words in table([only([raw])])


def job_from_claim(of: JSON) -> JSON:
    """The Job that quantizes what lies on another claim or in an image."""
    raw = job(body(**RECIPE), "quantize", QUANTIZED)
    artifact = quantized_artifact(LLMDeployment.parse(of))
    assert artifact is not None
    raw["metadata"]["annotations"]["llm-operator.dev/source"] = compact_json(artifact.about)
    return raw


def test_an_annotation_that_somebody_broke_hides_no_model() -> None:
    raw = job(body(), result=FETCHED)
    raw["metadata"]["annotations"]["llm-operator.dev/source"] = "{"
    assert DIRECTORY in table([only([raw])])


@pytest.mark.parametrize(
    ("since", "older_than", "due"),
    [
        (ENDED, None, True),
        (ENDED, timedelta(days=30), True),
        (ENDED, timedelta(days=31), True),
        (ENDED, timedelta(days=32), False),
        # The operator has not seen it unused yet.
        ("", timedelta(seconds=0), False),
        ("", None, True),
        ("yesterday", timedelta(days=1), False),
        ("2026-01-01T00:00:00", timedelta(days=1), False),
    ],
)
def test_only_what_was_unused_for_so_long_is_due(since: str, older_than: timedelta | None, due: bool) -> None:
    found = inventory([job(body(), result=FETCHED, unused_since=since)], [])
    assert bool(prunable(found, now=NOW, older_than=older_than)) == due


def test_a_directory_goes_when_both_that_filled_it_are_due() -> None:
    commit = body(model={"huggingFace": {"repository": "org/model", "revision": COMMIT}})
    old, new = (
        job(body(), result=FETCHED, unused_since=ENDED),
        job(commit, result=FETCHED, unused_since="2026-01-31T00:00:00Z"),
    )
    assert prunable(inventory([old, new], []), now=NOW, older_than=timedelta(days=30)) == []


def test_nothing_is_due_where_an_object_cannot_be_read() -> None:
    broken = body("broken", engine={"type": "Unknown"})
    found = inventory([job(body(), result=FETCHED), job(body(namespace="other"), result=FETCHED)], [broken])
    assert [(namespace, name) for namespace, name, _ in found.unreadable] == [("team", "broken")]
    assert "spec.engine.type" in found.unreadable[0][2]
    assert [model.namespace for model in prunable(found, now=NOW, older_than=None)] == ["other"]


def test_a_mark_on_what_is_used_again_is_seen() -> None:
    model = only([job(body(), result=FETCHED, remove="true")], body("again"))
    assert "Ready, to be removed once unused  again" in table([model])
    assert not model.unused
