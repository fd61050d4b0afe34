"""Whether the weight files hold the model that config.json describes. Compares; corrects nothing."""

from __future__ import annotations

from dataclasses import replace

from llm_operator.models.errors import UnknownModelError
from llm_operator.models.shape import CheckpointQuantization, ModelShape, Role, Tensor

GIB = 1 << 30
LARGEST_TOWER = 14 * GIB
"""An encoder of 6 billion parameters in 16 bit, and its projector."""
STORED_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Layers for speculative decoding, which no config.json counts: 4 % of GLM-4.7-Flash, 2.6 % of DeepSeek-V3.
TOLERANCE_PERCENT = 10
# Zero points, indices and packed scales differ between the tools that quantize, and so does what they leave as it is.
QUANTIZED_TOLERANCE_PERCENT = 15


def expected_bytes(shape: ModelShape) -> int:
    """Return the bytes of all tensors of the checkpoint as its files hold them, by config.json alone."""
    wide = STORED_BYTES[shape.dtype]
    return int(sum(_bytes_of(piece, shape.quantization, wide) * piece.parameters for piece in shape.tensors))


def contradiction(shape: ModelShape, stored_bytes: int) -> str | None:
    """Return what to say where weight files of `stored_bytes` cannot be the model of `shape`; None if they can.

    Unquantized weights may be stored in 16 or 32 bit whatever config.json says: engines serve them in 16. A tied
    head may be stored once or twice.
    """
    expected = expected_bytes(shape)
    head = shape.vocabulary_size * shape.hidden_size if shape.tied_embeddings else 0
    if shape.quantization is None:
        accepted = [width * (shape.parameters + copy) for width in (2, 4) for copy in (0, head)]
        tolerance = TOLERANCE_PERCENT
    else:
        accepted = [expected, expected + STORED_BYTES[shape.dtype] * head]
        tolerance = QUANTIZED_TOLERANCE_PERCENT
    more = shape.unserved * (4 if shape.quantization is None else STORED_BYTES[shape.dtype])
    if any(
        (100 - tolerance) * size <= 100 * stored_bytes <= (100 + tolerance) * size + 100 * more for size in accepted
    ):
        return None
    held = f"the weight files hold {_size(stored_bytes)}, but config.json describes {shape.parameters:,} parameters"
    if shape.quantization is None:
        return (
            f"{held}, unquantized, about {_size(expected)}: one of them belongs to another model or leaves out its"
            " quantization, so no plan is made"
        )
    how = f"quantized by {shape.quantization.method} to {shape.quantization.bits} bits, about {_size(expected)}"
    whole = 2 * shape.parameters
    if abs(stored_bytes - whole) * 100 <= TOLERANCE_PERCENT * whole:
        return f"{held}, {how}: the files are as large as unquantized ones, so no plan is made"
    return (
        f"{held}, as this version reads them {how}: the files decide, and what they quantize is not known here, so no"
        " plan is made, and nothing is blocked"
    )


def _size(count: int) -> str:
    return f"{count / GIB:,.2f} GiB" if count >= GIB // 10 else f"{count:,} bytes"


def _bytes_of(piece: Tensor, quantization: CheckpointQuantization | None, wide: int) -> float:
    """Return bytes of one parameter with its share of scales and zero points."""
    quantization = piece.how or quantization
    if quantization is None or not piece.linear or piece.kept or piece.role in quantization.skipped:
        return wide
    bits: float = quantization.bits
    if quantization.group_size is not None:
        scale = quantization.scale_bits + (0 if quantization.symmetric else quantization.bits)
        bits += scale / quantization.group_size
    return bits / 8


def completed(shape: ModelShape, stored_bytes: int | None) -> ModelShape:
    """Return the shape with what sees, whole on each GPU, where only the size of the weight files gives its size.

    Raises UnknownModelError where that size is not known, or cannot be that of a decoder and an encoder.
    """
    if not shape.tower_by_files:
        return shape
    begin = f"{shape.architecture}: what turns images or sound into tokens is counted by the size of the weight files"
    end = "No plan is made, and nothing is blocked"
    if stored_bytes is None:
        raise UnknownModelError(f"{begin}, which is not known here. {end}")
    decoder = expected_bytes(shape)
    rest = stored_bytes - decoder
    if not 0 <= rest <= max(LARGEST_TOWER, decoder // 2):
        raise UnknownModelError(f"{begin}; these hold {_size(stored_bytes)}, the decoder {_size(decoder)}. {end}")
    piece = Tensor(Role.REPLICATED, max(rest // STORED_BYTES[shape.dtype], 1), 1, 1, linear=False)
    return replace(shape, tensors=(*shape.tensors, piece), tower_by_files=False)


def unknown_with_files(reason: str, stored_bytes: int | None) -> str:
    """Return what to say of a model whose shape is unknown, with what its weight files tell: the least it takes."""
    if stored_bytes is None:
        return reason
    return f"{reason}; its weight files hold {_size(stored_bytes)}, which all its GPUs together must hold"
