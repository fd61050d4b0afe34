"""`convert` with the real `lmdeploy convert` of 0.9.2.post1 on the CPU, and what its own server makes of the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engines.environments import HERE, REPOSITORY, sources
from tests.engines.lite import CONVERT_COMMAND, IMAGE_COMMAND, Ended, Tools, config_of, old_lmdeploy, run_script

MAKE_MODEL = REPOSITORY / "images" / "cpu-test-base" / "make_tiny_model.py"
MODEL, OUTPUT = "models/hf--org--qwen2-chat/abc", "models/hf--org--qwen2-chat/abc--turbomind-tp2-1"


def line(root: Path, *more: str) -> list[str]:
    words = ["--root", str(root), "--output-root", str(root), "--model", MODEL, "--output", OUTPUT]
    return ["convert", *words, "--tool-version", "0.9.2.post1", "--trust-remote-code", *more]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tools, Ended]:
    folder = tmp_path_factory.mktemp("convert")
    root = folder / "volume"
    run_script(MAKE_MODEL, root / MODEL)
    # The environment's own package is a newer one, which the image of that age does not have.
    tools = old_lmdeploy(folder)
    return root, tools, tools.run(*line(root, "--tensor", "2"), PYTHONPATH=_modules())


def _modules() -> str:
    return f"{sources('lmdeploy', '0.9.2.post1')}:{REPOSITORY / 'operator'}"


def test_the_workspace_is_complete_and_told(converted: tuple[Path, Tools, Ended]) -> None:
    root, _, ended = converted
    assert ended.code == 0, ended.output
    result = ended.result
    assert result["directory"] == OUTPUT
    assert result["conversion"] == {"tensor": 2, "modelFormat": "hf", "weightType": "bfloat16"}
    assert result["toolVersion"] == "0.9.2.post1"
    # What a planner needs to know is the original's.
    assert config_of(result)["architectures"] == ["Qwen2ForCausalLM"]
    original = json.loads((root / MODEL / "config.json").read_text())
    assert config_of(result) == original
    weights = [path for path in (root / OUTPUT / "triton_models" / "weights").iterdir() if path.name != "config.yaml"]
    assert result["weightsBytes"] == sum(path.stat().st_size for path in weights)
    # Every matrix lies there once, in two halves; norms and biases are doubled.
    model_bytes = (root / MODEL / "model.safetensors").stat().st_size
    assert model_bytes < result["weightsBytes"] < model_bytes * 1.1
    assert not list((root / MODEL).parent.glob("*.partial*"))
    assert [stage["stage"] for stage in ended.progress][-1] == "Converting"
    assert ended.progress[-1]["percent"] == 100


def test_its_own_server_loads_it_and_every_weight_is_in_it(converted: tuple[Path, Tools, Ended]) -> None:
    root = converted[0]
    check = HERE / "workers" / "workspace_check.py"
    printed = run_script(check, root / MODEL, root / OUTPUT, pythonpath=f"{CONVERT_COMMAND.parent}:{_modules()}")
    told: dict[str, Any] = json.loads(printed.splitlines()[-1])
    assert told["server"] == {
        "task": "llm",
        "backend": "turbomind",
        "architecture": "Qwen2ForCausalLM",
        "tensor": 2,
        "source": "ModelSource.WORKSPACE",
        "template": "qwen",
        "tokens": told["server"]["tokens"],
    }
    assert told["server"]["tokens"] > 0
    assert told["refusals"] == {"1": "tp size mismatch (2 vs 1)", "2": ""}
    assert told["differing"] == []


def test_it_is_not_made_twice_and_not_by_a_release_that_cannot(
    converted: tuple[Path, Tools, Ended], tmp_path: Path
) -> None:
    root, tools, first = converted
    again = tools.run(*line(root, "--tensor", "2"), PYTHONPATH=_modules())
    assert (again.code, again.progress) == (0, [])
    assert again.result == first.result
    newer = Tools(tmp_path, IMAGE_COMMAND).run(*line(root, "--tensor", "2", "--output", f"{OUTPUT}-newer"))
    assert (newer.code, newer.result["reason"]) == (3, "RecipeRefused")
    assert "0.9.2.post1" in newer.result["message"]
