"""`kubectl llm cache` against a real API server: Jobs and objects as they stand there, marks as they arrive there."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.control_plane import ControlPlane
from llm_operator.cli.cluster import Cluster, connect
from llm_operator.pipeline.artifacts import ANNOTATION_RESULT
from llm_operator.pipeline.job_view import job_from
from tests.cluster.helpers import JSON, Space
from tests.support.cached_models import ENDED, FETCHED, GATED, QUANTIZED, bare_job, body, ended_status

pytestmark = pytest.mark.cluster

COMMAND = Path(sys.executable).with_name("kubectl-llm")
numbers = itertools.count()


@pytest.fixture
def space(control_plane: ControlPlane) -> Space:
    return Space(control_plane, f"cache-cli-{next(numbers)}")


def cached(name: str, space: Space, **spec: Any) -> JSON:
    return body(name, space.name, **spec)


def make_job(space: Space, of: JSON, stage: str = "fetch", result: JSON | None = None, **annotations: str) -> str:
    """A Job of the operator; one with a result has ended with it."""
    raw = bare_job(of, stage)
    for name, text in annotations.items():
        raw["metadata"]["annotations"][f"llm-operator.dev/{name.replace('_', '-')}"] = text
    if result is not None:
        raw["metadata"]["annotations"][ANNOTATION_RESULT] = json.dumps(result)
    job: str = space.create(raw, "Job")["metadata"]["name"]
    if result is not None:
        status = ended_status("Complete" if result["ok"] else "Failed")
        path = f"{space.path('Job', job)}/status"
        space.plane.request("PATCH", path, {"status": status}, "application/merge-patch+json")
    return job


def ran(space: Space, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error of the console script; no terminal."""
    done = subprocess.run(
        [str(COMMAND), "cache", *arguments],
        env={**os.environ, "KUBECONFIG": str(space.plane.kubeconfig), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def listed(space: Space, *arguments: str) -> JSON:
    code, output, errors = ran(space, "list", "-n", space.name, "-o", "json", *arguments)
    assert (code, errors) == (0, "")
    found: JSON = json.loads(output)
    return found


def marked(space: Space, job: str) -> bool:
    raw = space.get("Job", job)
    assert raw is not None
    return job_from(raw).to_be_removed


def test_models_are_listed_with_who_asks_for_them(space: Space) -> None:
    quantized = cached("quantized", space, weightQuantization={})
    space.create(quantized)
    space.create(cached("plain", space))
    make_job(space, quantized, result=FETCHED)
    make_job(space, quantized, "quantize")
    make_job(space, cached("gone", space, weightQuantization={"calibration": {"samples": 16}}), "quantize", GATED)
    # Somebody else's Job, and one that only looked.
    space.create({**bare_job(quantized), "metadata": {"name": "other", "labels": {"app": "other"}}}, "Job")
    on_claim = cached("inspected", space, model={"persistentVolumeClaim": {"claimName": "models"}})
    make_job(space, on_claim, "inspect", FETCHED)
    found = listed(space)
    assert {(item["state"], item["reason"], *item["usedBy"]) for item in found["items"]} == {
        ("Failed", "ModelGated"),
        ("Quantizing", "", "quantized"),
        ("Ready", "", "plain", "quantized"),
    }
    ready = found["items"][-1]
    assert (ready["namespace"], ready["claim"], ready["directory"]) == (space.name, "models", FETCHED["directory"])
    assert (ready["bytes"], ready["revision"]) == (FETCHED["bytes"], FETCHED["revision"])
    assert [(total["models"], total["bytes"]) for total in found["claims"]] == [(1, FETCHED["bytes"])]
    assert listed(space, "--unused")["items"] == []


def test_every_namespace_and_more_than_one_page(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Space(space.plane, f"{space.name}-other")
    for where, count in ((space, 3), (other, 2)):
        for number in range(count):
            model = {"huggingFace": {"repository": f"org/model-{number}"}}
            make_job(where, cached("demo", where, model=model), result=FETCHED)
    code, output, _ = ran(space, "list", "-A")
    assert code == 0
    assert f"{space.name}/models: 1 model, 5.00 GiB; 1 unused, 5.00 GiB" in output.splitlines()
    assert sum(line.startswith(f"{other.name} ") for line in output.splitlines()) == 2
    monkeypatch.setattr("llm_operator.cli.cluster.CHUNK", 2)
    cluster: Cluster = connect(str(space.plane.kubeconfig), None)
    assert len(cluster.jobs(space.name, "")) == 3


def test_prune_marks_only_what_no_object_asks_for(space: Space) -> None:
    used = cached("used", space)
    space.create(used)
    kept = make_job(space, used, result=FETCHED)
    old_model = {"huggingFace": {"repository": "org/old"}}
    old = make_job(
        space, cached("old", space, model=old_model), result={**FETCHED, "directory": "models/old"}, unused_since=ENDED
    )
    running = make_job(space, cached("new", space, weightQuantization={}), "quantize")
    before = {name: space.get("Job", name) for name in (kept, running)}

    code, output, errors = ran(space, "prune", "-n", space.name, "--dry-run")
    assert (code, errors) == (0, "")
    assert output.endswith("Would request the removal of 1 model, 5.00 GiB. Nothing was changed.\n")
    code, _, errors = ran(space, "prune", "-n", space.name)
    assert code == 2
    assert errors == "kubectl llm cache: stdin is not a terminal: confirm with --yes, or preview with --dry-run\n"
    assert not marked(space, old)

    code, output, errors = ran(space, "prune", "-n", space.name, "--older-than", "1d", "--yes")
    assert code == 0
    assert all(line.startswith("kubectl llm cache: no operator runs ") for line in errors.splitlines())
    assert "Requested the removal of 1 model, 5.00 GiB: the operator removes the files" in output
    assert marked(space, old)
    assert {name: space.get("Job", name) for name in (kept, running)} == before
    assert listed(space, "--unused")["items"][0]["removalRequested"] is True
    code, output, _ = ran(space, "prune", "-n", space.name, "--yes")
    assert (code, output.splitlines()[0]) == (0, "The removal of 1 model, 5.00 GiB was requested before.")


def test_what_is_half_done_is_listed_and_pruned_like_a_model(space: Space) -> None:
    full = {
        "ok": False,
        "reason": "DiskFull",
        "message": "9 GB are missing",
        "directory": "models/a/b",
        "bytes": 3 << 30,
    }
    waited_for = cached("waiting", space)
    space.create(waited_for)
    kept = make_job(space, waited_for, result=full)
    gone = {"huggingFace": {"repository": "org/gone"}}
    left = make_job(
        space, cached("gone", space, model=gone), result={**full, "directory": "models/c/d"}, unused_since=ENDED
    )
    found = listed(space)
    assert [(item["directory"], item["state"], item["reason"], item["bytes"]) for item in found["items"]] == [
        ("models/a/b.partial", "Incomplete", "DiskFull", 3 << 30),
        ("models/c/d.partial", "Incomplete", "DiskFull", 3 << 30),
    ]
    assert [(total["bytes"], total["unusedBytes"]) for total in found["claims"]] == [(6 << 30, 3 << 30)]
    code, output, errors = ran(space, "prune", "-n", space.name, "--older-than", "1d", "--yes")
    assert code == 0
    assert all(line.startswith("kubectl llm cache: no operator runs ") for line in errors.splitlines())
    assert "Requested the removal of 1 model, 3.00 GiB" in output
    assert (marked(space, left), marked(space, kept)) == (True, False)


def test_a_job_that_changed_or_went_meanwhile_is_left_alone(space: Space) -> None:
    name = make_job(space, cached("demo", space), result=QUANTIZED)
    raw = space.get("Job", name)
    assert raw is not None
    seen = raw["metadata"]["resourceVersion"]
    space.patch(name, {"metadata": {"annotations": {"llm-operator.dev/unused-since": ENDED}}}, "Job")
    cluster = connect(str(space.plane.kubeconfig), None)
    remove = {"llm-operator.dev/remove": "true"}
    assert not cluster.annotate_job(space.name, name, seen, remove)
    assert not cluster.annotate_job(space.name, "llm-fetch-gone", seen, remove)
    assert not marked(space, name)


def kubeconfig(space: Space, path: Path, **changes: str) -> Path:
    """The admin's kubeconfig and in it another context, `changed`, with another token, server or namespace."""
    content = yaml.safe_load(space.plane.kubeconfig.read_text())
    cluster, user = content["clusters"][0], content["users"][0]
    context = {"cluster": "changed", "user": "changed", "namespace": changes.get("namespace", space.name)}
    server = {**cluster["cluster"], "server": changes.get("server", cluster["cluster"]["server"])}
    content["clusters"].append({"name": "changed", "cluster": server})
    content["users"].append(
        {"name": "changed", "user": {"token": changes["token"]} if "token" in changes else user["user"]}
    )
    content["contexts"].append({"name": "changed", "context": context})
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_context_names_cluster_and_namespace(space: Space, tmp_path: Path) -> None:
    make_job(space, cached("demo", space), result=FETCHED)
    path = kubeconfig(space, tmp_path / "config")
    for given in (["--kubeconfig", str(path)], []):
        code, output, _ = ran(space, "list", *given, "--context", "changed", KUBECONFIG=str(path))
        assert code == 0
        assert output.splitlines()[1].startswith(f"{space.name} ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"token": "wrong"}, "cannot list jobs: the API server does not accept these credentials: Unauthorized"),
        ({"server": "https://127.0.0.1:1"}, "the API server https://127.0.0.1:1 cannot be reached: "),
    ],
)
def test_a_cluster_that_refuses_or_is_away(space: Space, tmp_path: Path, changes: dict[str, str], said: str) -> None:
    path = kubeconfig(space, tmp_path / "config", **changes)
    code, output, errors = ran(space, "list", "--kubeconfig", str(path), "--context", "changed")
    assert (code, output) == (2, "")
    assert errors.startswith(f"kubectl llm cache: {said}")
    assert errors.count("\n") == 1


def test_who_may_not_list_is_told_what_he_lacks(space: Space, tmp_path: Path) -> None:
    account = space.plane.request(
        "POST", f"/api/v1/namespaces/{space.name}/serviceaccounts", {"metadata": {"name": "no"}}
    )
    path = f"/api/v1/namespaces/{space.name}/serviceaccounts/{account['metadata']['name']}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = space.plane.request("POST", path, request)["status"]["token"]
    changed = kubeconfig(space, tmp_path / "config", token=token)
    code, _, errors = ran(space, "list", "--kubeconfig", str(changed), "--context", "changed")
    assert code == 2
    assert errors.startswith("kubectl llm cache: cannot list jobs: jobs.batch is forbidden: ")
    assert errors.endswith("; request that right, or name a namespace with -n\n")


def test_as_a_plugin_of_kubectl(space: Space) -> None:
    make_job(space, cached("demo", space), result=FETCHED)
    done = subprocess.run(
        [str(space.plane.kubectl), "llm", "cache", "list", "-n", space.name],
        env={
            **os.environ,
            "KUBECONFIG": str(space.plane.kubeconfig),
            "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == f"{space.name}/models: 1 model, 5.00 GiB; 1 unused, 5.00 GiB"
