"""What a reader of one architecture finds in config.json."""

from __future__ import annotations

from dataclasses import dataclass

from llm_operator.models.layers import Core
from llm_operator.models.shape import AttentionLayers, CompressedLayers, Experts, StateLayers, Tensor, Tower


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder's sizes, tensors, and what its layers keep; fields as in ModelShape."""

    core: Core
    tensors: tuple[Tensor, ...]
    cache: tuple[AttentionLayers, ...]
    experts: Experts | None = None
    rotary_dim: int | None = None
    rotary_tables: int = 1
    states: tuple[StateLayers, ...] = ()
    compressed: tuple[CompressedLayers, ...] = ()
    streams: int = 1
    tower: Tower | None = None
    unplanned: str = ""
    unserved: int = 0
    tower_by_files: bool = False
