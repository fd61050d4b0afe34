"""Random small models of every architecture that transformers has: config.json and its own count on the meta device.

    python count_parameters.py SEED VARIANTS ARCHITECTURE...

Prints one JSON line per model: {"architecture", "config", "parameters"}; and per architecture without any, "error".
Needs torch and transformers, nothing of ours.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto

TYPES = {"Qwen3_5ForCausalLM": "qwen3_5_text", "Qwen3_5MoeForCausalLM": "qwen3_5_moe_text"}
MAPPINGS = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
)
SMALL = {
    "num_experts": 8,
    "n_routed_experts": 8,
    "num_local_experts": 8,
    "moe_num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_k": 2,
    "moe_topk": 2,
    "shared_intermediate_size": 40,
    "shared_expert_intermediate_size": 40,
    "moe_shared_expert_intermediate_size": 40,
    "kv_lora_rank": 32,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "index_n_heads": 4,
    "index_head_dim": 128,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 32,
    "mamba_dt_rank": 4,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "n_groups": 2,
    "ssm_state_size": 8,
    "laurel_rank": 4,
}
LINEAR = {"qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "granitemoehybrid", "kimi_linear", "minimax"}
VISION = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "depth": 3,
    "num_attention_heads": 4,
    "num_heads": 4,
    "embed_dim": 64,
}


def types_of_models() -> dict[str, str]:
    """Return the model_type of every architecture."""
    found: dict[str, str] = {}
    for mapping in MAPPINGS:
        for model_type, names in getattr(modeling_auto, mapping, {}).items():
            for name in names if isinstance(names, list | tuple) else [names]:
                found.setdefault(name, model_type)
    return found | TYPES


def text_arguments(model_type: str, known: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return small sizes and random switches for a decoder whose config has the fields `known`."""
    layers, width, kv = rng.choice([4, 6, 8]), rng.choice([16, 32]), rng.choice([1, 2, 4])
    heads = kv * rng.choice([1, 2, 4])
    hidden = heads * width * rng.choice([1, 2])
    chosen: dict[str, Any] = {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": width,
        "hidden_size": hidden,
        "intermediate_size": rng.choice([96, 160]),
        "moe_intermediate_size": rng.choice([24, 48]),
        "vocab_size": rng.choice([1000, 1024]),
        "max_position_embeddings": 4096,
        **SMALL,
        "mamba_n_heads": hidden // 8,
        "mamba_d_head": 16,
        "mamba_d_state": 8,
        "mamba_d_ssm": hidden * 2,
        "attn_layer_indices": [1, 3],
        "mlp_layer_types": [rng.choice(["dense", "sparse"]) for _ in range(layers)],
        "indexer_types": ["full", *(rng.choice(["full", "shared"]) for _ in range(layers - 1))],
    }
    chosen = {name: value for name, value in chosen.items() if name in known}
    chosen |= {name: rng.random() < 0.5 for name, value in known.items() if isinstance(value, bool) and switch(name)}
    if model_type in LINEAR | {"lfm2"}:
        other = "conv" if model_type == "lfm2" else "linear_attention"
        chosen["layer_types"] = ["full_attention", *(rng.choice([other, "full_attention"]) for _ in range(layers - 1))]
    chosen |= special_arguments(model_type, layers, rng)
    return chosen | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def switch(name: str) -> bool:
    """Return whether a boolean of a config changes which tensors there are."""
    words = ("bias", "norm", "tie_word", "parallel", "multi_query", "new_decoder", "k_eq_v", "moe_block", "double_wide")
    return any(word in name for word in words) and name not in ("norm_topk_prob", "use_cache", "mamba_norm_before_gate")


