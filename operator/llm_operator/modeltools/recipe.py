"""A quantization recipe, and whether `lmdeploy lite auto_awq` can follow it: from config.json and headers alone."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llm_operator.modeltools.machine import free_disk_bytes, host_memory_bytes, readable
from llm_operator.modeltools.report import ToolError
from llm_operator.modeltools.tensors import Tensor
from llm_operator.modeltools.text import read_json

SUPPORT = Path(__file__).with_name("data") / "auto_awq.json"
BITS = 4
"""The only width of AWQ's packed layout (lmdeploy/lite/quantization/modules/linear.py, from_linear: w_bit == 4)."""
GROUP_SIZES = (32, 64, 128)
"""Groups that engines have kernels for; LMDeploy's TurboMind for 128 alone."""
DATASETS: Mapping[str, tuple[str, str]] = {
    "WikiText2": ("wikitext2", "0"),
    "C4": ("c4", "0.12.0"),
    "PileVal": ("pileval", "0"),
    "GSM8K": ("gsm8k", "0.12.0"),
    "NeuralMagicCalibration": ("neuralmagic_calibration", "0.12.0"),
    "OpenPlatypus": ("open-platypus", "0.12.0"),
    "OpenWebText": ("openwebtext", "0.12.0"),
}
"""Name -> LMDeploy's word for it, and the first release that can load it (lmdeploy/lite/utils/calib_dataloader.py).

Older releases request C4 by a configuration that it does not have (seen with 0.10.2 and datasets 5.2.0).
"""
TEXT, NO_DATA = "Text", "None"
CALIBRATIONS = (*DATASETS, TEXT, NO_DATA)
REMOTE_CODE_FLAG_SINCE = "0.13.0"
"""Older releases always run code of the model's repository (lmdeploy/cli/lite.py)."""

