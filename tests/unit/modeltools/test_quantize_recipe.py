"""What is refused before a GPU is used, from config.json, headers and the machine."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_operator.modeltools import machine, recipe
from llm_operator.modeltools.awq import dtype_of, layer_count
from llm_operator.modeltools.recipe import Recipe, check, check_machine, release, sizes, supported
from llm_operator.modeltools.report import ToolError
from llm_operator.modeltools.tensors import Tensor

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
}
NEWEST = "0.18.0"


def refusal(work: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ToolError) as told:
        work()
    assert told.value.retry is False
    return told.value.reason, str(told.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bits": 3}, "4 bits, 3 were requested"),
        ({"bits": 8}, "set bits to 4"),
        ({"group_size": 100}, "groups of 100 weights: use 128"),
        ({"group_size": 256}, "groups of 256"),
        ({"symmetric": True}, "--w-sym"),
    ],
)
def test_numbers_that_the_method_refuses(changes: dict[str, Any], words: str) -> None:
    reason, message = refusal(lambda: check(LLAMA, dataclasses.replace(Recipe(), **changes), NEWEST))
    assert reason == "RecipeRefused"
    assert words in message


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hidden_size": 4000}, "hidden_size 4000"),
        ({"intermediate_size": 11000}, "intermediate_size 11000"),
        ({"moe_intermediate_size": 1000}, "moe_intermediate_size 1000"),
        ({"num_attention_heads": 3, "head_dim": 100}, "head_dim 300"),
        ({"text_config": {"intermediate_size": 65}}, "intermediate_size 65"),
    ],
)
def test_widths_that_the_group_size_does_not_divide(config: dict[str, Any], words: str) -> None:
    reason, message = refusal(lambda: check({**LLAMA, **config}, Recipe(), NEWEST))
    assert reason == "RecipeRefused"
    assert words in message
    assert "128" in message


def test_smaller_groups_divide_more() -> None:
    config = {**LLAMA, "intermediate_size": 11008 + 32}
    check(config, Recipe(group_size=32), NEWEST)
    refusal(lambda: check(config, Recipe(), NEWEST))


@pytest.mark.parametrize("where", [{}, {"text_config": {}}])
def test_a_quantized_model_is_not_quantized_again(where: dict[str, Any]) -> None:
    quantized = {"quantization_config": {"quant_method": "gptq"}}
    config = {**LLAMA, **({"text_config": quantized} if where else quantized)}
    reason, message = refusal(lambda: check(config, Recipe(), NEWEST))
    assert reason == "RecipeRefused"
    assert "already (gptq)" in message


def test_architectures_are_judged_by_release() -> None:
    def judged(name: str, version: str, samples: int = 128) -> str:
        config = {**LLAMA, "architectures": [name]}
        return refusal(lambda: check(config, Recipe(samples=samples, trust_remote_code=True), version))[0]

    assert judged("Gemma3ForCausalLM", NEWEST) == "UnsupportedArchitecture"
    assert judged("BaichuanForCausalLM", NEWEST) == "UnsupportedArchitecture"
    check({**LLAMA, "architectures": ["BaichuanForCausalLM"]}, Recipe(), "0.14.0")
    # Known, but its layers are in no table of what is scaled together: a KeyError after the calibration.
    assert judged("Qwen3MoeForCausalLM", NEWEST) == "RecipeRefused"
    check({**LLAMA, "architectures": ["Qwen3MoeForCausalLM"]}, Recipe(samples=0), NEWEST)
    assert judged("Qwen3MoeForCausalLM", "0.13.0", 0) == "UnsupportedArchitecture"
    remote = {"auto_map": {"AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"}, "hidden_size": 128}
    check(remote, Recipe(), NEWEST)
    assert refusal(lambda: check({"hidden_size": 1}, Recipe(), NEWEST))[0] == "UnsupportedArchitecture"


def test_a_release_that_is_not_known_is_taken_for_the_newest_one_before_it() -> None:
    assert supported("0.19.0") == supported("0.18.0")
    assert supported("0.14.2") == supported("0.14.0")
    assert supported("0.1.0") == supported("0.9.2.post1")
    assert release("0.18.0+cu128") == (0, 18, 0)
    assert release("0.9.2.post1") < release("0.10.0")


def test_old_releases_lack_data_sets_and_always_run_the_repository_s_code() -> None:
    trusted = Recipe(trust_remote_code=True)
    check(LLAMA, trusted, "0.10.2")
    for dataset in ("GSM8K", "C4"):
        older = dataclasses.replace(trusted, dataset=dataset)
        reason, message = refusal(functools.partial(check, LLAMA, older, "0.10.2"))
        assert reason == "RecipeRefused"
        assert f"cannot load the data set {dataset}: use WikiText2, PileVal, Text or None" in message
    check(LLAMA, dataclasses.replace(trusted, dataset="C4"), "0.12.0")
    reason, message = refusal(lambda: check(LLAMA, Recipe(), "0.12.3"))
    assert reason == "RecipeRefused"
    assert "trustRemoteCode" in message


TENSORS = [
    Tensor("model.embed_tokens.weight", "BF16", (1000, 256)),
    Tensor("model.layers.0.self_attn.q_proj.weight", "BF16", (256, 256)),
    Tensor("model.layers.0.input_layernorm.weight", "BF16", (256,)),
    Tensor("visual.encoder.layers.0.mlp.weight", "F32", (256, 256)),
]


def test_sizes_count_what_is_packed() -> None:
    original, quantized = sizes(TENSORS, Recipe())
    kept = 1000 * 256 * 2 + 256 * 2 + 256 * 256 * 2
    assert original == kept + 256 * 256 * 2
    # 4 bits a weight, and for each group of 128 a scale of 16 bits and a zero of 4.
    assert quantized == kept + 256 * 256 // 2 + 256 * 2 * 20 // 8


def _gigabytes(monkeypatch: pytest.MonkeyPatch, memory: int | None, disk: int) -> None:
    monkeypatch.setattr(recipe, "host_memory_bytes", lambda: memory)
    monkeypatch.setattr(recipe, "free_disk_bytes", lambda _path: disk)


def test_memory_and_disk_are_compared_with_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    weights = [Tensor("model.layers.0.mlp.up_proj.weight", "BF16", (4096, 2**20))]
    original, quantized = sizes(weights, Recipe())
    needed = original + quantized + recipe.HOST_MARGIN_BYTES
    _gigabytes(monkeypatch, needed, 2**40)
    check_machine(weights, Recipe(), tmp_path)
    _gigabytes(monkeypatch, None, 2**40)
    check_machine(weights, Recipe(), tmp_path)

    _gigabytes(monkeypatch, needed - 1, 2**40)
    reason, message = refusal(lambda: check_machine(weights, Recipe(), tmp_path))
    assert reason == "HostMemoryExhausted"
    assert "8.00 GiB" in message
    assert "11.08 GiB" in message
    assert "weightQuantization.resources.limits.memory" in message

    _gigabytes(monkeypatch, 2**40, quantized)
    reason, message = refusal(lambda: check_machine(weights, Recipe(), tmp_path))
    assert reason == "DiskFull"
    assert "2.08 GiB are free" in message


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/fs/cgroup/memory.max": "1073741824\n"}, 1 << 30),
        ({"sys/fs/cgroup/memory.max": "max\n"}, 2 << 30),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912"}, 1 << 29),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, 2 << 30),
        ({}, 2 << 30),
    ],
)
def test_the_container_s_limit_counts_in_both_versions_of_cgroups(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    for name, text in {**files, "proc/meminfo": "MemTotal:        2097152 kB\nMemFree: 1 kB\n"}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert machine.host_memory_bytes(tmp_path) == expected


def test_this_machine_says_how_much_it_has(tmp_path: Path) -> None:
    assert machine.host_memory_bytes(tmp_path) is None
    assert (machine.host_memory_bytes() or 0) > 1 << 28
    assert machine.free_disk_bytes(tmp_path / "not" / "yet") > 0


@pytest.mark.parametrize(
    ("config", "kinds", "expected"),
    [
        ({"dtype": "bfloat16"}, ["BF16"], None),
        ({"torch_dtype": "float16"}, ["F16"], None),
        ({"torch_dtype": "float32"}, ["F32"], "float16"),
        ({"torch_dtype": "float32"}, ["BF16"], "bfloat16"),
        ({}, ["BF16", "BF16", "F32"], "bfloat16"),
        ({}, ["F16"], "float16"),
    ],
)
def test_weights_are_loaded_in_16_bits(config: dict[str, Any], kinds: list[str], expected: str | None) -> None:
    tensors = [Tensor(f"t{number}", kind, (8, 8)) for number, kind in enumerate(kinds)]
    assert dtype_of(config, tensors) == expected


def test_the_number_of_layers_is_found_below_too() -> None:
    assert layer_count(LLAMA) == 32
    assert layer_count({"num_layers": 28}) == 28
    assert layer_count({"text_config": {"num_hidden_layers": 5}}) == 5
    assert layer_count({}) is None


def test_the_table_says_where_it_is_from() -> None:
    table = json.loads(recipe.SUPPORT.read_text())
    assert "lmdeploy/lite/apis/calibrate.py" in table["source"]
    assert [release(entry["since"]) for entry in table["releases"]] == sorted(
        release(entry["since"]) for entry in table["releases"]
    )
