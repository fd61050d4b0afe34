"""`quantize` with the real `lmdeploy lite auto_awq` on the CPU; out-of-memory and hanging with one that is a fake."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_operator.manifests.tools import variables
from llm_operator.settings import ToolSettings
from tests.engines.environments import HERE, REPOSITORY
from tests.engines.lite import (
    FAKE_COMMAND,
    IMAGE_COMMAND,
    Ended,
    Tools,
    calls,
    config_of,
    datasets_hub,
    finished,
    run_script,
)
from tests.waiting import eventually

MODEL, OUTPUT = "models/hf--org--tiny/abc", "models/hf--org--tiny/abc--awq-w4-g128-1"
SIZES = ("--samples", "4", "--sequence-length", "256")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as a hub has it, with a licence, and with the marker that `fetch` leaves."""
    folder = tmp_path_factory.mktemp("original") / "abc"
    run_script(REPOSITORY / "images" / "cpu-test-base" / "make_tiny_model.py", folder)
    (folder / "LICENSE").write_text("Do what you like.")
    (folder / "pytorch_model.bin").write_bytes(b"not to be copied")
    files = {path.name: {"bytes": path.stat().st_size, "sha256": ""} for path in folder.iterdir()}
    marker = {
        "version": 1,
        "source": {"kind": "huggingFace", "repository": "org/tiny"},
        "revision": "abc",
        "files": files,
    }
    (folder / ".llm-operator.json").write_text(json.dumps(marker))
    return folder


def volume(folder: Path, original: Path) -> Path:
    """A cache volume that holds the original."""
    root = folder / "volume"
    shutil.copytree(original, root / MODEL)
    return root


def words(root: Path, *more: str) -> list[str]:
    return ["quantize", "--root", str(root), "--output-root", str(root), "--model", MODEL, "--output", OUTPUT, *more]


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory, original: Path) -> tuple[Path, Ended]:
    """One real run with the text shipped with the tools, measured against a limit that it exceeds."""
    folder = tmp_path_factory.mktemp("text")
    root = volume(folder, original)
    limit = ("--evaluate", "--max-perplexity-increase-percent=-90", "--quality-policy", "Warn")
    return root, Tools(folder, IMAGE_COMMAND).run(*words(root, "--dataset", "Text", *SIZES, *limit))


@pytest.fixture(scope="module")
def without_hub(
    tmp_path_factory: pytest.TempPathFactory, original: Path
) -> Iterator[tuple[subprocess.Popen[str], Path, Path]]:
    """The tools beside the fake with a hub that is not there; the result; the state.

    They wait for it for half a minute, in which other tests run: it is started before the first of them.
    """
    folder = tmp_path_factory.mktemp("without-hub")
    variables = {"FAKE_LMDEPLOY_SCRIPT": "done", "FAKE_LMDEPLOY_STATE": str(folder)}
    process, result = Tools(folder, FAKE_COMMAND).start(*words(volume(folder, original)), **variables)
    yield process, result, folder
    process.kill()
    process.communicate()


@pytest.mark.usefixtures("without_hub")
def test_own_text_calibrates_offline_and_the_result_says_what_was_done(text_run: tuple[Path, Ended]) -> None:
    root, ended = text_run
    assert ended.code == 0, ended.output
    result = ended.result
    assert result["ok"] is True
    assert result["directory"] == OUTPUT
    assert result["revision"] == "abc"
    assert result["toolVersion"] == "0.18.0"
    assert result["recipe"] == {
        "method": "AWQ",
        "bits": 4,
        "groupSize": 128,
        "dataset": "Text",
        "samples": 4,
        "sequenceLength": 256,
        "batchSize": 1,
        "searchScale": False,
    }
    config = config_of(result)
    assert config["quantization_config"] == {
        "quant_method": "awq",
        "version": "gemm",
        "bits": 4,
        "group_size": 128,
        "zero_point": True,
    }
    files = {path.name for path in (root / OUTPUT).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "LICENSE", ".llm-operator.json"} <= files
    assert not {name for name in files if name.endswith((".pth", ".bin"))}
    assert result["bytes"] == sum(path.stat().st_size for path in (root / OUTPUT).iterdir())
    assert result["weightsBytes"] < (root / OUTPUT / "model.safetensors").stat().st_size
    # Engines run as another user than the Job.
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044 for path in (root / OUTPUT).iterdir())
    assert {path.name for path in (root / OUTPUT).parent.iterdir()} == {
        "abc",
        Path(OUTPUT).name,
        f"{Path(OUTPUT).name}.lock",
    }


