"""Decoders that only vLLM has code for, held against vLLM's own models (data/vllm_models.json; made by
`python -m tests.engines.vllm_models --write`): parameters, and what each layer keeps of a token or a sequence."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm_operator.engines.vllm.memory import VLLMMemory
from llm_operator.memory.kv_cache import layer_bytes_per_token
from llm_operator.models import ModelShape, parse_config
from llm_operator.models.known.newest import NEWEST
from llm_operator.planning import PlanRequest
from tests.support.engine_names import Engine
from tests.support.planning import card

MODELS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "vllm_models.json").read_text())


def kept(shape: ModelShape) -> Counter[tuple[int, int | None]]:
    """Bytes and window of each layer's token; of a state, bytes and -1."""
    engine, request = VLLMMemory(), PlanRequest(shape, Engine.VLLM, "0.33.0", card(80))
    found: Counter[tuple[int, int | None]] = Counter()
    for group in shape.attention:
        found[layer_bytes_per_token(engine, group, request, 1), group.window] += group.layers
    for states in shape.states:
        found[engine.state_bytes(states, request, 1), -1] += states.layers
    return found


@pytest.mark.parametrize("architecture", MODELS)
def test_parameters_and_caches_are_those_of_vllm(architecture: str) -> None:
    model = MODELS[architecture]
    shape = parse_config(model["config"])
    assert shape.parameters == model["parameters"]
    told = ((size, -1) if tokens is None else (size // tokens, window) for _, size, tokens, window in model["kept"])
    assert kept(shape) == Counter(told)


def test_each_of_these_decoders_was_built_by_vllm() -> None:
    assert set(NEWEST) <= set(MODELS)


HUNYUAN: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 512,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
}


@pytest.mark.parametrize("text", [HUNYUAN, {"text_config": HUNYUAN}], ids=["flat", "nested"])
def test_hunyuans_decoder_is_that_of_transformers(text: dict[str, Any]) -> None:
    """transformers 5.20.2 counts 2,033,792 beside its encoder on the meta device."""
    shape = parse_config({"architectures": ["HunYuanVLForConditionalGeneration"], "vision_config": {}, **text})
    assert (shape.parameters, shape.tower_by_files) == (2_033_792, True)
