"""What goes into a plan and what comes out: frozen, typed, no behaviour beyond small derived values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from llm_operator.memory.types import EngineSettings, Overhead, PlanRequest, Term


class Verdict(StrEnum):
    """Fits, does not fit, or cannot be said."""

    FITS = "Fits"
    DOES_NOT_FIT = "DoesNotFit"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Plan:
    """What will happen, in bytes and tokens. Bytes are per GPU (rank), tokens and requests per replica.

    kv_tokens: what the cache will likely hold; kv_tokens_low: what it holds at least, with the overheads at their
    bounds. max_concurrent_requests: requests of context_length tokens at a time. memory_percent: share in force;
    None if bytes or a utilization were given.
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
    """The verdict, why, the plan behind it (also if it does not fit, as far as it could be computed), offers."""

    verdict: Verdict
    reasons: tuple[str, ...]
    plan: Plan | None = None
    counter_offers: tuple[CounterOffer, ...] = ()
