"""What follows from a measured quality, and from one that could not be measured."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import pytest

from llm_operator.modeltools import gate, layout, quality
from llm_operator.modeltools.report import ToolError


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    gate.add_arguments(parser)
    parser.add_argument("--trust-remote-code", action="store_true")
    return parser.parse_args(words)


LIMIT = ("--max-perplexity-increase-percent", "5")
BLOCK = (*LIMIT, "--quality-policy", "Block")


def measured(increase: str) -> gate.Quality:
    return {"perplexityOriginal": "8.000", "perplexityQuantized": "8.400", "perplexityIncreasePercent": increase}


def test_numbers_have_fixed_decimals() -> None:
    told = quality.summary(8.4118, 8.57, [True] * 31 + [False], 2000)
    assert told == {
        "perplexityOriginal": "8.412",
        "perplexityQuantized": "8.570",
        "perplexityIncreasePercent": "1.9",
        "agreementPercent": 97,
        "tokens": 2000,
    }
    assert quality.summary(100.0, 99.0, [True], 1)["perplexityIncreasePercent"] == "-1.0"


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_broken_weights_are_no_quality(value: float) -> None:
    with pytest.raises(ToolError, match="perplexity of the quantized model"):
        quality.summary(8.0, value, [True], 1)


def test_a_limit_asks_for_the_measurement() -> None:
    assert not gate.wanted(options())
    assert gate.wanted(options("--evaluate"))
    assert gate.wanted(options(*LIMIT))
    assert not gate.blocks(options(*LIMIT))
    assert not gate.blocks(options("--evaluate", "--quality-policy", "Block"))
    assert gate.blocks(options(*BLOCK))


def test_within_the_limit_nothing_is_added() -> None:
    for given in (options("--evaluate"), options(*LIMIT), options(*BLOCK)):
        assert gate.judge(given, measured("5.0")) == measured("5.0")
        assert gate.judge(given, None) is None


def test_beyond_the_limit_warn_marks_and_block_refuses() -> None:
    assert gate.judge(options(*LIMIT), measured("5.1")) == {**measured("5.1"), "exceeded": True}
    assert gate.judge(options("--evaluate"), measured("500.0")) == measured("500.0")
    with pytest.raises(ToolError) as told:
        gate.judge(options(*BLOCK), measured("5.1"))
    assert (told.value.reason, told.value.retry) == ("QualityTooLow", False)
    assert "rose by 5.1 % (from 8.000 to 8.400), at most 5 %" in str(told.value)


def test_what_could_not_be_measured_is_let_through_by_warn_alone() -> None:
    unknown: gate.Quality = {"error": "out of memory"}
    assert gate.judge(options(*LIMIT), unknown) == unknown
    with pytest.raises(ToolError, match="out of memory") as told:
        gate.judge(options(*BLOCK), unknown)
    assert told.value.reason == "QualityTooLow"


def fake_python(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """In the place of the evaluation's Python: a fake that ends in the way asked for."""
    path = folder / "fake-python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("kill -9 $$", "killed, probably for using too much memory"),
        ("exit 1", "exit code 1"),
        ('echo \'{"ok": false, "reason": "ToolFailed", "message": "OutOfMemoryError: CUDA"}\' > "$4"; exit 4', "CUDA"),
    ],
)
def test_an_evaluation_that_dies_is_an_error_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, error: str
) -> None:
    fake_python(tmp_path, monkeypatch, text)
    told = gate.evaluate(options("--evaluate"), tmp_path / "a", tmp_path / "b", tmp_path)
    assert list(told) == ["error"]
    assert error in str(told["error"])


def test_its_numbers_are_those_of_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_python(tmp_path, monkeypatch, f"""echo '{json.dumps({"ok": True, **measured("1.0")})}' > "$4" """)
    assert gate.evaluate(options(), tmp_path / "a", tmp_path / "b", tmp_path) == measured("1.0")


def test_a_published_directory_gets_its_quality_later(tmp_path: Path) -> None:
    written = tmp_path / "abc.partial"
    written.mkdir()
    (written / "config.json").write_text("{}")
    marker = layout.publish(
        written, tmp_path / "abc", source={"kind": "hf"}, revision="1", extra={"recipe": {"bits": 4}}
    )
    told = gate.annotate(tmp_path / "abc", marker, measured("1.0"))
    assert told.extra == {"recipe": {"bits": 4}, "quality": measured("1.0")}
    assert layout.complete(tmp_path / "abc") == told
    assert not list((tmp_path / "abc").glob("*.new"))
