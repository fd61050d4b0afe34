"""A TurboMind workspace read back: the tensors of a Hugging Face model from the files that `lmdeploy convert` wrote.

The layout is that of LMDeploy 0.9.2.post1 (lmdeploy/turbomind/deploy/module.py and target_model/base.py): raw numbers,
one file per tensor, or one per tensor and GPU where it is split. Known here are dense models of the Llama family,
Qwen2 among them, with 16-bit weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Workspace:
    """The weights of one workspace."""

    folder: Path
    """triton_models/weights"""
    config: Mapping[str, Any]
    """model_config of the folder's config.yaml"""

    def state(self) -> dict[str, torch.Tensor]:
        """Every tensor under transformers' name, in the type in which it is stored."""
        return {name: tensor.contiguous() for name, tensor in self._tensors()}

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        config = self.config
        hidden, tokens, gpus = config["hidden_units"], config["vocab_size"], config["attn_tp_size"]
        # The vocabulary is padded to a multiple of the GPUs.
        padded = -(-tokens // gpus)
        yield "model.embed_tokens.weight", self._joined("tok_embeddings", hidden // gpus, -1)[:tokens]
        yield "lm_head.weight", self._joined("output", padded, -1).t()[:tokens]
        yield "model.norm.weight", self._numbers("norm.weight")
        for layer in range(config["num_layer"]):
            for name, tensor in self._layer(f"layers.{layer}", config["inter_size"][layer]):
                yield f"model.layers.{layer}.{name}", tensor

    def _layer(self, layer: str, inner: int) -> Iterator[tuple[str, torch.Tensor]]:
        """Matrices lie transposed: inputs by outputs."""
        hidden, inner = self.config["hidden_units"], inner // self.config["mlp_tp_size"]
        yield "input_layernorm.weight", self._numbers(f"{layer}.attention_norm.weight")
        yield "post_attention_layernorm.weight", self._numbers(f"{layer}.ffn_norm.weight")
        yield "mlp.gate_proj.weight", self._joined(f"{layer}.feed_forward.w1", inner, -1).t()
        yield "mlp.up_proj.weight", self._joined(f"{layer}.feed_forward.w3", inner, -1).t()
        yield "mlp.down_proj.weight", self._joined(f"{layer}.feed_forward.w2", hidden, 0).t()
        yield "self_attn.o_proj.weight", self._joined(f"{layer}.attention.wo", hidden, 0).t()
        for name, tensor in self._attention(f"{layer}.attention.w_qkv", "weight"):
            yield f"self_attn.{name}_proj.weight", tensor.t()
        if self.config["attn_bias"]:
            for name, tensor in self._attention(f"{layer}.attention.w_qkv", "bias"):
                yield f"self_attn.{name}_proj.bias", tensor[0]

    def _attention(self, name: str, kind: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Each GPU's file has its share of the queries, then of the keys, then of the values."""
        gpus, width = self.config["attn_tp_size"], self.config["size_per_head"]
        query, key = (self.config[heads] * width // gpus for heads in ("head_num", "kv_head_num"))
        files = [self._numbers(f"{name}.{gpu}.{kind}").reshape(-1, query + 2 * key) for gpu in range(gpus)]
        shares = zip(*(file.split([query, key, key], dim=-1) for file in files), strict=True)
        q, k, v = (torch.cat(share, dim=-1) for share in shares)
        yield from (("q", _interleaved_back(q, width)), ("k", _interleaved_back(k, width)), ("v", v))

    def _joined(self, name: str, columns: int, dimension: int) -> torch.Tensor:
        """A matrix from the parts of all GPUs, each of which has so many columns."""
        parts = sorted(self.folder.glob(f"{name}.*.weight"), key=lambda path: int(path.name.split(".")[-2]))
        return torch.cat([self._numbers(path.name).reshape(-1, columns) for path in parts], dim=dimension)

    def _numbers(self, name: str) -> torch.Tensor:
        content = bytearray((self.folder / name).read_bytes())
        return torch.frombuffer(content, dtype=DTYPES[self.config["weight_type"]])


def _interleaved_back(x: torch.Tensor, width: int) -> torch.Tensor:
    """TurboMind rotates pairs of neighbours, transformers the halves of a head; inverse of module.py's permute_v2."""
    return x.view(x.size(0), -1, width // 2, 2).transpose(2, 3).reshape(x.shape)