def special_arguments(model_type: str, layers: int, rng: random.Random) -> dict[str, Any]:
    """Return what single architectures need."""
    compressed = ["compressed_sparse_attention", "heavily_compressed_attention", "sliding_attention"]
    kinds = ["linear_attention", "moe", "full_attention", "mlp"]
    made: dict[str, dict[str, Any]] = {
        "nemotron_h": {"layers_block_type": rng.choices(kinds, k=layers), "moe_latent_size": rng.choice([None, 24])},
        "gemma3n_text": {
            "num_kv_shared_layers": 2,
            "intermediate_size": [96] * layers,
            "hidden_size_per_layer_input": 8,
            "activation_sparsity_pattern": None,
            "layer_types": ["full_attention", "sliding_attention"] * (layers // 2),
        },
        "gemma4_text": {
            "num_kv_shared_layers": rng.choice([0, 2]),
            "hidden_size_per_layer_input": rng.choice([0, 8]),
            "global_head_dim": 64,
            "num_global_key_value_heads": 1,
            "num_experts": 8,
            "top_k_experts": 2,
            "moe_intermediate_size": 24,
        },
        "deepseek_v4": {
            "layer_types": rng.choices(compressed, k=layers),
            "mlp_layer_types": ["hash_moe", *["moe"] * (layers - 1)],
            "num_key_value_heads": 1,
            "o_groups": 2,
            "o_lora_rank": 24,
        },
        "zamba2": {
            "layers_block_type": ["mamba", "hybrid"] * (layers // 2),
            "hybrid_layer_ids": list(range(1, layers, 2)),
            "num_mem_blocks": rng.choice([1, 2]),
            "adapter_rank": 12,
            "use_shared_attention_adapter": rng.random() < 0.5,
            "mamba_ngroups": 2,
            "tie_word_embeddings": True,  # otherwise shared blocks are not shared either
        },
        # Experts without weights have some here all the same, which no file holds.
        "longcat_flash": {
            "num_layers": layers,
            "zero_expert_num": 0,
            "expert_ffn_hidden_size": 24,
            "ffn_hidden_size": 96,
        },
        "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
        "mpt": {"no_bias": True},  # transformers takes no notice of it
    }
    return made.get(model_type, {})


def arguments(model_type: str, rng: random.Random) -> dict[str, Any]:
    """Return the arguments of one random config."""
    base = transformers.AutoConfig.for_model(model_type)
    known = base.to_dict()
    if "text_config" not in known:
        return text_arguments(model_type, known, rng)
    text = base.text_config
    heads, kv = rng.choice([4, 8]), rng.choice([2, 4])
    inner = {
        "hidden_size": heads * 16,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "num_hidden_layers": 4,
        "intermediate_size": 96,
        "vocab_size": 1000,
        "head_dim": 16,
        "moe_intermediate_size": 24,
    }
    inner = {name: value for name, value in inner.items() if name in text.to_dict()}
    chosen: dict[str, Any] = {
        "text_config": {**inner, "model_type": text.model_type, "pad_token_id": 0},
        "tie_word_embeddings": rng.random() < 0.5,
    }
    vision = getattr(base, "vision_config", None)
    if vision is not None:
        names = {name: value for name, value in VISION.items() if isinstance(vision.to_dict().get(name), int)}
        if "out_hidden_size" in vision.to_dict():
            names["out_hidden_size"] = heads * 16
        if model_type == "qwen2_vl":
            names["hidden_size"] = heads * 16
        chosen["vision_config"] = {**names, "model_type": vision.model_type}
    return chosen


def main() -> None:
    """Print the models."""
    transformers.logging.set_verbosity_error()
    seed, variants, wanted = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    known = types_of_models()
    for architecture in wanted:
        if architecture not in known:
            print(json.dumps({"architecture": architecture, "error": "not in transformers"}), flush=True)
            continue
        rng, made, said = random.Random(f"{seed}{architecture}"), 0, ""
        for _ in range(3 * variants):
            if made == variants:
                break
            try:
                config = transformers.AutoConfig.for_model(known[architecture], **arguments(known[architecture], rng))
                with torch.device("meta"):
                    model = getattr(transformers, architecture)(config)
                model.tie_weights()
                values = json.loads(config.to_json_string())
            except Exception as error:
                said = repr(error)[:300]
                continue
            made += 1
            count = sum(parameter.numel() for parameter in model.parameters())
            line = {"config": values | {"architectures": [architecture]}, "parameters": count}
            print(json.dumps({"architecture": architecture} | line), flush=True)
        if not made:
            print(json.dumps({"architecture": architecture, "error": said}), flush=True)


if __name__ == "__main__":
    main()