def test_its_progress_goes_through_the_stages(text_run: tuple[Path, Ended]) -> None:
    progress = text_run[1].progress
    stages = list(dict.fromkeys(line["stage"] for line in progress))
    assert stages == ["Calibrating", "Quantizing", "Evaluating"]
    assert all(0 <= line["percent"] <= 100 for line in progress if "percent" in line)
    assert any("4 samples of 256 tokens from Text" in line.get("detail", "") for line in progress)


def test_its_quality_is_measured_and_the_limit_only_warned_of(text_run: tuple[Path, Ended]) -> None:
    quality = text_run[1].result["quality"]
    numbers = {name: float(quality[name]) for name in quality if name.startswith("perplexity")}
    assert all(re.fullmatch(r"-?\d+\.\d+", quality[name]) for name in numbers)
    before, after = numbers["perplexityOriginal"], numbers["perplexityQuantized"]
    # A model of two layers that knows one sentence: it guesses, but not worse than a die with 293 sides would by far.
    assert 1 < before < 1500
    assert numbers["perplexityIncreasePercent"] == pytest.approx(100 * (after / before - 1), abs=0.1)
    assert abs(numbers["perplexityIncreasePercent"]) < 25
    # It answers every prompt with its sentence; four bits must not take that away.
    assert 80 <= quality["agreementPercent"] <= 100
    assert quality["tokens"] > 1000
    assert quality["exceeded"] is True


def test_the_marker_keeps_the_quality_and_the_next_one_does_nothing_again(
    text_run: tuple[Path, Ended], tmp_path: Path
) -> None:
    root, first = text_run
    marker = json.loads((root / OUTPUT / ".llm-operator.json").read_text())
    assert marker["recipe"] == first.result["recipe"]
    assert marker["source"] == {"kind": "huggingFace", "repository": "org/tiny"}
    assert "exceeded" not in marker["quality"]
    tools = Tools(tmp_path, FAKE_COMMAND)
    again = tools.run(*words(root, "--dataset", "Text", *SIZES, "--evaluate"), FAKE_LMDEPLOY_STATE=str(tmp_path / "no"))
    assert again.code == 0, again.output
    assert again.progress == []
    quality = {name: value for name, value in first.result["quality"].items() if name != "exceeded"}
    assert again.result == {**first.result, "quality": quality}
    # What is published for one is still too bad for another who blocks.
    block = ("--max-perplexity-increase-percent=-90", "--quality-policy", "Block")
    blocked = tools.run(*words(root, "--dataset", "Text", *SIZES, *block), FAKE_LMDEPLOY_STATE=str(tmp_path / "no"))
    assert (blocked.code, blocked.result["reason"]) == (3, "QualityTooLow")
    assert (root / OUTPUT / "config.json").exists()


MAKE_EXPERTS = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from make_tiny_model import make_tokenizer
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
tokenizer = make_tokenizer()
torch.manual_seed(0)
model = Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256,
    moe_intermediate_size=128, num_experts=4, num_experts_per_tok=2, num_hidden_layers=2, num_attention_heads=4,
    head_dim=32, num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True))
