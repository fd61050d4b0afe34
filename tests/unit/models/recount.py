"""Recount the parameters of every config in configs/ with transformers, on the meta device.

    python tests/unit/models/recount.py            compare with parameters.json, exit 1 where they differ
    python tests/unit/models/recount.py --write    write parameters.json

Needs torch and transformers (any CPU build; last run with torch 2.13.0 and transformers 5.20.2), nothing of ours.
InternLM2, InternLM3 and ChatGLM are no part of transformers: their counts come from the class of transformers with the
same tensors, named in SAME_TENSORS.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

HERE = Path(__file__).parent
SAME_TENSORS = {
    "InternLM2ForCausalLM": "LlamaForCausalLM",
    "InternLM3ForCausalLM": "LlamaForCausalLM",
    "ChatGLMModel": "GlmForCausalLM",
}
MODEL_TYPES = {"LlamaForCausalLM": "llama", "GlmForCausalLM": "glm"}
CHATGLM_NAMES = {
    "num_layers": "num_hidden_layers",
    "ffn_hidden_size": "intermediate_size",
    "padded_vocab_size": "vocab_size",
    "multi_query_group_num": "num_key_value_heads",
    "kv_channels": "head_dim",
    "seq_length": "max_position_embeddings",
    "add_qkv_bias": "attention_bias",
}


def as_transformers(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the class's name and its config in transformers' own vocabulary."""
    architecture = config["architectures"][0]
    values = {key: value for key, value in config.items() if key not in ("quantization_config", "auto_map")}
    target = SAME_TENSORS.get(architecture, architecture)
    if target != architecture:
        if architecture == "ChatGLMModel":
            values = {CHATGLM_NAMES.get(key, key): value for key, value in values.items() if key != "vocab_size"}
        values["model_type"] = MODEL_TYPES[target]
        values.pop("rope_scaling", None)
        values["architectures"] = [target]
    return target, values


def count(config: dict[str, Any]) -> int:
    """Count the parameters of one config.json as transformers builds it; tied tensors count once."""
    name, values = as_transformers(config)
    model_type = values.pop("model_type")
    built = transformers.AutoConfig.for_model(model_type, **values)
    with torch.device("meta"):
        model = getattr(transformers, name)(built)
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> int:
    """Recount everything; return the exit code."""
    counted = {path.stem: count(json.loads(path.read_text())) for path in sorted(HERE.glob("configs/*.json"))}
    target = HERE / "parameters.json"
    if "--write" in sys.argv[1:]:
        target.write_text(json.dumps(counted, indent=1) + "\n")
        return 0
    expected = json.loads(target.read_text())
    differing = {name: (expected.get(name), value) for name, value in counted.items() if expected.get(name) != value}
    for name, (old, new) in differing.items():
        print(f"{name}: recorded {old}, counted {new}")
    print(f"{len(counted)} models counted, {len(differing)} differ")
    return 1 if differing or set(expected) != set(counted) else 0


if __name__ == "__main__":
    sys.exit(main())
