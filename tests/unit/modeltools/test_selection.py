"""Which files of a repository are fetched."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from llm_operator.modeltools.hub import RemoteFile, select
from llm_operator.modeltools.huggingface import HuggingFace
from llm_operator.modeltools.layout import model_directory
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


HOSTILE = ["../x", "a" * 63, "A" * 64, "a" * 64 + "/..", "../../../hf--victim--model/" + "b" * 40, "", "b" * 40 + "\n"]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hash_of_another_shape_names_no_file(value: str) -> None:
    with pytest.raises(ToolError, match="expected hexadecimal digits"):
        RemoteFile("model.safetensors", 1, sha256=value)
    with pytest.raises(ToolError, match="expected hexadecimal digits"):
        RemoteFile("config.json", 1, blob=value)


@pytest.mark.parametrize("value", ["../hf--victim--model/" + "b" * 40, "..", ".", "", "a/b", "a\\b", "a\n", "-a"])
def test_a_directory_is_one_name(value: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="one directory"):
        model_directory(tmp_path, "hf", "org/name", value)


@pytest.mark.parametrize("sha", [None, "../hf--victim--model/" + "b" * 40, "b" * 39, "main"])
def test_a_hub_names_a_commit_or_nothing(sha: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = HuggingFace()
    hub.__dict__["_api"] = SimpleNamespace(model_info=lambda *_, **__: SimpleNamespace(sha=sha))
    with pytest.raises(ToolError, match="does not report a commit"):
        hub.commit("org/name", "main")


def test_our_own_names_are_not_a_repositorys() -> None:
    assert chosen("config.json", "model.safetensors", ".llm-operator.json", ".llm-operator-transfer/job.json") == {
        "config.json", "model.safetensors",
    }  # fmt: skip