model.to(torch.bfloat16).save_pretrained(sys.argv[1])
tokenizer.save_pretrained(sys.argv[1])
"""


def test_without_data_the_weights_are_the_original_s_rounded_also_of_experts(tmp_path: Path) -> None:
    """transformers keeps experts in one tensor, checkpoints one by one; this family cannot be calibrated at all."""
    root, script = tmp_path / "volume", tmp_path / "make.py"
    script.write_text(MAKE_EXPERTS)
    run_script(script, root / MODEL, REPOSITORY / "images" / "cpu-test-base")
    tools = Tools(tmp_path, IMAGE_COMMAND)
    refused = tools.run(*words(root, "--dataset", "Text"))
    assert (refused.code, refused.result["reason"]) == (3, "RecipeRefused")
    assert "calibration.dataset to None" in refused.result["message"]
    ended = tools.run(*words(root, "--dataset", "None", "--evaluate"))
    assert ended.code == 0, ended.output
    assert ended.result["recipe"] == {"method": "AWQ", "bits": 4, "groupSize": 128, "dataset": "None", "samples": 0}
    assert "revision" not in ended.result
    assert abs(float(ended.result["quality"]["perplexityIncreasePercent"])) < 5
    checked = json.loads(run_script(HERE / "workers" / "awq_check.py", root / MODEL, root / OUTPUT))
    assert checked["matrices"] == 2 * (4 + 4 * 3)
    assert checked["worst"] < 0.65, checked
    assert checked["wrong"] > 2, checked


@pytest.fixture
def fake(tmp_path: Path, text_run: tuple[Path, Ended]) -> tuple[Tools, Path, dict[str, str]]:
    """The tools beside the fake, which leaves the real run's model where it succeeds; its state; its variables."""
    state = tmp_path / "state"
    state.mkdir()
    output = tmp_path / "output"
    shutil.copytree(text_run[0] / OUTPUT, output, ignore=shutil.ignore_patterns(".llm-operator.json", "LICENSE"))
    return (
        Tools(tmp_path, FAKE_COMMAND),
        state,
        {"FAKE_LMDEPLOY_STATE": str(state), "FAKE_LMDEPLOY_OUTPUT": str(output)},
    )


Fake = tuple[Tools, Path, dict[str, str]]
LADDER = ("--dataset", "Text", "--samples", "20", "--sequence-length", "1024", "--batch-size", "2")


def _tried(state: Path) -> list[tuple[str, ...]]:
    """Samples, sequence length and batch size of the fake's calls."""
    names = ("--calib-samples", "--calib-seqlen", "--batch-size")
    return [tuple(call[call.index(name) + 1] for name in names if name in call) for call in calls(state)]


def test_out_of_memory_goes_down_the_ladder(tmp_path: Path, original: Path, fake: Fake) -> None:
    tools, state, variables = fake
    root = volume(tmp_path, original)
    ended = tools.run(*words(root, *LADDER), FAKE_LMDEPLOY_SCRIPT="gpu,gpu,killed,done", **variables)
    assert ended.code == 0, ended.output
    assert _tried(state) == [("20", "1024", "2"), ("20", "1024", "1"), ("16", "1024", "1"), ("16", "512", "1")]
    assert ended.result["recipe"]["samples"] == 16
    assert ended.result["recipe"]["sequenceLength"] == 512
    assert [(entry["samples"], entry["failure"]) for entry in ended.result["attempts"]] == [
        (20, "GPUOutOfMemory"),
        (20, "GPUOutOfMemory"),
        (16, "HostMemoryExhausted"),
    ]
    assert "16 samples of 512 tokens" in ended.result["message"]
    details = [line.get("detail", "") for line in ended.progress]
    assert any(detail.startswith("GPUOutOfMemory with 20 samples of 1024 tokens") for detail in details)
    assert any("try 4 of 5" in detail for detail in details)


def test_when_nothing_helps_it_is_final_and_nothing_stays(tmp_path: Path, original: Path, fake: Fake) -> None:
    tools, state, variables = fake
    root = volume(tmp_path, original)
    ended = tools.run(*words(root, "--dataset", "None"), FAKE_LMDEPLOY_SCRIPT="gpu", **variables)
    assert (ended.code, ended.result["reason"], ended.result["retry"]) == (3, "GPUOutOfMemory", False)
    assert len(calls(state)) == 1
    broken = tools.run(*words(root, "--dataset", "None"), FAKE_LMDEPLOY_SCRIPT="broken", **variables)
    assert (broken.code, broken.result["reason"]) == (3, "QuantizationFailed")
    assert "ValueError: something else" in broken.result["message"]
    assert {path.name for path in (root / MODEL).parent.iterdir()} == {"abc", f"{Path(OUTPUT).name}.lock"}


