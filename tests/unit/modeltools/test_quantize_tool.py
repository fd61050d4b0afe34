"""The engine's command: its words, what its output tells, and why it failed."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_operator.modeltools import awq, lmdeploy_tool
from llm_operator.modeltools.lmdeploy_tool import Ended
from llm_operator.modeltools.recipe import Recipe
from llm_operator.modeltools.report import Progress, Reason, ToolError

MODEL, OUTPUT = Path("/models/m"), Path("/models/m.partial")


def test_the_command_line() -> None:
    full = Recipe(dataset="OpenPlatypus", samples=64, batch_size=2, search_scale=True, trust_remote_code=True)
    assert " ".join(awq.quantize_command(full, MODEL, OUTPUT, "0.18.0")) == (
        "lmdeploy lite auto_awq /models/m --work-dir /models/m.partial --calib-samples 64 "
        "--calib-dataset open-platypus --calib-seqlen 2048 --batch-size 2 --search-scale --w-bits 4 "
        "--w-group-size 128 --trust-remote-code"
    )
    without = awq.quantize_command(Recipe(samples=0, trust_remote_code=True), MODEL, OUTPUT, "0.12.3", "float16")
    assert " ".join(without) == (
        "lmdeploy lite auto_awq /models/m --work-dir /models/m.partial --calib-samples 0 --w-bits 4 --w-group-size 128 "
        "--dtype float16"
    )


def progress_of(lines: list[str], recipe: Recipe, layers: int | None = 4) -> list[dict[str, Any]]:
    """What is reported when a second passes with every line."""
    stream, clock = io.StringIO(), iter(range(0, 10_000, 1))
    now = [0.0]

    def tick() -> float:
        return now[0]

    reader = awq.OutputReader(Progress(stream, lambda: float(next(clock) * 3)), layers, "try 1 of 7", recipe, tick)
    for line in lines:
        now[0] += 1
        reader.line(line)
    return [json.loads(line)["progress"] for line in stream.getvalue().splitlines()]


def test_layers_become_percent_and_time_left() -> None:
    told = progress_of(
        [
            "Move model.layers.0 to CPU.",
            "Loading calibrate dataset ...",
            "model.layers.0, samples: 8, max gpu memory: 4.49 GB",
            "model.layers.1, samples: 8, max gpu memory: 4.49 GB",
            "model.layers.3, samples: 8, max gpu memory: 4.49 GB",
            "model.layers.0 smooth weight done. max gpu memory: 4.49 GB",
            "model.layers.2.self_attn.q_proj weight packed.",
            "some other line about model.layers.3",
            "model.layers.3.mlp.gate weight skipped.",
        ],
        Recipe(),
    )
    assert [(line["stage"], line.get("percent"), line.get("secondsLeft")) for line in told] == [
        ("Calibrating", None, None),
        ("Calibrating", None, None),
        ("Calibrating", 25, 3),
        ("Calibrating", 50, 2),
        ("Calibrating", 100, 0),
        ("Quantizing", 0, None),
        ("Quantizing", 50, 1),
        ("Quantizing", 75, 1),
    ]
    assert all(line["detail"].endswith("; try 1 of 7") for line in told)


def test_without_data_and_without_a_known_number_of_layers() -> None:
    told = progress_of(["model.layers.2.mlp.up_proj weight packed."], Recipe(samples=0), None)
    assert [line["stage"] for line in told] == ["Quantizing", "Quantizing"]
    assert "percent" not in told[1]


@pytest.mark.parametrize(
    ("code", "tail", "memory"),
    [
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "GPUOutOfMemory"),
        (1, "torch.cuda.OutOfMemoryError: CUDA out of memory", "GPUOutOfMemory"),
        (1, "RuntimeError: CUDA error: out of memory", "GPUOutOfMemory"),
        (-9, "Move model.layers.1 to CPU.", "HostMemoryExhausted"),
        (137, "Killed", "HostMemoryExhausted"),
        (1, "RuntimeError: DefaultCPUAllocator: not enough memory: you tried to allocate 1 b", "HostMemoryExhausted"),
        (1, "MemoryError", "HostMemoryExhausted"),
        (1, "ValueError: no", None),
        (0, "it spoke of CUDA out of memory and went on", None),
    ],
)
def test_memory_is_told_from_other_failures(code: int, tail: str, memory: str | None) -> None:
    assert Ended(code, tail).memory == memory


@pytest.mark.parametrize(
    ("tail", "reason", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "DiskFull", "enlarge the claim"),
        ("ModuleNotFoundError: No module named 'datasets'", "CalibrationDataMissing", "images/lmdeploy"),
        ("RuntimeError: No CUDA GPUs are available", "QuantizationFailed", "device plugin"),
        ("ValueError: ... Please pass the argument `trust_remote_code=True`", "RecipeRefused", "trustRemoteCode"),
        ("RuntimeError: of X are not supported. The supported model types are", "UnsupportedArchitecture", "as it is"),
        (
            "KeyError: 'x'\nDuring handling\nRuntimeError: shape\n  trailing",
            "QuantizationFailed",
            "RuntimeError: shape",
        ),
    ],
)
def test_causes_are_told_with_what_to_do(tail: str, reason: Reason, words: str) -> None:
    error = lmdeploy_tool.failure(Ended(1, tail), "QuantizationFailed")
    assert error.reason == reason
    assert words in str(error)
    assert error.retry is False


def test_what_may_be_the_node_s_fault_is_worth_another_pod() -> None:
    assert lmdeploy_tool.failure(Ended(1, "RuntimeError: CUDA error: an illegal memory access"), "ToolFailed").retry
    assert lmdeploy_tool.failure(Ended(-11, ""), "ToolFailed").retry
    assert (
        str(lmdeploy_tool.failure(Ended(-11, ""), "ToolFailed")) == "`lmdeploy` ended with signal 11: it said nothing"
    )


def program(folder: Path, text: str) -> dict[str, str]:
    """An environment in which `lmdeploy` is a fake of some lines."""
    path = folder / "lmdeploy"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return {**os.environ, "PATH": str(folder)}


def test_output_is_passed_on_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = program(
        tmp_path,
        "import sys\nprint('bar 1%\\rbar 2%\\rdone')\nprint('bad', file=sys.stderr)\nprint('\\xe4')\nsys.exit(7)",
    )
    seen: list[str] = []
    ended = lmdeploy_tool.run(["lmdeploy", "lite"], cwd=tmp_path, env={**env, "PYTHONUTF8": "1"}, on_line=seen.append)
    assert ended.code == 7
    assert set(seen) == {"bar 1%", "bar 2%", "done", "bad", "ä"}
    assert set(ended.tail.splitlines()) == {"done", "bad", "ä"}
    assert set(capsys.readouterr().out.splitlines()) == {"done", "bad", "ä"}


def test_an_image_without_lmdeploy_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no command `lmdeploy`"):
        lmdeploy_tool.run(["lmdeploy"], cwd=tmp_path, env={"PATH": str(tmp_path)}, on_line=print)


def test_the_environment_of_a_pod_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "missing"))
    monkeypatch.delenv("USER", raising=False)
    given = lmdeploy_tool.environment(tmp_path, {"MORE": "1"})
    assert (given["HOME"], given["USER"], given["MORE"]) == (str(tmp_path), "llm", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert lmdeploy_tool.environment(tmp_path / "x", {})["HOME"] == str(tmp_path)


def test_what_was_written_can_be_read_by_others(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir(mode=0o700)
    (tmp_path / "model" / "weights").touch(mode=0o600)
    lmdeploy_tool.open_to_readers(tmp_path / "model")
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o775
    assert (tmp_path / "model" / "weights").stat().st_mode & 0o777 == 0o664
