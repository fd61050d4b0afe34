"""`lmdeploy lite auto_awq`: its command line, and its progress, read from its output."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_operator.modeltools.calibration import dataset_word
from llm_operator.modeltools.lmdeploy_tool import PROGRAM
from llm_operator.modeltools.recipe import REMOTE_CODE_FLAG_SINCE, Recipe, release
from llm_operator.modeltools.report import Progress, Stage
from llm_operator.modeltools.tensors import Tensor

_LAYER = re.compile(r"(?:^|\s|\.)(?:layers|h|blocks)\.(\d+)\b")
_SURE_AFTER = 0.03
"""Part of a stage after which its rate says something."""


def quantize_command(recipe: Recipe, model: Path, output: Path, version: str, dtype: str | None = None) -> list[str]:
    """The command line for one recipe (lmdeploy/cli/lite.py, 0.9.2.post1 to 0.18.0).

    `--search-scale` and `--trust-remote-code` are bare flags: a value after them is an error.
    """
    words = [PROGRAM, "lite", "auto_awq", str(model), "--work-dir", str(output)]
    words += ["--calib-samples", str(recipe.samples)]
    if recipe.samples:
        words += ["--calib-dataset", dataset_word(recipe), "--calib-seqlen", str(recipe.sequence_length)]
        words += ["--batch-size", str(recipe.batch_size)]
        words += ["--search-scale"] if recipe.search_scale else []
    words += ["--w-bits", str(recipe.bits), "--w-group-size", str(recipe.group_size)]
    words += ["--w-sym"] if recipe.symmetric else []
    words += ["--dtype", dtype] if dtype is not None else []
    if recipe.trust_remote_code and release(version) >= release(REMOTE_CODE_FLAG_SINCE):
        words.append("--trust-remote-code")
    return words


def dtype_of(config: Mapping[str, Any], tensors: Sequence[Tensor]) -> str | None:
    """What to give as --dtype; None if `auto` does the right thing.

    `auto` loads weights as config.json says, in 32 bits if that says so or nothing, although its help promises 16
    (lmdeploy/lite/utils/load.py, load_hf_from_pretrained); engines read 16-bit scales only.
    """
    if (config.get("dtype") or config.get("torch_dtype")) in ("float16", "bfloat16"):
        return None
    elements: dict[str, int] = {}
    for tensor in tensors:
        elements[tensor.dtype] = elements.get(tensor.dtype, 0) + tensor.elements
    return "bfloat16" if max(elements, key=lambda kind: elements[kind], default="") == "BF16" else "float16"


def layer_count(config: Mapping[str, Any]) -> int | None:
    """Number of decoder layers."""
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for name in ("num_hidden_layers", "num_layers"):
            if isinstance(part.get(name), int) and part[name] > 0:
                return int(part[name])
    return None


def stage_of(recipe: Recipe) -> Stage:
    """What auto_awq begins with."""
    return "Calibrating" if recipe.samples else "Quantizing"


class OutputReader:
    """Turns lines of auto_awq into progress: layers calibrated, then layers packed."""

    def __init__(
        self,
        progress: Progress,
        layers: int | None,
        detail: str,
        recipe: Recipe,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the number of layers, what to say beside the numbers, and the recipe."""
        self._progress, self._layers, self._detail, self._clock = progress, layers, detail, clock
        self._stage = stage_of(recipe)
        self._began = clock()
        self._show("loading the model", now=True)

    def line(self, text: str) -> None:
        """Read one line."""
        layer = _LAYER.search(text)
        if text.startswith("Loading calibrate dataset"):
            # The rate is that of layers: loading the model does not count.
            self._began = self._clock()
            self._show("loading calibration data", now=True)
        elif layer is None:
            return
        elif ", samples:" in text:
            self._at("Calibrating", int(layer[1]) + 1, "measured")
        elif "smooth weight done" in text:
            self._at("Quantizing", 0, "scaled")
        elif text.endswith(("weight packed.", "weight skipped.")):
            self._at("Quantizing", int(layer[1]), "packed")

    def _at(self, stage: Stage, layers_done: int, what: str) -> None:
        if stage != self._stage:
            self._stage, self._began = stage, self._clock()
        if not self._layers:
            self._show(what)
            return
        part = min(layers_done / self._layers, 1.0)
        left = (self._clock() - self._began) * (1 - part) / part if part > _SURE_AFTER else None
        self._show(f"{layers_done} of {self._layers} layers {what}", percent=100 * part, left=left)

    def _show(self, what: str, *, percent: float | None = None, left: float | None = None, now: bool = False) -> None:
        self._progress.show(self._stage, percent=percent, seconds_left=left, detail=f"{what}; {self._detail}", now=now)
