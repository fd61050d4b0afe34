"""Files are written to the disk while they grow."""

import os
import time
from pathlib import Path

import pytest

from llm_operator.modeltools import writeback
from tests.waiting import eventually


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the files that were written to the disk, at that time."""
    sizes: list[int] = []
    really = os.fdatasync

    def fdatasync(number: int) -> None:
        really(number)
        sizes.append(os.fstat(number).st_size)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    monkeypatch.setattr(writeback, "INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(writeback, "LEAST_BYTES", 1000)
    return sizes


def test_what_has_grown_enough_is_written_also_under_its_next_name(tmp_path: Path, flushed: list[int]) -> None:
    begun, whole = tmp_path / "file.incomplete", tmp_path / "file"
    with writeback.early([(whole, begun), (tmp_path / "not-there-yet",)]):
        begun.write_bytes(bytes(999))
        time.sleep(0.1)
        assert flushed == []
        begun.write_bytes(bytes(1500))
        eventually(lambda: flushed == [1500], why=lambda: f"written so far: {flushed}")
        begun.rename(whole)
        whole.write_bytes(bytes(2499))
        time.sleep(0.1)
        assert flushed == [1500]
        whole.write_bytes(bytes(4000))
        eventually(lambda: flushed == [1500, 4000], why=lambda: f"written so far: {flushed}")
    time.sleep(0.1)
    whole.write_bytes(bytes(9000))
    time.sleep(0.1)
    assert flushed == [1500, 4000]


def test_an_error_of_the_disk_is_left_to_the_end(
    tmp_path: Path, flushed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(bytes(2000))
    tried: list[int] = []

    def broken(number: int) -> None:
        tried.append(number)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with writeback.early([(tmp_path / "file",)]):
        eventually(lambda: len(tried) >= 2, why="it is tried again")
