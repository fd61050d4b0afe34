"""Skip lists of quantized checkpoints, matched to the modules they name: published ones, and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_operator.models import (
    InvalidModelConfigError,
    ModelShape,
    Role,
    UnknownModelError,
    expected_bytes,
    parse_config,
    parse_config_text,
)

HERE = Path(__file__).parent
GIB = 1 << 30


def config(folder: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / folder / f"{name}.json").read_text())
    return found


def kept(shape: ModelShape, role: Role) -> tuple[int, int]:
    """Return how many matrices of a role stay in 16 bit, and how many there are."""
    pieces = [piece for piece in shape.tensors if piece.role is role and piece.linear]
    return sum(piece.count for piece in pieces if piece.kept), sum(piece.count for piece in pieces)


def skipping(model: str, method: dict[str, object]) -> ModelShape:
    return parse_config(config("configs", model) | {"quantization_config": method})


AWQ: dict[str, object] = {"quant_method": "awq", "bits": 4, "group_size": 128}
PACKED: dict[str, object] = {"weights": {"num_bits": 4, "group_size": 128, "type": "int"}, "targets": ["Linear"]}
COMPRESSED: dict[str, object] = {"quant_method": "compressed-tensors", "config_groups": {"group_0": PACKED}}


def test_shared_experts_do_not_take_the_routed_ones() -> None:
    shape = parse_config(config("field", "glm47-awq"))
    assert kept(shape, Role.EXPERT_GATE_UP)[0] == 0
    assert kept(shape, Role.GATE_UP) == (2 * 89, 2 * 92), "three dense layers are quantized, 89 shared experts are not"
    assert kept(shape, Role.QUERY)[0] == 0


def test_full_names_take_the_layers_that_they_name() -> None:
    shape = parse_config(config("field", "llama405-fp8"))
    assert kept(shape, Role.QUERY) == (126, 126)
    assert kept(shape, Role.GATE_UP) == (4, 252), "layers 0 and 125"
    assert kept(shape, Role.DOWN) == (2, 126)
    # vLLM 0.5.3 logged 57.752 GiB on each of eight ranks.
    assert expected_bytes(shape) / 8 / GIB == pytest.approx(57.752, rel=0.02)


def test_modelopt_fp8_is_known() -> None:
    shape = parse_config(config("field", "modelopt"))
    assert shape.quantization is not None
    assert (shape.quantization.method, shape.quantization.bits) == ("fp8", 8)


BESIDE = {
    "producer": {"name": "modelopt", "version": "0.29.0"},
    "quantization": {
        "quant_algo": "NVFP4",
        "group_size": 16,
        "kv_cache_quant_algo": "FP8",
        "exclude_modules": ["lm_head"],
    },
}


def test_quantization_that_only_hf_quant_config_tells_is_read() -> None:
    plain = {name: value for name, value in config("field", "modelopt").items() if name != "quantization_config"}
    shape = parse_config_text(json.dumps(plain), json.dumps(BESIDE))
    assert shape.quantization is not None
    assert (shape.quantization.method, shape.quantization.group_size) == ("nvfp4", 16)
    assert (shape.quantization.named, shape.quantization.kv_cache_bits) == ("modelopt", 8)
    assert Role.HEAD in shape.quantization.skipped


def test_config_json_wins_over_hf_quant_config() -> None:
    shape = parse_config_text(json.dumps(config("field", "modelopt")), json.dumps(BESIDE))
    assert shape.quantization is not None
    assert shape.quantization.method == "fp8"


@pytest.mark.parametrize("beside", [{}, {"quantization": None}, {"quantization": "FP8"}, {"quant_method": "awq"}])
def test_a_file_beside_that_tells_no_quantization_changes_nothing(beside: dict[str, Any]) -> None:
    plain = {name: value for name, value in config("field", "modelopt").items() if name != "quantization_config"}
    assert parse_config_text(json.dumps(plain), json.dumps(beside)) == parse_config(plain)


@pytest.mark.parametrize("beside", ["", "[]", "<html>", "{", "\x00", "1"])
def test_a_broken_file_beside_is_named(beside: str) -> None:
    plain = {name: value for name, value in config("field", "modelopt").items() if name != "quantization_config"}
    with pytest.raises(InvalidModelConfigError, match=r"hf_quant_config\.json"):
        parse_config_text(json.dumps(plain), beside)


@pytest.mark.parametrize(
    ("ignore", "role", "expected"),
    [
        (["post_attention_layernorm"], Role.QUERY, 0),
        (["re:.*self_attn.*"], Role.QUERY, 32),
        (["re:model.layers.(0|31).mlp.*"], Role.DOWN, 2),
        (["model.layers.1"], Role.DOWN, 1),
        (["model.layers.1.mlp"], Role.DOWN, 1),
        (["model.language_model.layers.3.mlp.down_proj"], Role.DOWN, 1),
        (["model.visual.blocks.0.attn.qkv"], Role.QUERY, 0),
        (["lm_head"], Role.HEAD, 1),
    ],
)
def test_names_and_expressions_of_compressed_tensors(ignore: list[str], role: Role, expected: int) -> None:
    assert kept(skipping("llama-3.1-8b", COMPRESSED | {"ignore": ignore}), role)[0] == expected


def test_awq_matches_parts_of_names_as_the_engine_does() -> None:
    shape = skipping("llama-3.1-8b", AWQ | {"modules_to_not_convert": ["layers.1.", "k_proj"]})
    assert kept(shape, Role.QUERY)[0] == 1
    assert kept(shape, Role.KEY_VALUE)[0] == 32 + 1
    within = skipping(
        "llama-3.1-8b", AWQ | {"modules_to_not_convert": ["model.layers.1.mlp.gate", "model.layers.2.mlp"]}
    )
    assert kept(within, Role.GATE_UP)[0] == 2 + 2, "the fused gate_up_proj has the first name as a part"
    parts = skipping("llama-3.1-8b", AWQ | {"modules_to_not_convert": ["model.layers.1"]})
    assert kept(parts, Role.QUERY)[0] == 11, "1 and 10 to 19"


@pytest.mark.parametrize("pattern", ["re:(a+)+$", "re:(.*.*)*x", "re:(", "re:" + ".*a" * 9, "re:" + "a" * 900])
def test_an_expression_that_cannot_be_matched_in_bounded_time_ends_as_unknown(pattern: str) -> None:
    with pytest.raises(UnknownModelError, match="skip list"):
        skipping("llama-3.1-8b", COMPRESSED | {"ignore": [pattern]})


def test_each_group_is_for_the_modules_it_targets() -> None:
    wide = {"weights": {"num_bits": 8, "type": "float", "symmetric": True}, "targets": ["re:.*self_attn.*"]}
    mixed = skipping("llama-3.1-8b", COMPRESSED | {"config_groups": {"a": PACKED | {"targets": ["Linear"]}, "b": wide}})
    bits = {piece.role: piece.how.bits for piece in mixed.tensors if piece.how is not None}
    assert bits == {Role.QUERY: 8, Role.KEY_VALUE: 8, Role.ATTENTION_OUTPUT: 8}
    assert mixed.quantization is not None
    assert mixed.quantization.bits == 4


def test_a_group_for_experts_alone_leaves_the_rest_in_16_bit() -> None:
    only = {"a": PACKED | {"targets": ["re:.*experts.*"]}}
    shape = skipping("qwen3-30b-a3b", COMPRESSED | {"config_groups": only})
    assert {piece.role for piece in shape.tensors if piece.linear and not piece.kept} == {
        Role.EXPERT_GATE_UP,
        Role.EXPERT_DOWN,
    }


def test_more_groups_than_are_read_end_as_unknown() -> None:
    with pytest.raises(UnknownModelError, match="17 config_groups"):
        skipping("llama-3.1-8b", COMPRESSED | {"config_groups": {str(i): PACKED for i in range(17)}})
