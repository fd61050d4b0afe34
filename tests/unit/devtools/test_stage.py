"""What failed runs once more, alone, and is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools import stage

FAILS_ONCE = """
from pathlib import Path
def test_other(): pass
def test_it():
    tried = Path(__file__).with_name("tried")
    before = tried.exists()
    tried.touch()
    assert before
"""


def sample(folder: Path, text: str) -> str:
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_sample.py").write_text(text)
    return "test_sample.py"


def test_a_test_that_fails_once_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = sample(tmp_path, FAILS_ONCE)
    assert stage.run("sample", [file], tmp_path / "state", tmp_path) == 0
    assert [name.rpartition("::")[2] for name in stage.flaky(tmp_path / "state")] == ["test_it"]
    said = capfd.readouterr().out
    assert "assert before" in said, "the first failure is printed"
    assert stage.run("sample", [file], tmp_path / "state", tmp_path) == 0
    assert stage.flaky(tmp_path / "state") == [], "forgotten by the next run"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("def test_it(): assert False", 1),
        ("".join(f"def test_{number}(): assert False\n" for number in range(6)), 1),
        ("def test_it(:", 2),
        ("", 5),
    ],
    ids=["fails twice", "too many", "not Python", "no test"],
)
def test_what_fails_alone_too_fails(tmp_path: Path, text: str, code: int) -> None:
    file = sample(tmp_path, text)
    assert stage.run("sample", [file], tmp_path / "state", tmp_path) == code
    assert stage.flaky(tmp_path / "state") == []