def test_a_pod_that_is_asked_to_stop_resumes_and_one_that_is_killed_goes_on_lower(
    tmp_path: Path, original: Path, fake: Fake
) -> None:
    tools, state, variables = fake
    root = volume(tmp_path, original)
    line = words(root, *LADDER)
    process, _ = tools.start(*line, FAKE_LMDEPLOY_SCRIPT="hang", **variables)
    eventually((state / "hanging").exists, why="the tool hangs")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 143, output
    (state / "hanging").unlink()

    # The drained pod's rung is tried again; then the kernel ends the whole pod.
    process, _ = tools.start(*line, FAKE_LMDEPLOY_SCRIPT="hang", **variables)
    eventually((state / "hanging").exists, why="the tool hangs")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)

    ended = tools.run(*line, FAKE_LMDEPLOY_SCRIPT="hang,hang,done", **variables)
    assert ended.code == 0, ended.output
    assert _tried(state) == [("20", "1024", "2"), ("20", "1024", "2"), ("20", "1024", "1")]
    assert [entry["failure"] for entry in ended.result["attempts"]] == ["HostMemoryExhausted"]
    assert not list((root / MODEL).parent.glob("*.partial*"))


def test_block_publishes_nothing_and_keeps_the_weights_for_another_limit(
    tmp_path: Path, original: Path, fake: Fake
) -> None:
    tools, state, variables = fake
    root = volume(tmp_path, original)
    line = words(root, "--dataset", "None", "--quality-policy", "Block", "--max-perplexity-increase-percent")
    blocked = tools.run(*line, "-90", FAKE_LMDEPLOY_SCRIPT="done", **variables)
    assert (blocked.code, blocked.result["reason"], blocked.result["retry"]) == (3, "QualityTooLow", False)
    assert "searchScale" in blocked.result["message"]
    assert not (root / OUTPUT).exists()

    allowed = tools.run(*line, "90", FAKE_LMDEPLOY_SCRIPT="broken", **variables)
    assert allowed.code == 0, allowed.output
    assert "exceeded" not in allowed.result["quality"]
    assert len(calls(state)) == 1
    assert not list((root / MODEL).parent.glob("*.partial*"))


WIKITEXT = [f" = Chapter {number} = \n" if number % 3 else "" for number in range(200)]


def test_a_named_data_set_is_fetched_from_the_hub(tmp_path: Path, original: Path) -> None:
    root, own_volume = volume(tmp_path, original), tmp_path / "tmp"
    own_volume.mkdir()
    with datasets_hub(tmp_path, WIKITEXT) as hub:
        pod = variables(ToolSettings(environment={"HF_ENDPOINT": hub.url}))
        given = {item["name"]: item["value"].replace("/tmp", str(own_volume), 1) for item in pod}
        tools = Tools(tmp_path, IMAGE_COMMAND)
        ended = tools.run(*words(root, "--dataset", "WikiText2", *SIZES), TMPDIR=str(own_volume), **given)
    assert ended.code == 0, ended.output
    assert ended.result["recipe"]["dataset"] == "WikiText2"
    assert ended.result["recipe"]["samples"] == 4
    assert "message" not in ended.result
    assert json.loads((root / OUTPUT / ".llm-operator.json").read_text())["recipe"] == ended.result["recipe"]
    assert hub.sent["datasets/Salesforce/wikitext/wikitext-2-raw-v1/train-00000-of-00001.parquet"] > 0
    # A pod's root is read-only: the hub's client keeps its copies on the volume at /tmp.
    assert {"datasets", "hub"} <= {path.name for path in (own_volume / "huggingface").iterdir()}


def test_a_data_set_that_cannot_be_loaded_is_told_before_the_model_is(
    without_hub: tuple[subprocess.Popen[str], Path, Path],
) -> None:
    process, result, state = without_hub
    ended = finished(process, result)
    assert (ended.code, ended.result["reason"]) == (3, "CalibrationDataMissing"), ended.output
    assert "WikiText2" in ended.result["message"]
    assert "Give the Job a way to the hub (HF_ENDPOINT, HTTPS_PROXY)" in ended.result["message"]
    assert "calibration.dataset to Text" in ended.result["message"]
    assert calls(state) == []
