"""Revisions on a real API server: what an engine was rendered as outlives the operator, an upgrade and vandals."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.control_plane import ControlPlane
from llm_operator.api import API_VERSION, KIND
from llm_operator.manifests.common import ANNOTATION_PLAN, ANNOTATION_REVISION, ANNOTATION_TEMPLATE, MANAGER
from llm_operator.manifests.revision import REVISION, content_of, digest_of, revision_name
from tests.cluster.helpers import JSON, Space
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.support.older import template_text
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
numbers = itertools.count()
SPACES = 16


@pytest.fixture(scope="module")
def run(cluster_control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorUnderTest]:
    cluster_control_plane.fake_gpu_node("revisions-1", gpus=64)
    log = tmp_path_factory.mktemp("operator") / "log"
    spaces = [f"revisions-{number}" for number in range(SPACES)]
    with OperatorUnderTest(cluster_control_plane.kubeconfig, *spaces, log=log) as process:
        process.wait_ready()
        yield process
    assert "Traceback" not in log.read_text()


@pytest.fixture
def space(cluster_control_plane: ControlPlane) -> Space:
    return Space(cluster_control_plane, f"revisions-{next(numbers)}")


def revisions(space: Space, of: str = "demo") -> dict[int, JSON]:
    every = space.plane.request("GET", space.path(REVISION))["items"]
    items = [item for item in every if item["metadata"]["name"].startswith(f"{of}-")]
    found = {item["revision"]: item for item in items}
    assert len(found) == len(items), "two with one number"
    return found


def deployment(space: Space, name: str = "demo") -> JSON:
    live = space.get("Deployment", name)
    assert live is not None
    return live


def runs(space: Space) -> str:
    name: str = deployment(space)["metadata"]["annotations"][ANNOTATION_REVISION]
    return name


def pods(space: Space) -> set[str]:
    items = space.plane.request("GET", space.path("Pod"))["items"]
    return {item["metadata"]["uid"] for item in items if "deletionTimestamp" not in item["metadata"]}


def serve(space: Space, **spec: Any) -> None:
    space.create(llm("demo", **spec))
    eventually(lambda: space.is_ready("demo"))


def test_each_rendering_is_a_revision_and_old_ones_go(run: OperatorUnderTest, space: Space) -> None:
    serve(space, revisionHistoryLimit=2)
    (first,) = revisions(space).values()
    owner = first["metadata"]["ownerReferences"][0]
    body = space.get(KIND, "demo")
    assert body is not None
    assert (owner["uid"], owner["controller"]) == (body["metadata"]["uid"], True)
    live = deployment(space)
    assert runs(space) == first["metadata"]["name"]
    assert ANNOTATION_TEMPLATE not in live["metadata"]["annotations"]
    assert first["data"]["inputs"] == live["spec"]["template"]["metadata"]["labels"]["llm-operator.dev/inputs"]
    for number in range(2, 6):
        space.patch("demo", {"spec": {"contextLength": 1024 * number}})
        eventually(lambda number=number: runs(space).startswith(f"demo-{number}-"))  # type: ignore[misc]
    eventually(lambda: set(revisions(space)) == {3, 4, 5}, why=lambda: str(set(revisions(space))))
    assert revisions(space)[5]["data"]["template"]["spec"]["containers"][0]["args"] != first["data"]["template"]
    # Scaling is no revision, and nothing is written when nothing changes.
    space.patch("demo", {"spec": {"replicas": 2}})
    eventually(lambda: deployment(space)["spec"]["replicas"] == 2 and space.is_ready("demo"))
    assert set(revisions(space)) == {3, 4, 5}


def older(space: Space) -> None:
    """Make the Deployment what an operator before revisions had made, and take the revisions away."""
    (kept,) = revisions(space).values()
    live = deployment(space)
    meta = live["metadata"]
    annotations = {
        **{name: text for name, text in meta["annotations"].items() if name != ANNOTATION_REVISION},
        ANNOTATION_TEMPLATE: template_text(kept["data"]["template"]),
        ANNOTATION_PLAN: json.dumps(kept["data"]["plan"]),
    }
    annotations.pop("deployment.kubernetes.io/revision")
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **{name: meta[name] for name in ("name", "namespace", "labels", "ownerReferences")},
            "annotations": annotations,
        },
        "spec": {
            **{name: live["spec"][name] for name in ("replicas", "selector", "strategy", "progressDeadlineSeconds")},
            "revisionHistoryLimit": 3,
            "template": kept["data"]["template"],
        },
    }
    path = f"{space.path('Deployment', 'demo')}?fieldManager={MANAGER}&force=true"
    space.plane.request("PATCH", path, body, "application/apply-patch+yaml")
    live = deployment(space)
    # A creation of ours counts as an update: what it set is let go as in an apply of the older operator.
    if ANNOTATION_REVISION in live["metadata"]["annotations"]:
        space.patch("demo", {"metadata": {"annotations": {ANNOTATION_REVISION: None}}}, "Deployment")
    space.delete(REVISION, kept["metadata"]["name"])


def test_an_upgrade_keeps_what_runs_and_a_restart_writes_nothing(
    cluster_control_plane: ControlPlane, tmp_path: Path
) -> None:
    """An object of an operator that kept the template in an annotation, rendered as no operator of today would."""
    plane = cluster_control_plane
    plane.fake_gpu_node("revisions-2", gpus=8)
    space = Space(plane, "revisions-upgrade")
    log = tmp_path / "log"
    with OperatorUnderTest(plane.kubeconfig, space.name, log=log) as first:
        first.wait_ready()
        serve(space)
        space.wait_quiet(first)
    older(space)
    assert revisions(space) == {}
    before, old = deployment(space), pods(space)
    assert ANNOTATION_TEMPLATE in before["metadata"]["annotations"]
    with OperatorUnderTest(plane.kubeconfig, space.name, log=log) as upgraded:
        upgraded.wait_ready()
        eventually(lambda: ANNOTATION_REVISION in deployment(space)["metadata"]["annotations"])
        space.wait_quiet(upgraded)
        after = deployment(space)
        assert after["spec"] == before["spec"]
        # The API server counts a changed annotation of a Deployment as a generation; its template is the same.
        assert pods(space) == old
        assert ANNOTATION_TEMPLATE not in after["metadata"]["annotations"]
        assert ANNOTATION_PLAN not in after["metadata"]["annotations"]
        (kept,) = revisions(space).values()
        assert kept["data"]["template"] == json.loads(before["metadata"]["annotations"][ANNOTATION_TEMPLATE])
        assert kept["data"]["plan"] == json.loads(before["metadata"]["annotations"][ANNOTATION_PLAN])
    with OperatorUnderTest(plane.kubeconfig, space.name, log=log) as again:
        again.wait_ready()
        space.wait_quiet(again)
        assert again.writes() == 0
        space.patch("demo", {"spec": {"replicas": 2}})
        eventually(lambda: deployment(space)["spec"]["replicas"] == 2)
        assert deployment(space)["spec"]["template"] == before["spec"]["template"]
    assert old <= pods(space)
    assert "Traceback" not in log.read_text()


def test_a_revision_that_somebody_deletes_is_made_again_as_it_was(run: OperatorUnderTest, space: Space) -> None:
    serve(space)
    (kept,) = revisions(space).values()
    old, generation = pods(space), deployment(space)["metadata"]["generation"]
    space.delete(REVISION, kept["metadata"]["name"])
    eventually(
        lambda: [one["metadata"]["uid"] for one in revisions(space).values()] not in ([], [kept["metadata"]["uid"]])
    )
    (again,) = revisions(space).values()
    assert (again["data"], again["metadata"]["name"]) == (kept["data"], kept["metadata"]["name"])
    # The label by which it is watched comes back, too.
    space.patch(again["metadata"]["name"], {"metadata": {"labels": None}}, REVISION)
    eventually(lambda: "app.kubernetes.io/managed-by" in (revisions(space)[1]["metadata"].get("labels") or {}))
    assert (pods(space), deployment(space)["metadata"]["generation"]) == (old, generation)
    run.wait_idle()


def test_a_reference_that_somebody_takes_away_is_found_again(run: OperatorUnderTest, space: Space) -> None:
    serve(space)
    name, old = runs(space), pods(space)
    space.patch("demo", {"metadata": {"annotations": {ANNOTATION_REVISION: None}}}, "Deployment")
    eventually(lambda: deployment(space)["metadata"]["annotations"].get(ANNOTATION_REVISION) == name)
    assert set(revisions(space)) == {1}
    run.wait_idle()
    assert pods(space) == old


def foreign(space: Space, name: str, data: JSON, **meta: Any) -> None:
    body = {
        "apiVersion": "apps/v1",
        "kind": REVISION,
        "metadata": {"name": name, **meta},
        "revision": 1,
        "data": data,
    }
    space.plane.request("POST", space.path(REVISION), body)


def test_somebody_elses_revision_of_that_name_is_not_taken(run: OperatorUnderTest, space: Space) -> None:
    serve(space)
    (kept,) = revisions(space).values()
    space.delete(KIND, "demo")
    eventually(lambda: not space.names("Deployment") | space.names(REVISION))
    foreign(space, kept["metadata"]["name"], {"a": "b"})
    space.create(llm("demo"))
    eventually(lambda: space.condition("demo", "Stalled")[:2] == ("True", "NameConflict"))
    assert f"{REVISION} {kept['metadata']['name']!r}" in space.condition("demo", "Stalled")[2]
    assert space.names("Deployment") == set(), "nothing runs that is not kept"
    assert revisions(space)[1]["data"] == {"a": "b"}
    space.delete(REVISION, kept["metadata"]["name"])
    eventually(lambda: space.is_ready("demo"), 60)


@pytest.mark.parametrize(
    "raw",
    ['{"a": "\\ud800"}', '{"a": ' + "[" * 5000 + "]" * 5000 + "}", '{"template": 1}'],
    ids=["half a character", "deep", "another shape"],
)
def test_what_somebody_else_writes_into_a_revision_is_that_objects_matter(
    cluster_control_plane: ControlPlane, tmp_path: Path, raw: str
) -> None:
    """In the place of the one that runs, with its name, label and owner, while no operator looks."""
    plane, log = cluster_control_plane, tmp_path / "log"
    space = Space(plane, f"revisions-hostile-{next(numbers)}")
    with OperatorUnderTest(plane.kubeconfig, space.name, log=log) as first:
        first.wait_ready()
        serve(space)
        space.create(llm("other"))
        eventually(lambda: space.is_ready("other"))
        space.wait_quiet(first)
    (kept,) = (one for one in revisions(space, "demo").values())
    old, meta = pods(space), kept["metadata"]
    body = {
        "apiVersion": "apps/v1",
        "kind": REVISION,
        "metadata": {name: meta[name] for name in ("name", "labels", "ownerReferences")},
        "revision": 1,
    }
    file = tmp_path / "body.json"
    file.write_text(f'{json.dumps(body)[:-1]}, "data": {raw}}}')
    space.delete(REVISION, meta["name"])
    for path in (file, renamed(file, meta["name"], "demo-7-0123456789")):
        plane.run_kubectl("create", "--raw", space.path(REVISION), "-f", str(path))
    with OperatorUnderTest(plane.kubeconfig, space.name, log=log) as again:
        again.wait_ready()
        for name in ("demo", "other"):
            space.patch(name, {"spec": {"replicas": 2}})
        eventually(lambda: space.is_ready("demo") and space.is_ready("other"), 60)
        eventually(lambda: len(names(space)) == 2, why=lambda: f"what never ran goes: {names(space)}")
        space.wait_quiet(again)
    assert revisions(space, "demo")[1]["data"] == kept["data"]
    assert old <= pods(space)
    assert "Traceback" not in log.read_text()


def renamed(file: Path, name: str, other: str) -> Path:
    copy = file.with_name("other.json")
    copy.write_text(file.read_text().replace(name, other))
    return copy


def names(space: Space) -> list[str]:
    """Names alone: what one of them holds may be unreadable."""
    text = space.plane.run_kubectl("get", "controllerrevisions", "-n", space.name, "-o", "name")
    return [line.rpartition("/")[2] for line in text.split()]


def test_a_rendering_whose_deployment_was_never_written_is_used_or_goes(
    cluster_control_plane: ControlPlane, tmp_path: Path
) -> None:
    """As after a crash between the two writes."""
    plane = cluster_control_plane
    space = Space(plane, "revisions-crash")
    with OperatorUnderTest(plane.kubeconfig, space.name, log=tmp_path / "log") as first:
        first.wait_ready()
        serve(space)
        space.patch("demo", {"spec": {"contextLength": 2048}})
        eventually(lambda: runs(space).startswith("demo-2-"))
        space.wait_quiet(first)
    second = revisions(space)[2]
    # One that is to run next, and one that is not wanted any more.
    for change, number in (("--never-ran", 3), ("--nor-this", 3)):
        template = json.loads(json.dumps(second["data"]["template"]))
        template["spec"]["containers"][0]["args"].append(change)
        content = content_of(template, second["data"]["plan"])
        meta = {key: second["metadata"][key] for key in ("labels", "ownerReferences")}
        name = revision_name("demo", number, digest_of(content))
        body = {"metadata": {"name": name, **meta}, "revision": number, "data": content}
        space.plane.request("POST", space.path(REVISION), {"apiVersion": "apps/v1", "kind": REVISION, **body})
    with OperatorUnderTest(plane.kubeconfig, space.name, log=tmp_path / "log") as again:
        again.wait_ready()
        eventually(lambda: set(revisions(space)) == {1, 2})
        assert runs(space) == second["metadata"]["name"]
        again.wait_idle()


@pytest.mark.parametrize("policy", ["Background", "Foreground", "Orphan"])
def test_revisions_go_with_their_object(run: OperatorUnderTest, space: Space, policy: str) -> None:
    """Orphan: the garbage collector patches the owner away, which the API server refuses if data looked changed."""
    serve(space, engine={"type": "VLLM", "env": [{"name": "A", "value": "<&>\u2028é"}]})
    space.plane.request("DELETE", space.path(KIND, "demo"), {"propagationPolicy": policy})
    eventually(lambda: space.get(KIND, "demo") is None, 60)
    if policy == "Orphan":
        (left,) = space.plane.request("GET", space.path(REVISION))["items"]
        assert "ownerReferences" not in left["metadata"]
        return
    eventually(lambda: not space.names(REVISION), 60)


def test_the_owner_is_named_by_its_kind(space: Space, run: OperatorUnderTest) -> None:
    """A StatefulSet's revisions, also with our label, are nobody's of ours."""
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "demo", "uid": "u", "controller": True}
    serve(space)
    foreign(
        space, "demo-9-0123456789", {"a": 1}, ownerReferences=[owner], labels={"app.kubernetes.io/managed-by": MANAGER}
    )
    space.patch("demo", {"spec": {"contextLength": 2048}})
    eventually(lambda: runs(space).startswith("demo-2-"))
    assert API_VERSION in str(revisions(space)[2]["metadata"]["ownerReferences"])
