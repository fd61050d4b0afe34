"""What is tried, and in which order, when the GPU or the machine runs out of memory.

The first try is the requested recipe. Then, step by step: batches of one sample, half the samples, half the length, and
so on down to MIN_SAMPLES samples of MIN_LENGTH tokens; last without calibration data. The memory on the GPU follows
samples x length: auto_awq keeps the hidden states of all samples there (lmdeploy/lite/quantization/calibration.py).
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Literal

from llm_operator.modeltools import layout, paths
from llm_operator.modeltools.recipe import Recipe
from llm_operator.modeltools.text import read_file, read_json

MIN_SAMPLES, MIN_LENGTH = 16, 512
State = Literal["running", "stopped", "written", "evaluating"]
"""running: auto_awq was started; stopped: it was ended on purpose, nothing is known against this rung; written: the
weights are complete; evaluating: they are being measured."""


def rungs(recipe: Recipe) -> list[Recipe]:
    """The recipe, and what is tried after it."""
    found = [recipe]
    samples, length = recipe.samples, recipe.sequence_length
    if samples and recipe.batch_size > 1:
        found.append(dataclasses.replace(recipe, batch_size=1))
    while samples > MIN_SAMPLES or (samples and length > MIN_LENGTH):
        # In turns, whichever is still above its floor.
        fewer = samples > MIN_SAMPLES and (
            length <= MIN_LENGTH or samples * recipe.sequence_length >= length * recipe.samples
        )
        if fewer:
            samples = max(samples // 2, MIN_SAMPLES)
        else:
            length = max(length // 2, MIN_LENGTH)
        found.append(dataclasses.replace(recipe, samples=samples, sequence_length=length, batch_size=1))
    if samples:
        found.append(dataclasses.replace(recipe, samples=0, search_scale=False))
    return found


@dataclasses.dataclass
class Attempts:
    """Which rung is tried; kept beside the directory, so that the next pod continues where this one was killed."""

    path: Path
    recipe: dict[str, object]
    """The requested recipe, and the tool's version."""
    rung: int = 0
    state: State = "stopped"
    failures: list[dict[str, object]] = dataclasses.field(default_factory=list)
    used: dict[str, object] | None = None
    """The recipe that the weights were made with."""
    message: str = ""
    """What to say about it."""
    quality: dict[str, object] | None = None

    def save(self, state: State) -> None:
        """Keep what is being done now."""
        self.state = state
        body = {name: value for name, value in vars(self).items() if name != "path"}
        written = paths.beside(self.path, ".new")
        with written.open("w") as file:
            json.dump(body, file)
            file.flush()
            os.fsync(file.fileno())
        written.replace(self.path)

    def failed(self, recipe: Recipe, reason: str) -> None:
        """Go on to the next rung."""
        entry: dict[str, object] = {"samples": recipe.samples, "failure": reason}
        if recipe.samples:
            entry["sequenceLength"] = recipe.sequence_length
        self.failures.append(entry)
        self.rung += 1
        self.save("stopped")

    def forget(self) -> None:
        """Nothing is left to go on with."""
        self.path.unlink(missing_ok=True)


def attempts_file(directory: Path) -> Path:
    """Where the attempts at a directory are kept."""
    written = layout.partial(directory)
    return paths.beside(written, ".ladder.json")


def load(directory: Path, recipe: dict[str, object]) -> Attempts:
    """What earlier pods tried for the same recipe; a new beginning where there was none."""
    path = attempts_file(directory)
    try:
        body = read_json(read_file(path))
        kept = Attempts(path, **body)
    except (OSError, ValueError, KeyError, TypeError):
        return Attempts(path, recipe)
    return kept if kept.recipe == recipe else Attempts(path, recipe)
