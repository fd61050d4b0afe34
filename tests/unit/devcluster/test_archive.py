"""Image archives."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from devcluster.archive import ArchiveError, add_image, image_archive, images_in

FIRST, SECOND = "docker.io/local/first:1", "docker.io/local/second:1"


def config_in(path: Path) -> dict[str, object]:
    """The configuration of the first image."""
    with tarfile.open(path) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        config = archive.extractfile(json.load(manifest)[0]["Config"])
        assert config is not None
        found: dict[str, object] = json.load(config)
        return found


def test_an_image_of_the_same_files_is_added(tmp_path: Path) -> None:
    path = tmp_path / "images.tar"
    path.write_bytes(image_archive(FIRST, {"a": b"x" * 100_000}, {}))
    size, before = path.stat().st_size, images_in(path)
    add_image(path, SECOND, json.dumps({**config_in(path), "config": {"Env": ["A=1"]}}).encode())
    first, second = images_in(path)
    assert [first] == before
    assert second.name == SECOND
    assert second.config_digest != first.config_digest
    assert path.stat().st_size < size + 20_000, "the files lie there once"


def test_an_image_of_other_files_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "images.tar", tmp_path / "other.tar"
    path.write_bytes(image_archive(FIRST, {"a": b"x"}, {}))
    other.write_bytes(image_archive(SECOND, {"a": b"y"}, {}))
    with pytest.raises(ArchiveError, match=r"second:1 cannot lie in .*: it adds files to .*first:1"):
        add_image(path, SECOND, json.dumps(config_in(other)).encode())
    assert [image.name for image in images_in(path)] == [FIRST]
