"""What `convert` refuses, and what its output tells."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from llm_operator.modeltools import convert
from llm_operator.modeltools.convert import LAST_VERSION, Conversion, check
from llm_operator.modeltools.report import Progress, ToolError

CONFIG: dict[str, Any] = {"architectures": ["InternLM2ForCausalLM"], "num_attention_heads": 32}
AWQ = {**CONFIG, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}


def test_the_command_line() -> None:
    hf = convert.convert_command(Conversion("internlm2", 2), Path("/m"), Path("/w"))
    assert " ".join(hf) == "lmdeploy convert internlm2 /m --dst-path /w --tp 2 --model-format hf"
    awq = convert.convert_command(Conversion("internlm2", 1, "awq"), Path("/m"), Path("/w"))
    line = "lmdeploy convert internlm2 /m --dst-path /w --tp 1 --model-format awq --group-size 128"
    assert " ".join(awq) == line


@pytest.mark.parametrize(
    ("config", "conversion", "version", "words"),
    [
        (CONFIG, Conversion("m", 2), "0.10.0", "reads Hugging Face's format directly"),
        (CONFIG, Conversion("m", 3), LAST_VERSION, "1, 2, 4, 8 ... GPUs, not 3"),
        (CONFIG, Conversion("m", 0), LAST_VERSION, "not 0"),
        (CONFIG, Conversion("m", 64), LAST_VERSION, "32 attention heads cannot be spread over 64"),
        (CONFIG, Conversion("m", 1, "awq"), LAST_VERSION, "no AWQ weights"),
        (AWQ, Conversion("m", 1, "hf"), LAST_VERSION, "quantized with awq"),
        (AWQ, Conversion("m", 1, "awq", 64), LAST_VERSION, "groups of 128 only, not 64"),
    ],
)
def test_what_cannot_be_converted(config: dict[str, Any], conversion: Conversion, version: str, words: str) -> None:
    with pytest.raises(ToolError) as told:
        check(config, conversion, version)
    assert (told.value.reason, told.value.retry) == ("RecipeRefused", False)
    assert words in str(told.value)


def test_an_image_of_another_version_is_named_and_not_the_version() -> None:
    with pytest.raises(ToolError) as refused:
        check(CONFIG, Conversion("m", 1), "0.18.0", LAST_VERSION)
    assert "holds LMDeploy 0.18.0" in str(refused.value)
    assert "set engine.image" in str(refused.value)
    with pytest.raises(ToolError, match=f"engine.version to {LAST_VERSION}"):
        check(CONFIG, Conversion("m", 1), "0.18.0", "0.18.0")


def test_what_can() -> None:
    check(CONFIG, Conversion("m", 8), LAST_VERSION)
    check(CONFIG, Conversion("m", 1), "0.9.1")
    check(AWQ, Conversion("m", 2, "awq"), LAST_VERSION)


def test_the_bar_becomes_percent_and_time_left() -> None:
    stream = io.StringIO()
    clock = iter(range(0, 100, 3))
    read = convert.line_reader(Progress(stream, lambda: float(next(clock))))
    read("Convert to turbomind format:   0%|          | 0/32 [00:00<?, ?it/s]")
    read("*** splitting layers.0.attention.w_qkv.weight, shape=torch.Size([4096, 6144]), split_dim=-1, split_num=2")
    read("Convert to turbomind format:  50%|█████     | 16/32 [01:02<01:05,  3.9s/it]")
    read("Convert to turbomind format:  75%|███████▌  | 24/32 [1:00:00<1:02:03, 99s/it]")
    told = [json.loads(line)["progress"] for line in stream.getvalue().splitlines()]
    assert told == [
        {"stage": "Converting", "percent": 0, "detail": "layer 0 of 32"},
        {"stage": "Converting", "percent": 50, "secondsLeft": 65, "detail": "layer 16 of 32"},
        {"stage": "Converting", "percent": 75, "secondsLeft": 3723, "detail": "layer 24 of 32"},
    ]


def test_the_type_of_the_weights_is_read_from_the_workspace(tmp_path: Path) -> None:
    folder = tmp_path / convert.WEIGHTS
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model_config:\n  tune_layer_num: 1\n  weight_type: bfloat16\n")
    (folder / "norm.weight").write_bytes(b"12345678")
    assert convert.weight_type(tmp_path) == "bfloat16"
    assert convert.weight_bytes(tmp_path) == 8
