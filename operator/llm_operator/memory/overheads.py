"""Memory that is neither weights nor KV cache: what an engine takes before it sizes the cache, and after.

None of this is exact. Each part has a likely amount, from the engine's arithmetic where it is known and from measured
starts otherwise, and a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from llm_operator.memory.types import MIB, Overhead, PlanRequest
from llm_operator.memory.weights import WeightBytes
from llm_operator.models import ModelShape, Role

# Cards whose ranks talk over PCIe: NCCL keeps no NVLink buffers there.
PCIE_ONLY = ("L40", "L4", "A10", "A16", "A2", "T4", "PCIE", "RTX", "GEFORCE", "P40", "P4")


@dataclass(frozen=True, slots=True)
class Batch:
    """sequences: most requests in one step; tokens: prefill tokens of one step."""

    sequences: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Runtime:
    """Overheads of one rank: `before` is gone when the cache is sized, `after` must find room beside the cache."""

    before: tuple[Overhead, ...]
    after: tuple[Overhead, ...]

    @property
    def before_likely(self) -> int:
        """Likely bytes gone before the cache is sized."""
        return sum(part.likely for part in self.before)

    @property
    def before_high(self) -> int:
        """Bound of the bytes gone before the cache is sized."""
        return sum(part.high for part in self.before)

    @property
    def after_likely(self) -> int:
        """Likely bytes needed beside the cache."""
        return sum(part.likely for part in self.after)

    @property
    def after_high(self) -> int:
        """Bound of the bytes needed beside the cache."""
        return sum(part.high for part in self.after)


class RuntimeRules(Protocol):
    """What an engine, or one of its backends, takes beside weights and cache. `tensor` is the number of ranks."""

    def default_batch(self, request: PlanRequest) -> Batch:
        """Return the batch limits: the request's, else the engine's defaults for this card."""
        ...

    def planned_batch(self, request: PlanRequest, tensor: int, weights: WeightBytes) -> tuple[Batch, Runtime]:
        """Return the batch limits that a plan counts on, and the overheads that follow."""
        batch = self.default_batch(request)
        return batch, self.runtime(request, tensor, batch)

    def runtime(self, request: PlanRequest, tensor: int, batch: Batch) -> Runtime:
        """Return the overheads of one rank."""
        ...

    def profile(self, request: PlanRequest, tensor: int) -> tuple[Overhead, ...]:
        """Return what an engine that takes a share of the total subtracts from it beside the weights."""
        return ()


def nccl(tensor: int, likely: int, high: int, source: str) -> Overhead:
    """Return what communication between ranks takes, in MiB. Measured between two; the bounds leave room for more."""
    unit = MIB if tensor > 1 else 0
    return Overhead("NCCL", likely * unit, high * unit, source)


def over_pcie(product: str) -> bool:
    """Return whether cards of this name have no NVLink; A100 and A800 end in digits that A10 begins with."""
    names = product.upper().replace("_", "-").split("-")
    return any(name in PCIE_ONLY or name.rstrip("ADSTI") in PCIE_ONLY for name in names)


def dense_width(shape: ModelShape) -> int:
    """Return the widest intermediate of a dense layer; 0 without one."""
    return max((piece.rows for piece in shape.tensors if piece.role is Role.GATE_UP and piece.columns > 1), default=0)
