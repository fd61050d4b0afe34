"""What the project's images are built on is fixed, not a tag that somebody else moves."""

from __future__ import annotations

import re
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
