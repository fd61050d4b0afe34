"""What goes into a plan and what comes out: frozen, typed, no behaviour beyond small derived values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_operator.models import ModelShape

MIB = 1 << 20
GIB = 1 << 30
DEFAULT_MEMORY_PERCENT = 80
# vLLM 0.26.0 to 0.33.0, config/cache.py; 0.9 before.
VLLM_DEFAULT_UTILIZATION = 0.92


def gib(count: int) -> str:
    """Bytes for people."""
    if count >= GIB // 10:
        return f"{count / GIB:,.2f} GiB"
    return f"{count / MIB:,.2f} MiB" if count >= 1 << 14 else f"{count:,} bytes"


class PlanInputError(ValueError):
    """A request that no engine could understand: a negative size, a percentage beyond 99, an unknown version."""


class Engine(StrEnum):
    """Serving engine, spelled as in the resource."""

    LMDEPLOY = "LMDeploy"
    VLLM = "VLLM"


class Backend(StrEnum):
    """LMDeploy's backend, spelled as in the resource."""

    TURBOMIND = "TurboMind"
    PYTORCH = "PyTorch"


class KVQuantization(StrEnum):
    """Number format of the KV cache, spelled as in the resource."""

    NONE = "None"
    INT8 = "Int8"
    INT4 = "Int4"
    FP8 = "FP8"


class Verdict(StrEnum):
    """Fits, does not fit, or cannot be said."""

    FITS = "Fits"
    DOES_NOT_FIT = "DoesNotFit"
    UNKNOWN = "Unknown"


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
class PlanRequest:
    """What is to be served, how, and on what.

    version: engine version, "0.18.0". tensor: tensor parallelism; None: the smallest that fits. memory_percent: share
    of the memory that the weights leave free which the KV cache gets; None: 80, less where the runtime needs the rest.
    kv_memory_bytes (vLLM): KV cache per GPU in bytes instead of a share. gpu_memory_utilization (vLLM): the engine's
    own flag, a share of the total, for servers started by hand and for comparing with measurements.
    context_length: tokens of prompt and answer; None: the model's, cut to what fits. max_batched_tokens: prefill
    tokens of one step (LMDeploy --max-prefill-token-num). weight_quantization: None serves the checkpoint as it is.
    hybrid_cache (vLLM): window layers keep their window only; False with --disable-hybrid-kv-cache-manager.
    older_runner (vLLM): the older model runner; None: as the version chooses for this architecture.
    """

    shape: ModelShape
    engine: Engine
    version: str
    gpu: GpuFacts
    backend: Backend = Backend.TURBOMIND
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

    lmdeploy_ratio_percent: --cache-max-entry-count times 100. vllm_kv_cache_memory_bytes: --kv-cache-memory-bytes.
    context_length: --session-len or --max-model-len. vllm_max_sequences, vllm_max_batched_tokens: --max-num-seqs and
    --max-num-batched-tokens where the plan counts on less than vLLM's default for the card; None where the request's
    own or the default is meant. vllm_gpu_memory_utilization: the request's own, or beside a cache in bytes one that
    vLLM's first check of free memory passes.
    """

    tensor: int
    context_length: int | None
    vllm_max_sequences: int | None = None
    vllm_max_batched_tokens: int | None = None
    lmdeploy_ratio_percent: int | None = None
    vllm_kv_cache_memory_bytes: int | None = None
    vllm_gpu_memory_utilization: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What will happen, in bytes and tokens. Bytes are per GPU (rank), tokens and requests per replica.

    kv_tokens: what the cache will likely hold; kv_tokens_low: what it holds at the least, with the overheads at their
    bounds. max_concurrent_requests: requests of context_length tokens at a time. memory_percent: share in force;
    None where bytes or a utilization were given.
    """

    tensor: int
    gpus_per_replica: int
    gpu_memory_bytes: int
    weight_bytes_per_gpu: int
    kv_bytes_per_gpu: int
    kv_bytes_per_token: int
    kv_tokens: int
    kv_tokens_low: int
    max_concurrent_requests: int
    context_length: int
    memory_percent: int | None
    settings: EngineSettings
    terms: tuple[Term, ...]
    overheads: tuple[Overhead, ...]

    @property
    def explanation(self) -> str:
        """Every number with formula, inputs and source, one a line; overheads apart, with likely and highest."""
        lines = []
        for term in self.terms:
            given = ", ".join(f"{name} {value}" for name, value in term.inputs.items())
            source = f" [{term.source}]" if term.source else ""
            lines.append(
                f"{term.name} {term.value} {term.unit} = {term.formula}" + (f"; {given}" if given else "") + source
            )
        lines += [
            f"overhead {part.name}: likely {part.likely}, at most {part.high} bytes [{part.source}]"
            for part in self.overheads
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class CounterOffer:
    """A change of the request that fits, with its plan.

    change: fields of the resource by path and the value they would take, such as {"parallelism.tensor": 2},
    {"kvCache.quantization": "Int8"}, {"contextLength": 16384}, {"weightQuantization": {...}}, {"gpu.memory": "80Gi"}.
    """

    change: Mapping[str, object]
    request: PlanRequest
    plan: Plan


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The verdict, why, the plan behind it (also where it does not fit, as far as it could be computed), offers."""

    verdict: Verdict
    reasons: tuple[str, ...]
    plan: Plan | None = None
    counter_offers: tuple[CounterOffer, ...] = ()
