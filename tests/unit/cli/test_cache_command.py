"""`kubectl llm cache`: what lies on claims, who asks for it, and whose removal may be asked for."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from llm_operator.api.resource import LLMDeployment
from llm_operator.cli import cluster
from llm_operator.cli.cache_command import table
from llm_operator.cli.cached_models import CachedModel, Inventory, bytes_of, inventory, prunable, totals
from llm_operator.cli.main import run
from llm_operator.manifests.common import compact_json
from llm_operator.pipeline.artifacts import quantized_artifact
from tests.support.cached_models import COMMIT, DIRECTORY, ENDED, FETCHED, GATED, QUANTIZED, body, job, removal

JSON = dict[str, Any]

NOW = datetime(2026, 2, 1, tzinfo=UTC)
RECIPE: JSON = {"weightQuantization": {}}
LEFT = compact_json({"directory": DIRECTORY, "bytes": 1 << 30})
FULL = {"ok": False, "reason": "DiskFull", "message": "9 GB are missing", "directory": DIRECTORY, "bytes": 3 << 30}


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


def test_a_wide_table_has_whole_commits_and_jobs() -> None:
    models = inventory([job(body(), result=FETCHED)], []).models
    head, row, *_ = table(models, wide=True).splitlines()
    assert head.split()[-1] == "JOB"
    assert row.split()[-1] == models[0].job
    assert COMMIT in row


def test_a_narrow_terminal_keeps_names_sizes_and_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    models = inventory([job(body(), result=FETCHED)], []).models
    lines = table(models).splitlines()
    assert all(len(line) < 80 for line in lines)
    assert {"NAMESPACE", "CLAIM", "SIZE", "STATE"} <= set(lines[0].split())
    assert max(map(len, table(models, wide=True).splitlines())) > 80


def test_the_table() -> None:
    quantized = body("quantized", **RECIPE)
    jobs = [
        job(quantized, result=FETCHED),
        job(quantized, "quantize", QUANTIZED),
        job(body(namespace="other"), result={**FETCHED, "bytes": 1000}, unused_since=ENDED, remove="true"),
        job(body(namespace="third"), result=GATED),
        job(body(namespace="third", **RECIPE), result=FULL, unused_since=ENDED),
    ]
    lines = table(inventory(jobs, [quantized]).models).splitlines()
    cells = [line.split("  ") for line in lines]
    assert [[cell.strip() for cell in row if cell] for row in cells] == [
        ["NAMESPACE", "CLAIM", "DIRECTORY", "SOURCE", "REVISION", "SIZE", "STATE", "USED BY", "UNUSED SINCE"],
        [
            *("other", "models", DIRECTORY, "huggingFace org/model", COMMIT[:12], "1000 B"),
            *("Ready, to be removed", "-", ENDED),
        ],
        ["team", "models", DIRECTORY, "huggingFace org/model", COMMIT[:12], "5.00 GiB", "Ready", "quantized", "-"],
        [
            *("team", "models", QUANTIZED["directory"], "huggingFace org/model, AWQ W4 g128 WikiText2"),
            *(COMMIT[:12], "1.50 GiB", "Ready", "quantized", "-"),
        ],
        ["third", "models", "-", "huggingFace org/model", "-", "-", "Failed: ModelGated", "-", "-"],
        [
            *("third", "models", f"{DIRECTORY}.partial", "huggingFace org/model", "-", "3.00 GiB"),
            *("Incomplete: DiskFull", "-", ENDED),
        ],
        [],
        ["other/models: 1 model, 1000 B; 1 unused, 1000 B"],
        ["team/models: 2 models, 6.50 GiB"],
        ["third/models: 1 model, 3.00 GiB; 1 unused, 3.00 GiB"],
    ]


def test_a_mark_on_what_is_used_again_is_seen() -> None:
    model = only([job(body(), result=FETCHED, remove="true")], body("again"))
    assert "Ready, to be removed once unused  again" in table([model])
    assert not model.unused


def test_an_empty_cache() -> None:
    assert table(()) == "No models."
    assert inventory([], [body()]) == Inventory(())


class FakeCluster:
    """Jobs and objects in memory, in the place of an API server."""

    namespace = "team"

    def __init__(self, jobs: list[JSON], objects: list[JSON]) -> None:
        self._jobs, self._objects = jobs, objects
        self.marked: list[tuple[str, str, str, JSON]] = []
        self.asked: list[str | None] = []
        self.changed = False

    def jobs(self, namespace: str | None, selector: str) -> list[JSON]:
        assert selector == (
            "app.kubernetes.io/managed-by=llm-operator,llm-operator.dev/stage in (fetch, quantize, convert, remove)"
        )
        self.asked.append(namespace)
        return self._jobs

    def objects(self, namespace: str | None) -> list[JSON]:
        assert self.asked == [namespace], "Jobs first: an object that came meanwhile counts as a user"
        return self._objects

    def list(self, prefix: str, plural: str, namespace: str | None, selector: str = "") -> list[JSON]:
        """No Lease, and no pod of an operator."""
        return []

    def annotate_job(self, namespace: str, name: str, resource_version: str, annotations: JSON) -> bool:
        self.marked.append((namespace, name, resource_version, annotations))
        return not self.changed


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    quantized = body("quantized", **RECIPE)
    old = body("old", weightQuantization={"calibration": {"samples": 16}})
    result = {**QUANTIZED, "directory": f"{DIRECTORY}--old"}
    jobs = [
        job(quantized, result=FETCHED),
        job(quantized, "quantize", QUANTIZED),
        job(old, "quantize", result, unused_since=ENDED),
    ]
    found = FakeCluster(jobs, [quantized])
    monkeypatch.setattr(cluster, "connect", lambda kubeconfig, context: found)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return found


def terminal(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", stdin)


def test_prune_marks_what_no_object_asks_for(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "prune", "--yes", "--older-than", "1d"]) == 0
    ((namespace, name, version, annotations),) = fake.marked
    assert (namespace, version, annotations) == ("team", "7", {"llm-operator.dev/remove": "true"})
    assert name.startswith("llm-quantize-")
    shown = capsys.readouterr()
    assert "no operator runs in this cluster" in shown.err
    assert shown.out.splitlines()[-1] == (
        "Requested the removal of 1 model, 1.50 GiB: the operator removes the files as soon as no pod mounts them."
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--dry-run"], 0, "Would request the removal of 1 model, 1.50 GiB. Nothing was changed."),
        (["--yes", "--older-than", "99999w"], 0, "Nothing to remove: no model is unused for that long."),
        ([], 2, "kubectl llm cache: stdin is not a terminal: confirm with --yes, or preview with --dry-run"),
    ],
)
def test_prune_marks_nothing(
    fake: FakeCluster, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert run(["cache", "prune", *arguments]) == code
    assert fake.marked == []
    output, errors = capsys.readouterr()
    assert (errors if code == 2 else output).splitlines()[-1] == said


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("yes\n", 0), ("\n", 1), ("n\n", 1), ("", 1)])
def test_prune_asks(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    terminal(monkeypatch, answer)
    assert run(["cache", "prune"]) == code
    assert bool(fake.marked) == (code == 0)


def test_what_changed_meanwhile_is_left_alone(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    fake.changed = True
    assert run(["cache", "prune", "--yes"]) == 0
    output, errors = capsys.readouterr()
    assert "has changed meanwhile and was left alone" in errors
    assert "Requested the removal of 0 models, 0 B" in output


def test_what_was_asked_for_before_is_not_asked_for_again(
    fake: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    fake._jobs[-1]["metadata"]["annotations"]["llm-operator.dev/remove"] = "true"
    assert run(["cache", "prune", "--yes"]) == 0
    assert fake.marked == []
    assert capsys.readouterr().out.splitlines() == [
        "The removal of 1 model, 1.50 GiB was requested before.",
        "Nothing more to remove: no other model is unused.",
    ]


@pytest.mark.parametrize(("arguments", "namespace"), [([], "team"), (["-n", "x"], "x"), (["-A"], None)])
def test_the_namespace(fake: FakeCluster, arguments: list[str], namespace: str | None) -> None:
    assert run(["cache", "list", *arguments]) == 0
    assert fake.asked == [namespace]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_list_for_programs(fake: FakeCluster, capsys: pytest.CaptureFixture[str], form: str) -> None:
    assert run(["cache", "list", "--unused", "-o", form]) == 0
    text = capsys.readouterr().out
    told = json.loads(text) if form == "json" else yaml.safe_load(text)
    (item,) = told["items"]
    assert (item["bytes"], item["usedBy"], item["unusedSince"]) == (3 << 29, [], ENDED)
    assert (item["state"], item["removalRequested"], item["revision"]) == ("Ready", False, COMMIT)
    assert item["source"]["recipe"] == "AWQ W4 g128 WikiText2"
    assert told["claims"] == [
        {
            "namespace": "team",
            "claim": "models",
            "models": 1,
            "bytes": 3 << 29,
            "unusedModels": 1,
            "unusedBytes": 3 << 29,
        }
    ]


def test_an_unreadable_object_is_told(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    fake._objects.append(body("broken", engine={"type": "Unknown"}))
    assert run(["cache", "prune", "--yes"]) == 0
    assert fake.marked == []
    assert (
        "LLMDeployment team/broken cannot be read, so the models that it uses are not known" in capsys.readouterr().err
    )


@pytest.mark.parametrize("text", ["", "30", "d", "1.5d", "-1d", "1y", "1000000d", "1d "])
def test_an_age_that_is_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(["cache", "prune", f"--older-than={text}"])
    assert left.value.code == 2
    assert "is not a valid age: expected a number and s, m, h, d or w, such as 30d" in capsys.readouterr().err
