"""Weight files held against config.json."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llm_operator.models import contradiction, expected_bytes, parse_config

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
