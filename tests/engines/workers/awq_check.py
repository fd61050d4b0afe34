"""ORIGINAL QUANTIZED: how far the unpacked weights of an AWQ checkpoint are from the original's, in quantization steps.

For checkpoints made without calibration data, whose weights are the original's, only rounded. Prints one JSON object.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from llm_operator.modeltools import dequantize

GROUP_SIZE = 128


def worst_error(original: dict[str, torch.Tensor], quantized: dict[str, torch.Tensor]) -> tuple[float, int]:
    """The largest difference in units of the group's step, and how many matrices were compared."""
    worst, count = 0.0, 0
    for name in sorted(name for name in quantized if name.endswith(".qweight")):
        stem = name.removesuffix(".qweight")
        scales = quantized[f"{stem}.scales"]
        weight = dequantize.dequantize(quantized[name], quantized[f"{stem}.qzeros"], scales)
        step = scales.float().repeat_interleave(GROUP_SIZE, 0).t()
        # auto_awq rounds to 16 bits on the way: a tenth of a step is its own doing.
        worst = max(worst, float(((weight - original[f"{stem}.weight"].float()).abs() / step).max()))
        count += 1
    return worst, count


def main() -> None:
    """Compare, and compare again with the columns in the wrong order, which must be seen."""
    original, quantized = (load_file(Path(folder) / "model.safetensors") for folder in sys.argv[1:])
    worst, count = worst_error(original, quantized)
    dequantize.PACK_ORDER = tuple(range(8))  # type: ignore[assignment]
    wrong, _ = worst_error(original, quantized)
    print(json.dumps({"worst": worst, "wrong": wrong, "matrices": count}))


if __name__ == "__main__":
    main()
