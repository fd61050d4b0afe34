"""Weight files as bytes already read: the index of a sharded checkpoint and the header of one file.

Format: 8 bytes little-endian length, then a JSON object of name to {dtype, shape, data_offsets} (safetensors 0.8).

The operator and the command line read the format here. The model tools have their own reader, of files
(modeltools/inspection.py): they stand alone in images that have nothing else of this package.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.fields import Fields, load_json

MAXIMUM_HEADER = 100_000_000
MOST_BYTES = 1 << 50
"""Of all tensors."""
BITS: Mapping[str, int] = MappingProxyType(
    {
        "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "BF16": 16, "F16": 16, "I16": 16, "U16": 16,
        "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class WeightIndex:
    """model.safetensors.index.json. total_bytes: of all tensors, None if absent; files: names of the shards."""

    total_bytes: int | None
    files: tuple[str, ...]
    tensors: int


@dataclass(frozen=True, slots=True)
class WeightHeader:
    """Header of one safetensors file: bytes of all tensors, bytes by dtype, elements, number of tensors."""

    total_bytes: int
    bytes_by_dtype: Mapping[str, int]
    elements: int
    tensors: int
    file_bytes: int


def read_index(content: str | bytes) -> WeightIndex:
    """Read model.safetensors.index.json. Raises InvalidModelConfigError when it is broken."""
    fields = Fields(load_json(content, "model.safetensors.index.json"), "index")
    places = fields.optional_object("weight_map")
    if not places or not all(isinstance(file, str) for file in places.values()):
        raise InvalidModelConfigError("model.safetensors.index.json has no weight_map of tensor names to files")
    total = fields.optional_object("metadata").get("total_size")
    if isinstance(total, float) and total.is_integer():  # some writers store it as a float
        total = int(total)
    if total is not None and (isinstance(total, bool) or not isinstance(total, int) or not 0 < total < 1 << 50):
        raise InvalidModelConfigError(f"model.safetensors.index.json: total_size is {total!r}; expected bytes")
    return WeightIndex(total, tuple(sorted({str(file) for file in places.values()})), len(places))


def header_length(first_bytes: bytes) -> int:
    """Return how many bytes of a file hold its header, the 8 of its length included; needs the first 8 bytes."""
    if len(first_bytes) < 8:
        raise InvalidModelConfigError(f"safetensors file ends after {len(first_bytes)} bytes; expected a header")
    length = int.from_bytes(first_bytes[:8], "little")
    if not 2 <= length <= MAXIMUM_HEADER:
        raise InvalidModelConfigError(f"safetensors header of {length} bytes; expected 2 to {MAXIMUM_HEADER}")
    return 8 + length


def tensor_bytes(header: bytearray, file: str) -> int | None:
    """Return the bytes of all tensors by the JSON of a header; None if it has no tensor. Empties the header.

    For headers of strangers: they are counted in hundreds of thousands of tensors, and no object is made of any.
    Raises InvalidModelConfigError, which names the file, when it is broken.
    """

    def last_byte(pairs: list[tuple[str, Any]]) -> int | None:
        ends = [value for _, value in pairs if isinstance(value, int) and not isinstance(value, bool)]
        for name, value in pairs:
            if name == "data_offsets" and isinstance(value, list) and len(value) == 2:
                ends.append(value[1] if isinstance(value[1], int) else MOST_BYTES)
        return max(ends, default=None)

    try:
        # Not both at once: the bytes and the text of a long header are half of what reading it takes.
        text = header.decode()
        header.clear()
        last = json.loads(text, object_pairs_hook=last_byte)  # noqa: TID251 - to a number, within the limits
    except (ValueError, RecursionError) as error:
        raise InvalidModelConfigError(f"the header of {file} is not JSON ({type(error).__name__})") from None
    if last is not None and not (isinstance(last, int) and 0 <= last < MOST_BYTES):
        raise InvalidModelConfigError(f"the header of {file} has tensors of impossible sizes")
    return last


def read_header(first_bytes: bytes) -> WeightHeader:
    """Read the header of one safetensors file from its first bytes.

    Raises InvalidModelConfigError when it is truncated, when a tensor's size contradicts its shape, or when tensors
    leave gaps or overlap.
    """
    end = header_length(first_bytes)
    if len(first_bytes) < end:
        raise InvalidModelConfigError(f"safetensors header needs {end} bytes, {len(first_bytes)} are there")
    entries = load_json(first_bytes[8:end], "safetensors header")
    entries.pop("__metadata__", None)
    by_dtype: Counter[str] = Counter()
    elements = 0
    spans: list[tuple[int, int]] = []
    for name, entry in entries.items():
        fields = Fields(entry if isinstance(entry, dict) else {}, name)
        dtype, shape, offsets = fields.string("dtype", ""), fields.integers("shape"), fields.integers("data_offsets")
        if dtype not in BITS or len(offsets) != 2 or any(size < 0 for size in shape):
            raise InvalidModelConfigError(f"safetensors header: tensor {name[:80]} has dtype {dtype!r}, shape {shape}")
        size = offsets[1] - offsets[0]
        if size * 8 != prod(shape) * BITS[dtype]:
            raise InvalidModelConfigError(f"safetensors header: tensor {name[:80]} has {size} bytes for shape {shape}")
        by_dtype[dtype] += size
        elements += prod(shape)
        spans.append((offsets[0], offsets[1]))
    position = 0
    for start, stop in sorted(spans):
        if start != position:
            raise InvalidModelConfigError(f"safetensors header: bytes {position} to {start} belong to no tensor or two")
        position = stop
    return WeightHeader(position, MappingProxyType(dict(by_dtype)), elements, len(entries), end + position)
