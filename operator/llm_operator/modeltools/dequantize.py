"""A model's weights replaced by those of its AWQ checkpoint, unpacked: what an engine computes with, in plain tensors.

Layout "gemm" (lmdeploy/lite/quantization/modules/linear.py, from_linear): qweight is [inputs, outputs / 8], an int32
holds eight 4-bit values of eight neighbouring outputs in PACK_ORDER, lowest bits first; qzeros is [groups, outputs / 8]
likewise, scales [groups, outputs]. weight = (value - zero) x scale.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PACK_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_EXPERT = re.compile(
    r"^(?P<experts>.+\.experts)\.(?P<number>\d+)\.(?P<part>gate_proj|up_proj|down_proj|w1|w2|w3)\.weight$"
)
_FUSED = {
    "gate_proj": ("gate_up_proj", 0),
    "w1": ("gate_up_proj", 0),
    "up_proj": ("gate_up_proj", 1),
    "w3": ("gate_up_proj", 1),
    "down_proj": ("down_proj", None),
    "w2": ("down_proj", None),
}
"""transformers 5 keeps the matrices of all experts in one tensor: which one, and which half of its rows."""


class MismatchError(Exception):
    """The checkpoint's tensors are not those of the model."""


def unpack(packed: Any) -> Any:
    """The 4-bit values of an int32 matrix: [rows, columns] -> [rows, 8 x columns]."""
    import torch  # noqa: PLC0415

    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=packed.device)
    values = (packed.unsqueeze(-1) >> shifts) & 0xF
    ordered = torch.empty_like(values)
    ordered[..., list(PACK_ORDER)] = values
    return ordered.reshape(packed.shape[0], -1)


def dequantize(qweight: Any, qzeros: Any, scales: Any) -> Any:
    """The weight of a linear layer, [outputs, inputs], in 32 bits."""
    values, zeros, scale = unpack(qweight), unpack(qzeros), scales.float()
    group = values.shape[0] // scale.shape[0]
    values = values.reshape(scale.shape[0], group, -1)
    weight = (values - zeros.unsqueeze(1)).float() * scale.unsqueeze(1)
    return weight.reshape(-1, scale.shape[1]).t()


def load_quantized(model: Any, directory: Path) -> None:
    """Copy every tensor of an AWQ checkpoint into a model of the original's class, in place.

    Not only the packed ones: auto_awq also scales norms and the layers before.

    Raises:
        MismatchError: a tensor has no place in the model, or the model has one that the checkpoint lacks.
    """
    from safetensors import safe_open  # noqa: PLC0415

    places = model.state_dict()
    filled: set[int] = set()
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as content:
            names = set(content.keys())
            for name in sorted(names):
                stem, _, kind = name.rpartition(".")
                if kind in ("qzeros", "scales") and f"{stem}.qweight" in names:
                    continue
                if kind == "qweight":
                    parts = [content.get_tensor(f"{stem}.{part}") for part in ("qweight", "qzeros", "scales")]
                    _fill(places, f"{stem}.weight", dequantize(*parts), filled)
                else:
                    _fill(places, name, content.get_tensor(name), filled)
    missing = [name for name, place in places.items() if place.data_ptr() not in filled and place.numel()]
    if missing:
        raise MismatchError(f"the quantized checkpoint has nothing for {len(missing)} tensors, such as {missing[0]}")


def _fill(places: dict[str, Any], name: str, value: Any, filled: set[int]) -> None:
    place: Any = places.get(name)
    whole: Any = place
    expert = _EXPERT.match(name)
    if place is None and expert is not None:
        fused, half = _FUSED[expert["part"]]
        whole = places.get(f"{expert['experts']}.{fused}")
        if whole is not None:
            rows = whole[int(expert["number"])]
            place = rows if half is None else rows.chunk(2)[half]
    if place is None or place.shape != value.shape:
        raise MismatchError(f"the model has no place for the tensor {name} of shape {tuple(value.shape)}")
    place.copy_(value)
    filled.add(whole.data_ptr())
