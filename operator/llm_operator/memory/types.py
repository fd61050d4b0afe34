"""What memory arithmetic is about, whatever the engine: a request, a GPU, overheads. Frozen, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from llm_operator.memory.calibration import NOTHING_LEARNED, Calibration
from llm_operator.models import CheckpointQuantization, ModelShape

MIB = 1 << 20
GIB = 1 << 30
DEFAULT_MEMORY_PERCENT = 80


def gib(count: int) -> str:
    """Bytes for people."""
    if count >= GIB // 10:
        return f"{count / GIB:,.2f} GiB"
    return f"{count / MIB:,.2f} MiB" if count >= 1 << 14 else f"{count:,} bytes"


class PlanInputError(ValueError):
    """A request that no engine could understand: a negative size, a percentage beyond 99, an unknown version."""


class KVQuantization(StrEnum):
    """Number format of the KV cache, spelled as in the resource."""

    NONE = "None"
    INT8 = "Int8"
    INT4 = "Int4"
    FP8 = "FP8"


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """GPUs of one kind.

    product: as GPU feature discovery spells it. memory_bytes: total memory of one GPU as the driver reports it (CUDA
    total), not as the box says. compute_capability: such as (9, 0); None: not known, and nothing that depends on it is
    refused. count: GPUs of one node, the most one replica can take. source: where the numbers come from. note: what was
    corrected of what the user said; empty: nothing.
    """

    product: str
    memory_bytes: int
    compute_capability: tuple[int, int] | None = None
    count: int = 1
    source: str = "given"
    note: str = ""


@dataclass(frozen=True, slots=True)
class WeightQuantization:
    """Quantization done by this project before serving (spec.weightQuantization); the checkpoint must be 16 bit.

    samples: of the calibration; 0 for none. sequence_length: tokens of one. search_scale: search the scaling ratio.
    What is served depends on the first three alone.
    """

    method: str = "AWQ"
    bits: int = 4
    group_size: int = 128
    samples: int = 128
    sequence_length: int = 2048
    batch_size: int = 1
    search_scale: bool = False


@dataclass(frozen=True, slots=True)
class Adapters:
    """Room for LoRA adapters that the engine sets aside at its start: so many at a time, up to this rank."""

    slots: int
    rank: int


@dataclass(frozen=True, slots=True)
class Draft:
    """What proposes `tokens` tokens a step: a layer of the model's own, another model, or neither (n-grams)."""

    tokens: int
    own_layer: bool
    other_model: bool


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What is to be served, how, and on what.

    engine: name of the engine in the table of engines. version: of the engine, "0.18.0". backend: the engine's backend;
    None: its default, or the only one. tensor: tensor parallelism; None: the smallest that fits. memory_percent: share
    of the memory that the weights leave free which the KV cache gets; None: 80, less where the runtime needs the rest.
    kv_memory_bytes: KV cache per GPU in bytes instead of a share. gpu_memory_utilization: a share of the total instead,
    for servers started by hand and for comparing with measurements; not every engine takes these two.
    context_length: tokens of prompt and answer; None: the model's, cut to what fits. max_batched_tokens: prefill
    tokens of one step. weight_quantization: None serves the checkpoint as it is. hybrid_cache: window layers keep their
    window only, in engines that can. older_runner: the engine's older model runner; None: as the version chooses for
    this architecture. calibration: what starts like this one took beyond the constants. weight_format: as in
    spec.model.format. loaded_as: how the engine quantizes 16-bit weights while it loads them; None: it does not.
    trust_remote_code: whether the repository's own code may run; None: not known. deprecated_weights: the command line
    allows methods that the engine calls deprecated. adapters: room for LoRA adapters; None: none.
    draft: what proposes tokens; None: nothing does. expert_kernels: kernels of experts that the engine must take, as it
    names them; empty: it chooses.
    """

    shape: ModelShape
    engine: str
    version: str
    gpu: GpuFacts
    backend: str | None = None
    tensor: int | None = None
    kv_quantization: KVQuantization = KVQuantization.NONE
    memory_percent: int | None = None
    kv_memory_bytes: int | None = None
    gpu_memory_utilization: float | None = None
    context_length: int | None = None
    max_concurrent_sequences: int | None = None
    max_batched_tokens: int | None = None
    weight_quantization: WeightQuantization | None = None
    prefix_caching: bool = True
    enforce_eager: bool = False
    hybrid_cache: bool = True
    older_runner: bool | None = None
    calibration: Calibration = NOTHING_LEARNED
    weight_format: str = "Auto"
    loaded_as: CheckpointQuantization | None = None
    trust_remote_code: bool | None = None
    deprecated_weights: bool = False
    adapters: Adapters | None = None
    draft: Draft | None = None
    expert_kernels: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """One number of a plan with the formula it comes from and the formula's inputs.

    unit: bytes, tokens or requests. source: engine, version and file, or measurement, behind the formula.
    """

    name: str
    value: int
    unit: str
    formula: str
    inputs: Mapping[str, int | float | str] = field(default_factory=lambda: MappingProxyType({}))
    source: str = ""


@dataclass(frozen=True, slots=True)
class Overhead:
    """Memory that cannot be computed exactly, per GPU in bytes: the likely amount and the most it was bounded by."""

    name: str
    likely: int
    high: int
    source: str


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the command line must carry so that the plan becomes true; None: leave the flag out.

    ratio_percent: share of the memory that is free after the weights are loaded, for engines that take a share.
    kv_cache_memory_bytes: size of the KV cache per GPU, for engines that take bytes. context_length: longest prompt and
    answer in tokens. max_sequences, max_batched_tokens: where the plan counts on less than the engine's default for the
    card; None if the request's own or the default is meant. gpu_memory_utilization: the request's own, or beside a
    cache in bytes one that the engine's first check of free memory passes.
    """

    tensor: int
    context_length: int | None
    max_sequences: int | None = None
    max_batched_tokens: int | None = None
    ratio_percent: int | None = None
    kv_cache_memory_bytes: int | None = None
    gpu_memory_utilization: float | None = None
