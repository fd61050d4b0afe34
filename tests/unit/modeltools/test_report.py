"""What the operator reads: progress lines, the result, exit codes."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_operator.modeltools import report
from llm_operator.modeltools.report import Progress, ToolError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line)["progress"] for line in stream.getvalue().splitlines()]


def test_a_line_at_every_change_of_stage_and_else_every_two_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, clock)
    progress.show("Resolving")
    progress.show("Fetching", done_bytes=0, total_bytes=300)
    for clock.now in (0.5, 1.9, 2.0, 3.0, 4.1):
        progress.show("Fetching", done_bytes=int(clock.now * 10), total_bytes=300)
    progress.show("Fetching", done_bytes=300, total_bytes=300, now=True)
    assert [(line["stage"], line.get("bytes")) for line in lines(stream)] == [
        ("Resolving", None), ("Fetching", 0), ("Fetching", 20), ("Fetching", 41), ("Fetching", 300),
    ]  # fmt: skip


def test_unknown_numbers_are_left_out_and_known_ones_are_integers() -> None:
    stream = io.StringIO()
    Progress(stream).show(
        "Fetching", done_bytes=123, total_bytes=300, bytes_per_second=1e6 + 0.7, seconds_left=12.9, detail="x" * 1000
    )
    Progress(stream).show("Quantizing", percent=41.7)
    assert lines(stream) == [
        {
            "stage": "Fetching", "percent": 41, "bytes": 123, "totalBytes": 300, "bytesPerSecond": 1000000,
            "secondsLeft": 12, "detail": "x" * 200,
        },
        {"stage": "Quantizing", "percent": 41},
    ]  # fmt: skip


def run(work: object, folder: Path) -> tuple[int, Mapping[str, object] | None]:
    before = signal.getsignal(signal.SIGTERM)
    file = folder / "result"
    try:
        code = report.finish(str(file), work)  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGTERM, before)
    return code, json.loads(file.read_bytes()) if file.exists() else None


def test_success(tmp_path: Path) -> None:
    assert run(lambda: {"bytes": 1}, tmp_path) == (0, {"ok": True, "bytes": 1})


@pytest.mark.parametrize(("retry", "code"), [(False, 3), (True, 4)])
def test_a_foreseen_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str], retry: bool, code: int) -> None:
    def work() -> Mapping[str, object]:
        raise ToolError("DiskFull", "too small", retry=retry)

    assert run(work, tmp_path) == (code, {"ok": False, "reason": "DiskFull", "message": "too small", "retry": retry})
    assert capsys.readouterr().err == "DiskFull: too small\n"


def test_an_unforeseen_failure_has_its_trace_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> Mapping[str, object]:
        raise KeyError("surprise")

    code, result = run(work, tmp_path)
    assert code == 4
    assert result == {"ok": False, "reason": "ToolFailed", "message": "KeyError: 'surprise'", "retry": True}
    assert "Traceback" in capsys.readouterr().err


def test_sigterm_is_raised_once_and_leaves_no_result(tmp_path: Path) -> None:
    cleaned = []

    def work() -> Mapping[str, object]:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            # A second one does not tear the clean-up.
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(True)
        return {}

    assert run(work, tmp_path) == (143, None)
    assert cleaned == [True]


def test_a_result_that_cannot_be_written_is_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(lambda: {"bytes": 1}, tmp_path / "none")
    assert code == 0
    assert '{"ok": true, "bytes": 1}' in capsys.readouterr().err


@given(st.text(max_size=6000), st.text(max_size=6000), st.integers())
def test_a_result_always_fits_and_always_parses(message: str, config: str, number: int) -> None:
    fields = {"ok": False, "reason": "ToolFailed", "message": message, "config": config, "bytes": number}
    content = report._fitting(fields)
    assert len(content) <= 4096
    result = json.loads(content)
    assert result["ok"] is False
    assert result["bytes"] == number
    assert message.encode(errors="replace").decode().startswith(result["message"].removesuffix("...")[:20])


def test_a_large_configuration_is_left_out_before_anything_is_cut(tmp_path: Path) -> None:
    report.write_result(str(tmp_path / "r"), {"ok": True, "config": "x" * 4096, "revision": "abc", "note": "n" * 3000})
    assert json.loads((tmp_path / "r").read_bytes()) == {"ok": True, "revision": "abc", "note": "n" * 3000}


def test_a_configuration_comes_back(tmp_path: Path) -> None:
    config = {"architectures": ["InternLM2ForCausalLM"], "rope_scaling": {"factor": 2.5}, "name": "ü"}
    encoded = report.encode_config(json.dumps(config, indent=4).encode())
    assert json.loads(gzip.decompress(base64.b64decode(encoded))) == config
    assert encoded == report.encode_config(json.dumps(config).encode())
