"""What the headers of safetensors files tell of a model's weights, without reading them.

A file begins with the length of its header, eight bytes little-endian, and the header, a JSON object: tensor name ->
dtype, shape and place (https://github.com/huggingface/safetensors, README, "Format").
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from llm_operator.modeltools import inspection
from llm_operator.modeltools.report import ToolError

DIMENSIONS = 16


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint."""

    name: str
    dtype: str
    """As safetensors writes it: BF16, F16, F32, I32 ..."""
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def read_tensors(directory: Path) -> list[Tensor]:
    """Every tensor of the safetensors files that an engine loads.

    Raises:
        ToolError: WeightsMissing, WeightsCorrupt.
    """
    return [tensor for file in inspection.weight_files(directory) for tensor in _of_file(file)]


def _of_file(file: Path) -> list[Tensor]:
    header = inspection.header_of(file)
    try:
        return [Tensor(name, str(entry["dtype"]), _shape(entry["shape"])) for name, entry in header.items()]
    except (ValueError, TypeError, KeyError) as error:
        text = f"{file} has a tensor without dtype and shape: {error}; copy or fetch it again"
        raise ToolError("WeightsCorrupt", text) from error


def _shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(shape) > DIMENSIONS:
        raise ValueError(f"a shape is a list of at most {DIMENSIONS} numbers")
    if not all(isinstance(size, int) and 0 <= size < 1 << 50 for size in shape):
        raise ValueError("a shape is of whole numbers that are not negative")
    return tuple(shape)
