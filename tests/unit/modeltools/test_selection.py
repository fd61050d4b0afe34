"""Which files of a repository are fetched."""

from __future__ import annotations

import pytest

from llm_operator.modeltools.hub import RemoteFile, select
from llm_operator.modeltools.report import ToolError


def chosen(*names: str) -> set[str]:
    return {file.name for file in select([RemoteFile(name, 1) for name in names], "org/name")}


def test_safetensors_win_over_every_other_format() -> None:
    assert chosen(
        "config.json", "generation_config.json", "tokenizer.model", "tokenizer.json", "merges.txt", "README.md",
        "modeling_internlm2.py", "model.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json",
        "model.Q4.gguf", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "onnx/model.onnx", "model.onnx_data",
        "consolidated.00.pth", "original/consolidated.00.pth", "original/params.json", ".gitattributes",
    ) == {
        "config.json", "generation_config.json", "tokenizer.model", "tokenizer.json", "merges.txt", "README.md",
        "modeling_internlm2.py", "model.safetensors",
    }  # fmt: skip


def test_consolidated_weights_are_a_duplicate_only_beside_others() -> None:
    assert "consolidated.safetensors" not in chosen("config.json", "consolidated.safetensors", "model.safetensors")
    assert "consolidated.safetensors" in chosen("config.json", "params.json", "consolidated.safetensors")


@pytest.mark.parametrize("name", ["../evil.safetensors", "/etc/model.safetensors", "a/../../b.safetensors"])
def test_a_listing_that_leads_elsewhere(name: str) -> None:
    with pytest.raises(ToolError, match="leads elsewhere") as caught:
        chosen("config.json", "model.safetensors", name)
    assert caught.value.reason == "WeightsCorrupt"


def test_our_own_names_are_not_a_repositorys() -> None:
    assert chosen("config.json", "model.safetensors", ".llm-operator.json", ".llm-operator-transfer/job.json") == {
        "config.json", "model.safetensors",
    }  # fmt: skip
