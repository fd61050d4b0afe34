"""Directories on a model volume: visible when complete, one writer at a time, removed at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from llm_operator.modeltools import layout
from llm_operator.modeltools.report import ToolError

SOURCE = {"kind": "hf", "repository": "org/name"}
HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a model belongs, with a partial one of two files beside it."""
    path = layout.model_directory(tmp_path, "hf", "org/name", "abc")
    written = layout.partial(path)
    (written / "sub").mkdir(parents=True)
    (written / "config.json").write_text("hello")
    (written / "sub" / "file").write_text("hello")
    return path


def publish(directory: Path) -> layout.Marker:
    return layout.publish(
        layout.partial(directory), directory, source=SOURCE, revision="abc", extra={"recipe": {"bits": 4}}
    )


def test_names(tmp_path: Path) -> None:
    path = layout.model_directory(tmp_path, "ms", "org/name", "abc")
    assert path == tmp_path / "models/ms--org--name/abc"
    assert layout.partial(path) == tmp_path / "models/ms--org--name/abc.partial"


def test_a_published_directory_is_complete(directory: Path) -> None:
    assert layout.complete(directory) is None
    marker = publish(directory)
    assert not layout.partial(directory).exists()
    assert marker.files == {"config.json": layout.FileFacts(5, HELLO), "sub/file": layout.FileFacts(5, HELLO)}
    assert marker.bytes == 10
    assert layout.complete(directory, verify_hashes=True) == marker
    assert marker.extra == {"recipe": {"bits": 4}}
    content = json.loads((directory / layout.MARKER).read_text())
    assert content["version"] == 1
    assert content["recipe"] == {"bits": 4}


def test_known_hashes_are_taken_as_they_are(directory: Path) -> None:
    marker = layout.publish(
        layout.partial(directory), directory, source=SOURCE, revision="abc", hashes={"config.json": "known"}
    )
    assert marker.files["config.json"].sha256 == "known"
    assert marker.files["sub/file"].sha256 == HELLO


def test_a_changed_size_a_missing_file_and_a_changed_hash(directory: Path) -> None:
    publish(directory)
    (directory / "config.json").write_text("jello")
    assert layout.complete(directory) is not None
    assert layout.complete(directory, verify_hashes=True) is None
    (directory / "config.json").write_text("hello!")
    assert layout.complete(directory) is None
    (directory / "config.json").unlink()
    assert layout.complete(directory) is None


@pytest.mark.parametrize(
    "content",
    [
        "", "no JSON", "[]", "{}", '{"version": 2, "source": {}, "revision": "abc", "files": {}}',
        '{"version": 1, "source": {}, "revision": "abc"}',
        '{"version": 1, "source": {}, "revision": "abc", "files": {"a": {}}}',
        '{"version": 1, "source": [], "revision": "abc", "files": {}}', "\x00" * 100,
    ],
)  # fmt: skip
def test_a_marker_that_is_none(directory: Path, content: str) -> None:
    publish(directory)
    (directory / layout.MARKER).write_text(content)
    assert layout.complete(directory) is None


def test_into_a_mount_the_marker_comes_last(directory: Path, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    (mount / "sub").mkdir(parents=True)
    (mount / "sub" / "of an earlier try").write_text("")
    layout.publish_into(layout.partial(directory), mount, source=SOURCE, revision="abc", hashes={})
    assert sorted(layout.files_of(mount)) == ["config.json", "sub/file"]
    assert layout.complete(mount, verify_hashes=True) is not None
    assert not layout.partial(directory).exists()


def test_removing_frees_the_bytes_and_continues_what_was_interrupted(directory: Path) -> None:
    publish(directory)
    size = layout.size_of(directory)
    interrupted = directory.with_name("abc.removed-1")
    interrupted.mkdir()
    (interrupted / "file").write_text("left")
    assert layout.remove(directory) == size + 4
    assert list(directory.parent.iterdir()) == []
    assert layout.remove(directory) == 0


@pytest.mark.parametrize("relative", ["..", "../other", "models/../..", "/../..", "link/x", "link"])
def test_paths_that_lead_out(tmp_path: Path, relative: str) -> None:
    root = tmp_path / "root"
    (root / "models").mkdir(parents=True)
    (tmp_path / "other" / "x").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "other")
    for function in (layout.inside, layout.below):
        with pytest.raises(ToolError, match="leads out of the volume") as caught:
            function(root, relative)
        assert caught.value.reason == "ModelPathMissing"


def test_paths_that_are_not_there_are_told_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "models" / "here").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolError, match=r"not on the volume.*beside it there is: here"):
        layout.inside(tmp_path, "models/there")
    with pytest.raises(ToolError, match="no directory but a file"):
        layout.inside(tmp_path, "file")
    assert layout.inside(tmp_path, "/models/here") == tmp_path / "models/here"
    assert layout.below(tmp_path, "models/there") == tmp_path / "models/there"


def _hold(directory: Path, held: Event, release: Event) -> None:
    with layout.lock(directory):
        held.set()
        release.wait(10)


def test_one_writer_at_a_time(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LOCK_POLL_SECONDS", 0.01)
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(directory, held, release))
    holder.start()
    try:
        assert held.wait(20)
        waits: list[float] = []

        def waiting() -> None:
            waits.append(time.monotonic())
            if len(waits) == 3:
                release.set()

        with layout.lock(directory, waiting):
            assert len(waits) >= 3
    finally:
        release.set()
        holder.join(10)
        holder.close()


def test_a_lock_whose_file_was_removed_is_taken_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Between opening and locking, another process removes the model and the lock file.
    locked = layout._locked
    opened: list[int] = []

    def late(number: int, path: Path) -> bool:
        if not opened:
            path.unlink()
        opened.append(number)
        return locked(number, path)

    monkeypatch.setattr(layout, "_locked", late)
    with layout.lock(directory):
        assert directory.with_name("abc.lock").exists()
    assert len(opened) == 2


def test_a_file_system_without_locks_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int, operation: int) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(ToolError, match="keeps no locks"), layout.lock(directory):
        pass
