"""What the project's images are built on is fixed, not a tag that somebody else moves."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from devcluster.cache import ROOT
from devcluster.session import GPU_IMAGES
from llm_operator import image_names

DOCKERFILES = sorted((ROOT / "images").glob("*/Dockerfile"))
DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


@pytest.mark.parametrize("path", DOCKERFILES, ids=[path.parent.name for path in DOCKERFILES])
def test_the_base_is_a_digest_or_an_image_of_ours(path: Path) -> None:
    text = path.read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        given = arguments["BASE"] if base == "${BASE}" else base
        ours = given == "scratch" or given.startswith(f"{image_names.REGISTRY}/")
        # The engines' own images: the version that whoever builds asks for decides which.
        engine = path.parent.name in GPU_IMAGES and given.endswith("${VERSION}")
        assert ours or engine or DIGEST.fullmatch(given), given


def test_a_release_builds_what_the_chart_names() -> None:
    assert {path.parent.name for path in DOCKERFILES} >= set(image_names.PUBLISHED)


@pytest.mark.parametrize("path", DOCKERFILES, ids=[path.parent.name for path in DOCKERFILES])
def test_every_package_of_an_image_comes_by_its_hash(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    if "cpu-test" in path.parent.name:
        return  # published nowhere
    for install in re.findall(r"pip (?:install|wheel|download)([^&|;}]*)", text):
        assert "--require-hashes" in install or "--no-index" in install, install


def steps(name: str, version: str, installed: str, folder: Path) -> tuple[int, str, list[str]]:
    """The last RUN of an engine's Dockerfile in a shell, with a pip that notes its words: exit code, errors, words."""
    source = ROOT / "images" / name
    (folder / "bin").mkdir()
    noted = folder / "noted"
    noted.touch()
    pip = folder / "bin" / "pip"
    pip.write_text(
        f'#!/bin/sh\ncase "$1" in show) test -n "{installed}" && echo "Version: {installed}";; '
        f'*) echo "$*" >> {noted};; esac\n'
    )
    pip.chmod(0o755)
    for file in source.glob("*.lock"):
        (folder / file.name).write_bytes(file.read_bytes())
    run = re.findall(r"^RUN (.*?[^\\])$", (source / "Dockerfile").read_text(), re.MULTILINE | re.DOTALL)[-1]
    script = run.replace("\\\n", " ").replace("/tmp/", f"{folder}/").replace("python3 -m pip --version", "true")
    env = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "VERSION": version}
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr, noted.read_text().splitlines()


CHECKED = "install --no-cache-dir --require-hashes --no-deps --only-binary :all: -r"
LAST = {"lmdeploy": ["install --no-index datasets zstandard"], "vllm": []}


@pytest.mark.parametrize("name", sorted(GPU_IMAGES))
def test_an_engines_image_takes_the_base_or_the_whole_lock(name: str, tmp_path: Path) -> None:
    (version,) = re.findall(r"^ARG VERSION=(\S+)$", (ROOT / "images" / name / "Dockerfile").read_text(), re.MULTILINE)
    for place, installed in enumerate((version, f"{version}+cu13", "", "0.0.1", f"{version}0")):
        folder = tmp_path / str(place)
        folder.mkdir()
        code, errors, words = steps(name, version, installed, folder)
        assert code == 0, errors
        added = [f"{CHECKED} {folder}/requirements.lock"] if name == "lmdeploy" else []
        whole = [f"{CHECKED} {folder}/requirements.whole.lock"]
        assert words == (added if place < 2 else whole) + LAST[name]
        assert not list(folder.glob("*.lock"))


@pytest.mark.parametrize("name", sorted(GPU_IMAGES))
def test_a_version_that_no_lock_has_is_not_built(name: str, tmp_path: Path) -> None:
    code, errors, words = steps(name, "9.9.9", "", tmp_path)
    assert code == 1
    assert f"the base has no {name} 9.9.9" in errors
    assert words == []
