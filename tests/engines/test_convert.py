"""`convert` with the real `lmdeploy convert` of 0.9.2.post1 on the CPU, and what its own server code makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engines.environments import HERE, sources
from tests.engines.lite import IMAGE_COMMAND, Ended, Tools, config_of, old_lmdeploy, run_script

MODEL, OUTPUT = "models/hf--org--qwen2-chat/abc", "models/hf--org--qwen2-chat/abc--turbomind-tp2-1"
MAKE_MODEL = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from make_tiny_model import make_tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM
tokenizer = make_tokenizer()
torch.manual_seed(0)
# TurboMind of that version knows heads of 64 and 128 values.
model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), hidden_size=256, intermediate_size=256,
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False))
model.to(torch.bfloat16).save_pretrained(sys.argv[1])
tokenizer.save_pretrained(sys.argv[1])
"""


def line(root: Path, *more: str) -> list[str]:
    words = ["--root", str(root), "--output-root", str(root), "--model", MODEL, "--output", OUTPUT]
    return ["convert", *words, "--tool-version", "0.9.2.post1", "--trust-remote-code", *more]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tools, Ended]:
    folder = tmp_path_factory.mktemp("convert")
    root = folder / "volume"
    script = folder / "make.py"
    script.write_text(MAKE_MODEL)
    run_script(script, root / MODEL, HERE.parents[1] / "images" / "cpu-test-base")
    # The environment's own package is a newer one, which the image of that age does not have.
    tools = old_lmdeploy(folder)
    return root, tools, tools.run(*line(root, "--tensor", "2"), PYTHONPATH=_modules())


def _modules() -> str:
    return f"{sources('lmdeploy', '0.9.2.post1')}:{HERE.parents[1] / 'operator'}"


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


def test_the_server_of_that_version_knows_it_for_a_workspace(converted: tuple[Path, Tools, Ended]) -> None:
    root = converted[0]
    printed = run_script(HERE / "workers" / "convert_cpu.py", "--facts", root / OUTPUT, pythonpath=_modules())
    facts: dict[str, Any] = json.loads(printed.splitlines()[-1])
    assert facts == {
        "task": "llm",
        "backend": "turbomind",
        "architecture": "Qwen2ForCausalLM",
        "tensor": 2,
        "source": "ModelSource.WORKSPACE",
        "template": "qwen",
        "tokens": facts["tokens"],
    }
    assert facts["tokens"] > 0


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
