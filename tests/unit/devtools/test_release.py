"""The release workflow: what it writes into the chart, and that it builds, signs and pushes what the chart names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from devcluster.cache import ROOT
from devcluster.toolchain import ensure
from devtools.release_chart import with_images
from llm_operator import __version__, image_names
from llm_operator.__main__ import parser
from llm_operator.child_options import tool_settings
from tests.support.chart import CHART, Helm, only

WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
DIGESTS = {name: "sha256:" + str(index) * 64 for index, name in enumerate(image_names.PUBLISHED)}
REGISTRY = "registry.example.com/llm"


@pytest.mark.programs
def test_the_chart_of_a_release_needs_no_values(tmp_path: Path) -> None:
    chart, digests = tmp_path / "llm-operator", tmp_path / "digests"
    shutil.copytree(CHART, chart)
    digests.mkdir()
    for name, digest in DIGESTS.items():
        (digests / name).write_text(f"{digest}\n")
    script = ROOT / "devtools" / "release_chart.py"
    # As the workflow runs it: without this project's environment.
    subprocess.run([sys.executable, "-I", script, chart, REGISTRY, digests], check=True)
    rendered = Helm(ensure(["helm"]) / "helm").run("template", "llm", str(chart))
    assert rendered.returncode == 0, rendered.stderr
    objects = [document for document in yaml.safe_load_all(rendered.stdout) if document]
    container = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    settings = tool_settings(parser().parse_args(container["args"]))
    named = [container["image"], settings.image, settings.web_image, settings.quantize_image]
    assert named == [f"{REGISTRY}/{name}@{DIGESTS[name]}" for name in image_names.PUBLISHED]


@pytest.mark.parametrize(
    ("values", "digests", "said"),
    [
        ("image: {}\n", DIGESTS, "0 empty values imageRegistry"),
        ('imageRegistry: ""\nimage:\n  digest: ""\n', DIGESTS, "0 empty digests below modelTools"),
        ((CHART / "values.yaml").read_text(), {**DIGESTS, "web": "latest"}, "web: 'latest' is not a digest"),
    ],
)
def test_a_release_that_cannot_be_written_fails(values: str, digests: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        with_images(values, REGISTRY, digests)


def test_the_workflow_builds_every_image_that_the_chart_names() -> None:
    built = {entry["name"]: entry for entry in WORKFLOW["jobs"]["images"]["strategy"]["matrix"]["include"]}
    assert set(built) == set(image_names.PUBLISHED)
    for name, entry in built.items():
        assert (ROOT / entry["file"]).is_file()
        assert (ROOT / entry["context"]).is_dir()
        architectures = {"linux/amd64"} if name == "lmdeploy" else {"linux/amd64", "linux/arm64"}
        assert set(entry["platforms"].split(",")) == architectures
    build = next(step["with"] for step in WORKFLOW["jobs"]["images"]["steps"] if "build-push" in step.get("uses", ""))
    assert (build["sbom"], build["provenance"], build["push"]) == (True, "mode=max", True)


@pytest.mark.programs
def test_the_workflow_is_one_that_github_takes(tmp_path: Path) -> None:
    """Its keys, contexts, expressions, and outputs of steps and jobs that are read elsewhere."""
    actionlint = ensure(["actionlint"]) / "actionlint"

    def said(text: str) -> str:
        file = tmp_path / "release.yml"
        file.write_text(text)
        words = [str(actionlint), "-shellcheck=", "-pyflakes=", "-oneline", str(file)]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout

    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert said(text) == ""
    assert 'property "registri" is not defined' in said(
        text.replace("outputs.registry }}/${{", "outputs.registri }}/${{")
    )
    assert 'unexpected key "need"' in said(text.replace("needs: [settings, images]", "need: [settings, images]"))


def test_a_step_of_the_workflow_that_fails_ends_it() -> None:
    assert WORKFLOW["defaults"] == {"run": {"shell": "bash"}}, "bash -eo pipefail"


def test_every_action_is_a_commit_and_not_a_tag_that_moves() -> None:
    used = [step["uses"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "uses" in step]
    assert len(used) > 10
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one)] == []


LMDEPLOY = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]["llm-operator.dev/lmdeploy"]
DIGEST = "sha256:" + "a" * 64


def settings_of(tmp_path: Path, **environment: str) -> tuple[int, str, str]:
    """Exit code, what was said, and the outputs of the workflow's first step, run as it is written."""
    (step,) = (one for one in WORKFLOW["jobs"]["settings"]["steps"] if one.get("id") == "read")
    output = tmp_path / "output"
    output.touch()
    given = {"REGISTRY": REGISTRY, "TAG": f"v{__version__}", "LMDEPLOY_BASE": "", **environment}
    assert set(step["env"]) == set(given)
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]],
        env={**given, "PATH": os.environ["PATH"], "GITHUB_OUTPUT": str(output)},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, output.read_text()


@pytest.mark.parametrize("prefix", ["", "docker.io/", "mirror.example.com/hub/"])
def test_a_release_builds_lmdeploy_on_a_digest(tmp_path: Path, prefix: str) -> None:
    base = f"{prefix}openmmlab/lmdeploy:v{LMDEPLOY}@{DIGEST}"
    code, said, outputs = settings_of(tmp_path, LMDEPLOY_BASE=base)
    assert code == 0, said
    assert f"lmdeploy_base={base}\n" in outputs
    build = next(step["with"] for step in WORKFLOW["jobs"]["images"]["steps"] if "build-push" in step.get("uses", ""))
    assert (
        "matrix.name == 'lmdeploy' && format('BASE={0}', needs.settings.outputs.lmdeploy_base)" in build["build-args"]
    )


@pytest.mark.parametrize(
    "base",
    [
        "", f"openmmlab/lmdeploy:v{LMDEPLOY}", "openmmlab/lmdeploy:latest", f"openmmlab/lmdeploy:v0.1.0@{DIGEST}",
        f"openmmlab/lmdeploy:v{LMDEPLOY}@sha256:abc", f"evil/lmdeploy:v{LMDEPLOY}@{DIGEST}",
        f"openmmlab/lmdeploy:v{LMDEPLOY}@{DIGEST} x", f"openmmlab/lmdeploy:v{LMDEPLOY}@{DIGEST}a",
    ],
)  # fmt: skip
def test_a_release_does_not_build_on_a_tag(tmp_path: Path, base: str) -> None:
    code, said, outputs = settings_of(tmp_path, LMDEPLOY_BASE=base)
    assert (code, outputs) == (1, "")
    assert "::error::set the repository variable LMDEPLOY_BASE to openmmlab/lmdeploy:v" in said


def test_every_job_has_the_least_rights() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    for name, job in WORKFLOW["jobs"].items():
        rights = job.get("permissions", {"contents": "read"})
        assert rights.get("contents") == "read", name
        assert set(rights) <= {"contents", "packages", "id-token"}, name
