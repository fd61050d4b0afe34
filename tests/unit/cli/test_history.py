"""`kubectl llm history` and the revision in `status`, by what an API server answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_operator.cli import history
from llm_operator.manifests import common
from llm_operator.manifests.revision import content_of, revision
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.plan_record import record
from tests.support.build import plan, resource
from tests.unit.cli.fake_cluster import FakeCluster, llm, ran

JSON = dict[str, Any]
REVISIONS = "/apis/apps/v1/namespaces/team/controllerrevisions"
DEPLOYMENT = "/apis/apps/v1/namespaces/team/deployments/qwen"


def rendered(number: int, **spec: Any) -> JSON:
    of = resource(**spec)
    template = decide(of, Observed(), plan(of)).template
    assert template is not None
    body = revision(of, number, content_of(template, record(plan(of))))
    body["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z"}
    body["metadata"]["ownerReferences"][0]["uid"] = "uid-of-qwen"
    return json.loads(json.dumps(body))  # type: ignore[no-any-return]


@pytest.fixture
def space(tmp_path: Path) -> FakeCluster:
    body = llm("qwen")
    body["metadata"]["uid"] = "uid-of-qwen"
    return FakeCluster(tmp_path, objects={"qwen": body})


def answer(space: FakeCluster, *items: JSON, runs: JSON | None = None) -> None:
    space.answers[REVISIONS] = {"kind": "ControllerRevisionList", "metadata": {}, "items": list(items)}
    if runs is not None:
        meta = {"name": "qwen", "annotations": {history.ANNOTATION_REVISION: runs["metadata"]["name"]}}
        space.answers[DEPLOYMENT] = {"kind": "Deployment", "metadata": meta}


def test_the_table_says_what_each_revision_changed(space: FakeCluster) -> None:
    first, second = rendered(1), rendered(2, contextLength=4096)
    third = rendered(3, contextLength=4096, engine={"type": "VLLM", "env": [{"name": "A", "value": "b"}]})
    theirs = rendered(9)
    theirs["metadata"]["ownerReferences"][0]["uid"] = "somebody"
    answer(space, third, first, theirs, second, runs=second)
    code, out, error = ran(space, "history", "qwen")
    assert (code, error) == (0, "")
    head, *lines = out.splitlines()
    assert head.split() == list(history.HEAD)
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert [" yes " in line for line in lines] == [False, True, False]
    assert "VLLM 0." in lines[0]
    assert lines[0].endswith("first")
    assert lines[1].endswith("options --max-model-len")
    assert lines[2].endswith("variables A")
    code, out, _ = ran(space, "history", "qwen", "-o", "json")
    found = json.loads(out)
    assert (found["running"], len(found["items"])) == (second["metadata"]["name"], 3)
    _, out, _ = ran(space, "status", "qwen")
    assert f"{second['metadata']['name']}; kubectl llm history qwen" in out


def test_without_revisions_it_says_why(space: FakeCluster) -> None:
    answer(space)
    code, out, _ = ran(space, "history", "qwen")
    assert (code, out.startswith("qwen: no revision: ")) == (0, True)
    assert ran(space, "history", "qwem")[0] == 2


@pytest.mark.parametrize("data", [None, {}, {"template": 1}, {"template": {"spec": {"containers": [1]}}, "plan": []}])
def test_what_somebody_else_wrote_does_no_harm(space: FakeCluster, data: Any) -> None:
    answer(space, {**rendered(1), "data": data, "revision": "x"}, rendered(2))
    code, out, _ = ran(space, "history", "qwen")
    assert (code, len(out.splitlines())) == (0, 3)


def test_names_are_those_of_the_operator() -> None:
    for name in ("ANNOTATION_REVISION", "ANNOTATION_ENGINE", "ANNOTATION_MODEL", "LABEL_DEPLOYMENT"):
        assert getattr(history, name) == getattr(common, name)
