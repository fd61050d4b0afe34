"""`verify`: what lies on the disk is what was written, or the directory is complete no longer."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from llm_operator.modeltools import layout, verify
from llm_operator.modeltools.report import Progress
from tests.unit.modeltools.tool import MIB, Tool, write_model

FINAL = 3
DIRECTORY = "models/hf--org--name/" + "c" * 40


@pytest.fixture
def model(tool: Tool) -> Path:
    """A published model of three files below a volume."""
    directory = tool.folder / "volume" / DIRECTORY
    written = layout.partial(directory)
    written.mkdir(parents=True)
    write_model(written)
    layout.publish(written, directory, source={"kind": "hf", "repository": "org/name"}, revision="c" * 40)
    return directory


def run(tool: Tool, *more: str) -> tuple[int, str, str]:
    done = tool.run("verify", "--root", str(tool.folder / "volume"), "--directory", DIRECTORY, *more)
    return done.code, done.reason, str((done.result or {}).get("message", ""))


def test_what_is_as_it_was_stays_complete(tool: Tool, model: Path) -> None:
    done = tool.run("verify", "--root", str(tool.folder / "volume"), "--directory", DIRECTORY)
    assert done.code == 0, done.errors
    assert done.result is not None
    marker = layout.complete(model)
    assert marker is not None
    assert done.result["bytes"] == marker.bytes
    # The record is for the directory that was asked for, so the tool tells none.
    assert "directory" not in done.result


@pytest.mark.parametrize("harm", ["a bit", "shorter", "missing", "a link"])
def test_what_differs_is_told_and_left_alone_but_complete_no_longer(harm: str, tool: Tool, model: Path) -> None:
    weights = model / "model-00002-of-00002.safetensors"
    content = bytearray(weights.read_bytes())
    if harm == "a bit":
        content[-1] ^= 1
        weights.write_bytes(content)
        # Sizes are all that is compared otherwise: this is served for ever.
        assert layout.complete(model) is not None
    elif harm == "shorter":
        weights.write_bytes(content[:-1])
    else:
        weights.unlink()
    if harm == "a link":
        (tool.folder / "elsewhere").write_bytes(content)
        weights.symlink_to(tool.folder / "elsewhere")
    before = {path.name: path.stat().st_size for path in model.iterdir() if path.name != layout.MARKER}
    code, reason, message = run(tool)
    assert (code, reason) == (FINAL, "WeightsCorrupt")
    assert "1 file differs from what was written" in message
    assert weights.name in message
    assert {path.name: path.stat().st_size for path in model.iterdir()} == before
    assert layout.complete(model) is None
    assert run(tool)[:2] == (FINAL, "WeightsCorrupt")


def test_only_a_model_of_the_volume_is_read(tool: Tool, model: Path) -> None:
    for directory in ("models/../..", "..", "models/none", "/etc"):
        done = tool.run("verify", "--root", str(tool.folder / "volume"), "--directory", directory)
        assert done.code == FINAL
        assert done.reason == "ModelPathMissing"
    assert layout.complete(model) is not None


def test_it_reads_no_faster_than_it_may(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3 * MIB + 17))
    begun = time.monotonic()
    pace = verify._Pace(8 * MIB, file.stat().st_size, Progress())
    assert verify.sha256_of_disk(file, pace) == layout.sha256(file)
    assert time.monotonic() - begun >= 3 / 8


def test_a_file_system_without_direct_reads_is_read_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(2 * MIB + 17))
    real, kinds = os.readv, []

    def refuses(number: int, pieces: list[memoryview]) -> int:
        direct = bool(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_DIRECT)
        kinds.append(direct)
        if direct:
            raise OSError(22, "Invalid argument")
        return real(number, pieces)

    monkeypatch.setattr(os, "readv", refuses)
    assert verify.sha256_of_disk(file, verify._Pace(0, 1, Progress())) == layout.sha256(file)
    assert not kinds[-1]
