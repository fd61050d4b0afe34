"""How the KV cache is sized: the bytes that weights and overheads leave, and the share of them that it gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from llm_operator.memory.kv_cache import Allocation
from llm_operator.memory.overheads import Batch, Runtime
from llm_operator.memory.types import DEFAULT_MEMORY_PERCENT, Overhead, PlanRequest, Term, gib
from llm_operator.memory.weights import WeightBytes


@dataclass(frozen=True, slots=True)
class Rank:
    """What is known of one rank before the cache is sized.

    free_low: free bytes with the overheads at their bound. saved: what starts of this kind took less than planned, a
    negative amount; None if they took as much or more, or nothing was learned.
    """

    request: PlanRequest
    tensor: int
    batch: Batch
    weights: WeightBytes
    runtime: Runtime
    profile: tuple[Overhead, ...]
    free: int
    free_low: int
    saved: Overhead | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget of the cache and how it came about: in bytes, likely and with the overheads at their bound.

    set_aside: bytes that the engine keeps before it takes its share. percent: the share. problem: why it cannot work.
    """

    likely: int
    low: int
    set_aside: int = 0
    percent: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """One configuration on one rank. problem: why it cannot work, None if it does. Sizes in bytes.

    free: what weights and overheads before the cache leave. reserve: what must stay free beside the cache. percent: the
    share in force, None if bytes or a utilization decided. low: the cache with every overhead at its bound.
    """

    request: PlanRequest
    tensor: int
    batch: Batch
    weights: WeightBytes
    runtime: Runtime
    profile: tuple[Overhead, ...]
    free: int
    set_aside: int
    reserve: int
    percent: int | None
    budget: int
    likely: Allocation
    low: Allocation
    context: int
    requests: int
    per_token: int
    problem: str | None


class BudgetRules(Protocol):
    """How an engine, or one of its backends, sizes its KV cache."""

    def budget(self, rank: Rank) -> Budget:
        """Return the bytes of the cache where weights and overheads leave any."""
        ...


def share_of(rank: Rank, free: int, free_low: int) -> Budget:
    """Return a percentage of `free`; absent, 80 or what leaves the runtime its room."""
    reserve = rank.runtime.after_likely
    most = 100 * (free - reserve) // free
    percent = rank.request.memory_percent
    if percent is None:
        percent = max(min(DEFAULT_MEMORY_PERCENT, most), 0)
    problem = _no_rest(free, percent, reserve, most) if percent == 0 or percent > most else None
    return Budget(free * percent // 100, max(free_low, 0) * percent // 100, percent=percent, problem=problem)


def _no_rest(free: int, percent: int, reserve: int, most: int) -> str:
    if most < 1:
        return f"{gib(free)} are free for KV cache and runtime buffers, of which the buffers alone need {gib(reserve)}"
    return (
        f"with memoryPercent {percent} of {gib(free)} free for the KV cache, {gib(free - free * percent // 100)} remain"
        f" for runtime buffers, which need {gib(reserve)}; memoryPercent {most} would leave it"
    )


def share_term(found: Estimate, source: str) -> Term:
    """Return how a share of the free memory comes about. source: engine and file behind it."""
    inputs = {"memoryPercent": found.percent or 0, "free": found.free, "mustStayFree": found.reserve}
    return Term("kvBytesPerGpu", found.budget, "bytes", "memoryPercent / 100 * free", inputs, source)


def block_inputs(found: Estimate) -> dict[str, int]:
    """Return the blocks of the likely cache, as inputs of a term."""
    return {"kvBytes": found.budget, "blocks": found.likely.blocks, "blockBytes": found.likely.block_bytes}