HOST_MARGIN_BYTES = 1 << 30
DISK_MARGIN_BYTES = 64 << 20
DISK_MARGIN_PERCENT = 5
_ZERO_BITS, _SCALE_BITS = 4, 16
# Decoder layers of a language model; an image encoder's blocks keep their 16 bits.
_LAYER = re.compile(r"^(?!.*\bvis).*(?:^|\.)(?:layers|h)\.\d+\.")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How weights are quantized."""

    bits: int = BITS
    group_size: int = 128
    dataset: str = "WikiText2"
    samples: int = 128
    sequence_length: int = 2048
    """Tokens of one sample."""
    batch_size: int = 1
    search_scale: bool = False
    symmetric: bool = False
    trust_remote_code: bool = False

    def described(self) -> dict[str, object]:
        """As the result and the marker tell it."""
        told: dict[str, object] = {"method": "AWQ", "bits": self.bits, "groupSize": self.group_size}
        if self.samples == 0:
            return {**told, "dataset": NO_DATA, "samples": 0}
        return {
            **told,
            "dataset": self.dataset,
            "samples": self.samples,
            "sequenceLength": self.sequence_length,
            "batchSize": self.batch_size,
            "searchScale": self.search_scale,
        }

    def words(self) -> str:
        """The calibration in a few words."""
        if self.samples == 0:
            return "no calibration data"
        batch = f", batches of {self.batch_size}" if self.batch_size > 1 else ""
        return f"{self.samples} samples of {self.sequence_length} tokens from {self.dataset}{batch}"


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The recipe of the command line."""
    without_data = options.dataset == NO_DATA
    return Recipe(
        bits=options.bits,
        group_size=options.group_size,
        dataset=options.dataset,
        samples=0 if without_data else options.samples,
        sequence_length=options.sequence_length,
        batch_size=options.batch_size,
        search_scale=options.search_scale and not without_data,
        symmetric=options.symmetric,
        trust_remote_code=options.trust_remote_code,
    )


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparing: 0.9.2.post1 -> (0, 9, 2)."""
    return tuple(
        int(number) for number in re.findall(r"\d+", version.split("+", maxsplit=1)[0].split("post", maxsplit=1)[0])
    )


def architecture_of(config: Mapping[str, Any]) -> str:
    """The model's class, as LMDeploy finds it (lmdeploy/archs.py, get_model_arch).

    Raises:
        ToolError: UnsupportedArchitecture: config.json names none.
    """
    named = config.get("architectures")
    if isinstance(named, list) and named:
        return str(named[0])
    automatic = config.get("auto_map")
    if isinstance(automatic, dict) and "AutoModelForCausalLM" in automatic:
        return str(automatic["AutoModelForCausalLM"]).split(".")[-1]
    raise ToolError(
        "UnsupportedArchitecture",
        "config.json names no architecture (field `architectures`): name a model in Hugging Face's format",
    )


def check(config: Mapping[str, Any], recipe: Recipe, version: str) -> None:
    """Refuse what auto_awq of that version would refuse after minutes on a GPU, or get wrong.

    Raises:
        ToolError: RecipeRefused or UnsupportedArchitecture.
    """
    _check_numbers(recipe, version)
    architecture = architecture_of(config)
    quantized = nested(config, "quantization_config")
    if isinstance(quantized, dict):
        method = quantized.get("quant_method", "an unnamed method")
        raise ToolError(
            "RecipeRefused",
            f"the model is quantized already ({method}): remove weightQuantization to serve it as it is, or name the "
            "repository of the 16-bit model",
        )
    _check_architecture(architecture, recipe, version)
    for name, size in _widths(config):
        if size % recipe.group_size:
            raise ToolError(
                "RecipeRefused",
                f"{name} {size} is not a multiple of the group size {recipe.group_size}, which every quantized matrix "
                "needs: choose a group size that divides it, or serve the model as it is",
            )


def check_machine(tensors: Iterable[Tensor], recipe: Recipe, output: Path) -> None:
    """Refuse what this machine has no room for.

    auto_awq keeps every original matrix while the packed ones are added (lmdeploy/lite/apis/auto_awq.py, `fcs`);
    measured with 0.18.0 on a model of 15.5 GB: 20.4 GB.

    Raises:
        ToolError: DiskFull or HostMemoryExhausted.
    """
    original, quantized = sizes(tensors, recipe)
    needed = quantized * (100 + DISK_MARGIN_PERCENT) // 100 + DISK_MARGIN_BYTES
    free = free_disk_bytes(output)
    if free < needed:
        raise ToolError(
            "DiskFull",
            f"the quantized model needs {readable(needed)} on the volume, {readable(free)} are free: "
            "enlarge the claim, or remove models that nothing uses",
        )
    memory, needed = host_memory_bytes(), original + quantized + HOST_MARGIN_BYTES
    if memory is not None and memory < needed:
        raise ToolError(
            "HostMemoryExhausted",
            f"quantizing takes about {readable(needed)} of host memory (the 16-bit model has {readable(original)}), "
            f"this container may use {readable(memory)}: raise weightQuantization.resources.limits.memory, or give "
            "the Job a node with more",
        )


def sizes(tensors: Iterable[Tensor], recipe: Recipe) -> tuple[int, int]:
    """Bytes of a model with 16-bit weights, and quantized by the recipe; the latter is an estimate."""
    original = quantized = 0
    bits = recipe.bits + (_SCALE_BITS + _ZERO_BITS) / recipe.group_size
    for tensor in tensors:
        original += 2 * tensor.elements
        packed = len(tensor.shape) > 1 and tensor.name.endswith("weight") and _LAYER.search(tensor.name)
        quantized += int(tensor.elements * bits / 8) if packed else 2 * tensor.elements
    return original, quantized


def _check_numbers(recipe: Recipe, version: str) -> None:
    refusal = None
    if recipe.bits != BITS:
        refusal = f"AWQ packs weights in 4 bits, {recipe.bits} were requested: set bits to 4"
    elif recipe.group_size not in GROUP_SIZES:
        refusal = f"no engine serves AWQ in groups of {recipe.group_size} weights: use 128 (vLLM also serves 32 and 64)"
    elif recipe.symmetric:
        # zeros_like(None): TypeError in every release up to 0.18.0 (lmdeploy/lite/quantization/modules/linear.py).
        refusal = "`lmdeploy lite auto_awq` fails at symmetric quantization (--w-sym): leave it out"
    elif recipe.samples and recipe.dataset in DATASETS and release(version) < release(DATASETS[recipe.dataset][1]):
        known = [name for name, (_, since) in DATASETS.items() if release(version) >= release(since)]
        refusal = f"LMDeploy {version} cannot load the data set {recipe.dataset}: use {', '.join(known)}, Text or None"
    if refusal is not None:
        raise ToolError("RecipeRefused", refusal)
    check_remote_code(version, recipe.trust_remote_code)


def check_remote_code(version: str, trusted: bool) -> None:
    """Refuse a version that would run code of the repository although that is not allowed.

    Raises:
        ToolError: RecipeRefused.
    """
    if release(version) < release(REMOTE_CODE_FLAG_SINCE) and not trusted:
        raise ToolError(
            "RecipeRefused",
            f"LMDeploy {version} always runs code of the model's repository, which trustRemoteCode: false forbids: "
            f"set it to true to accept that, or use version {REMOTE_CODE_FLAG_SINCE} or newer",
        )


def _check_architecture(architecture: str, recipe: Recipe, version: str) -> None:
    calibrated, without_data_only = supported(version)
    if architecture in without_data_only and recipe.samples:
        raise ToolError(
            "RecipeRefused",
            f"LMDeploy {version} quantizes {architecture} without calibration data only: set calibration.dataset to "
            "None",
        )
    if architecture not in calibrated + without_data_only:
        known = ", ".join(sorted(calibrated + without_data_only))
        raise ToolError(
            "UnsupportedArchitecture",
            f"`lmdeploy lite auto_awq` of {version} cannot quantize {architecture}: serve the model as it is, or name "
            f"a repository of it that is quantized already. It quantizes: {known}",
        )


def supported(version: str) -> tuple[list[str], list[str]]:
    """Architectures that a version quantizes: with or without calibration data, and without it only."""
    releases = read_json(SUPPORT.read_text())["releases"]
    fitting = [entry for entry in releases if release(entry["since"]) <= release(version)] or releases[:1]
    return fitting[-1]["calibrated"], fitting[-1]["without_data_only"]


def _widths(config: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    """Input widths of the matrices that are quantized."""
    # A model that also sees keeps its language model's numbers one level below.
    for name in ("text_config", "llm_config", "language_config"):
        if isinstance(config.get(name), dict):
            config = {**config, **config[name]}
    names = ("hidden_size", "intermediate_size", "ffn_hidden_size", "moe_intermediate_size")
    for name in (*names, "shared_expert_intermediate_size"):
        size = config.get(name)
        if isinstance(size, int) and size > 0:
            yield name, size
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    if isinstance(heads, int) and heads > 0 and isinstance(hidden, int):
        width = config.get("head_dim")
        yield "num_attention_heads x head_dim", heads * (width if isinstance(width, int) else hidden // heads)


def nested(value: object, key: str) -> object:
    """The first value of that key, however deep (lmdeploy/archs.py, search_nested_config)."""
    if isinstance(value, list):
        return next((found for item in value if (found := nested(item, key)) is not None), None)
    if not isinstance(value, dict):
        return None
    if value.get(key) is not None:
        return value[key]
    return next((found for item in value.values() if (found := nested(item, key)) is not None), None)
