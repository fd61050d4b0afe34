"""`kubectl llm cache`: what lies on claims, who asks for it, and whose removal may be asked for."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
import yaml

from llm_operator.cli import cluster
from llm_operator.cli.cache_command import table
from llm_operator.cli.cached_models import Inventory, inventory
from llm_operator.cli.main import run
from tests.support.cached_models import COMMIT, DIRECTORY, ENDED, FETCHED, GATED, QUANTIZED, body, job

JSON = dict[str, Any]

RECIPE: JSON = {"weightQuantization": {}}
FULL = {"ok": False, "reason": "DiskFull", "message": "9 GB are missing", "directory": DIRECTORY, "bytes": 3 << 30}


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
