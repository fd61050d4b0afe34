"""Weight files held against config.json."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_operator.models import (
    Role,
    UnknownModelError,
    completed,
    contradiction,
    expected_bytes,
    parse_config,
    parse_config_text,
)
from llm_operator.models.known.by_files import BY_FILES

CONFIGS = Path(__file__).parent / "configs"


def test_a_published_checkpoint_is_expected_to_the_byte() -> None:
    config = json.loads((CONFIGS / "internlm2_5-7b-chat.json").read_text())
    assert expected_bytes(parse_config(config)) == 15_475_417_088, "tensors of its weight files, measured"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_files_of_the_size_that_is_expected_contradict_nothing(path: Path) -> None:
    shape = parse_config(json.loads(path.read_text()))
    assert contradiction(shape, expected_bytes(shape)) is None
    assert contradiction(shape, expected_bytes(shape) * 104 // 100) is None, "layers that config.json does not count"
    told = contradiction(shape, expected_bytes(shape) * 17 // 10)
    assert told is not None
    assert f"{shape.parameters:,}" in told
    assert ("another model" in told) == (shape.quantization is None), "our reading of a quantization may be wrong"


def test_weights_quantized_without_saying_so_are_told() -> None:
    config = json.loads((CONFIGS / "qwen2.5-7b-instruct-awq.json").read_text())
    quantized = parse_config(config)
    silent = replace(quantized, quantization=None)
    assert contradiction(silent, expected_bytes(quantized)) is not None
    assert contradiction(quantized, expected_bytes(silent)) is not None


def test_wider_storage_and_a_second_copy_of_the_head_are_no_contradiction() -> None:
    shape = parse_config(json.loads((CONFIGS / "qwen2.5-0.5b.json").read_text()))
    assert shape.tied_embeddings
    head = shape.vocabulary_size * shape.hidden_size
    for stored in (4 * shape.parameters, 2 * (shape.parameters + head), 4 * (shape.parameters + head)):
        assert contradiction(shape, stored) is None


def test_what_engines_do_not_load_is_no_contradiction() -> None:
    whole = parse_config(json.loads((CONFIGS / "qwen2.5-7b-instruct.json").read_text()))
    shape = replace(whole, unserved=1_000_000_000)
    stored = 2 * (shape.parameters + 950_000_000)
    assert contradiction(whole, stored) is not None
    assert contradiction(shape, stored) is None
    assert contradiction(shape, 2 * (shape.parameters + 3_200_000_000)) is not None


QWEN3 = json.loads((CONFIGS / "qwen3-8b.json").read_text())
DECODER = {name: value for name, value in QWEN3.items() if name != "architectures"}
VISION = {"vision_config": {"hidden_size": 1152, "num_hidden_layers": 27}}


def seeing(architecture: str, text: str = "text_config") -> dict[str, Any]:
    return {"architectures": [architecture], "model_type": "not_known", text: DECODER, **VISION}


@pytest.mark.parametrize(
    "config",
    [
        seeing("Ovis2_5"),
        seeing("Ovis", "llm_config"),
        seeing("OpenCUAForConditionalGeneration"),
        {**QWEN3, **VISION, "architectures": ["KeyeVL1_5ForConditionalGeneration"], "model_type": "KeyeVL1_5"},
    ],
    ids=lambda config: str(config["architectures"][0]),
)
def test_an_encoder_that_was_not_read_is_counted_by_the_files(config: dict[str, Any]) -> None:
    decoder = parse_config(QWEN3)
    found = parse_config(config)
    assert (found.attention, expected_bytes(found)) == (decoder.attention, expected_bytes(decoder))
    whole = completed(found, expected_bytes(decoder) + 900_000_000)
    assert whole.parameters - decoder.parameters == 450_000_000
    assert whole.tensors[-1].role is Role.REPLICATED
    assert contradiction(whole, expected_bytes(decoder) + 900_000_000) is None
    assert completed(whole, None) is whole


@pytest.mark.parametrize("stored", [None, 0, 1 << 30, 1 << 45])
def test_files_that_hold_no_such_model_give_no_plan(stored: int | None) -> None:
    found = parse_config(seeing("Ovis2_5"))
    with pytest.raises(UnknownModelError, match="counted by the size of the weight files"):
        completed(found, stored)


def test_a_model_whose_tensors_are_known_stays_as_it_is() -> None:
    shape = parse_config(QWEN3)
    assert completed(shape, 1) is shape


@pytest.mark.parametrize("architecture", BY_FILES)
def test_one_without_its_decoders_sizes_is_told(architecture: str) -> None:
    with pytest.raises(ValueError, match=r"lacks|text part|whose|unknown"):
        parse_config_text(json.dumps({"architectures": [architecture], "model_type": "x"}))
