"""What planning asks an engine, or one of its backends. Each folder of engines/ has the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from llm_operator.memory.budget import BudgetRules, Estimate
from llm_operator.memory.kv_cache import CacheRules
from llm_operator.memory.overheads import RuntimeRules
from llm_operator.memory.types import EngineSettings, PlanRequest, Term
from llm_operator.memory.weights import WeightRules
from llm_operator.models import CheckpointQuantization, Tensor

Change = Mapping[str, object]


class EngineMemory(WeightRules, CacheRules, RuntimeRules, BudgetRules, Protocol):
    """How one engine, or one of its backends, spends the memory of a GPU, and what it refuses before any byte counts.

    An engine inherits from it and defines what has no answer here.

    Attributes:
        cache_is_exact: the cache has exactly the planned bytes, so that nothing else decides how much it holds.
        pads_widths: widths that the ranks do not divide are padded instead of refused.
        fewer_sequences_help: buffers shrink with the number of sequences, so that a lower limit may fit.
    """

    cache_is_exact: bool = False
    pads_widths: bool = False
    fewer_sequences_help: bool = False

    def nonsense(self, request: PlanRequest) -> Iterator[str]:
        """Yield what this engine has no option for."""
        yield from ()

    def too_old(self, request: PlanRequest) -> str | None:
        """Return why the engine has no code for the card; None if it has, or the card is not known."""
        ...

    def refusals(self, request: PlanRequest, quantization: CheckpointQuantization | None) -> Iterator[str]:
        """Yield why this version cannot serve the model on this card. quantization: of the served weights."""
        ...

    def unknowns(self, request: PlanRequest) -> tuple[str, ...]:
        """Return why nothing can be computed, although the model is known; empty if it can."""
        return ()

    def while_loading(self, request: PlanRequest) -> CheckpointQuantization | None:
        """Return how this version quantizes 16-bit weights while it loads them; None if it does not."""
        return None

    def most_sequences(self, request: PlanRequest, blocks: int) -> int | None:
        """Return how many sequences it starts with at most in so many blocks; None if blocks set no limit."""
        return None

    def notes(self, request: PlanRequest) -> Iterator[str]:
        """Yield what differs from what the request says although it fits."""
        yield from ()

    def objections(self, request: PlanRequest, tensor: int) -> Iterator[str]:
        """Yield why the engine refuses this many ranks, beyond what every engine refuses."""
        yield from ()

    def least_group(self, piece: Tensor, how: CheckpointQuantization) -> int | None:
        """Return what the inputs of a quantized matrix on one rank must be a multiple of; None: any number will do."""
        if how.method == "mxfp4":
            return None
        return how.block[1] if how.block else how.group_size

    def other_backends(self, request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
        """Yield the change to another backend of this engine, and the request with it."""
        yield from ()

    def settings(self, found: Estimate) -> EngineSettings:
        """Return what the command line must carry so that the plan becomes true."""
        ...

    def cache_term(self, found: Estimate) -> Term:
        """Return how the bytes of the KV cache come about."""
        ...

    def tokens_term(self, found: Estimate) -> Term:
        """Return how these bytes become tokens."""
        ...
