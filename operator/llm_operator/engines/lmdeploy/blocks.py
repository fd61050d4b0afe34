"""LMDeploy's KV cache: TurboMind's slabs and the PyTorch backend's blocks, both of 64 tokens.

Sources: LMDeploy 0.18.0 src/turbomind/memory/{slab.h,object.cc} (blocks and slabs, exact in 17 measured starts) and
pytorch/engine/executor/base.py; for states 0.16.0 src/turbomind/engine/scheduler.cc and models/llama/
GatedDeltaNetLayer.cc (objects and slabs exact in 2 measured starts of 0.18.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from llm_operator.memory.kv_cache import Allocation, CacheRules, head_bytes, layer_bytes_per_token
from llm_operator.memory.types import GIB, MIB, KVQuantization, PlanRequest
from llm_operator.memory.weights import kv_heads_per_rank, padded
from llm_operator.models import AttentionKind

BLOCK = 64
PLANE_ALIGNMENT = 256
SLAB_UNIT = 32 * MIB
LARGEST_SLAB = GIB
GOOD_YIELD = 0.95


def slab_bytes(block: int) -> int:
    """Return TurboMind's slab: doubled from the smallest power of two that holds a block until 95 % of it is used."""
    slab = max(SLAB_UNIT, 1 << (block - 1).bit_length())
    while slab // block * block / slab < GOOD_YIELD and slab < LARGEST_SLAB:
        slab *= 2
    return slab


def turbomind_slabs(token_bytes: int, budget: int) -> Allocation:
    """Return what TurboMind makes of `budget` bytes on one rank, where a token takes `token_bytes` there."""
    block = token_bytes * BLOCK
    slab = slab_bytes(block)
    blocks = max(budget, 0) // SLAB_UNIT // (slab // SLAB_UNIT) * (slab // block)
    return Allocation(blocks, block, blocks * BLOCK)


@dataclass(frozen=True, slots=True)
class SlabClass:
    """Objects of one size in TurboMind's cache. size: of one in bytes. count: how many a sequence or a block has."""

    size: int
    count: int

    @property
    def pages(self) -> int:
        """Pages of 32 MiB in one slab."""
        return slab_bytes(self.size) // SLAB_UNIT

    @property
    def objects(self) -> int:
        """Objects in one slab."""
        return slab_bytes(self.size) // self.size

    @property
    def share(self) -> Fraction:
        """Pages that `count` objects take in full slabs."""
        return Fraction(self.count * self.pages, self.objects)

    def whole(self, sequences: int) -> int:
        """Return the pages of whole slabs that hold the objects of that many sequences."""
        return -(-self.count * sequences // self.objects) * self.pages


@dataclass(frozen=True, slots=True)
class SharedPages:
    """TurboMind's cache of a model that keeps states: blocks and states take slabs from the same pages, on demand.

    A running sequence holds one set of states beside its blocks. Copies of states for the prefix cache are needed by no
    sequence, and are given up first. The oldest sequence drives out younger ones, so that one always runs.
    """

    block: SlabClass
    states: Sequence[SlabClass]
    budget: int

    def beside(self, sequences: int) -> int:
        """Return the blocks beside the states of that many sequences."""
        taken = sum(kind.whole(sequences) for kind in self.states)
        return max(max(self.budget, 0) // SLAB_UNIT - taken, 0) // self.block.pages * self.block.objects

    def of_requests(self, need: int) -> int:
        """Return the blocks of as many requests as there is room for, each with `need` blocks and its states."""
        blocks, states = need * self.block.share, sum((kind.share for kind in self.states), Fraction(0))
        pages = max(self.budget, 0) // SLAB_UNIT - sum(kind.pages for kind in self.states)
        slabs = max(pages, 0) * blocks / (blocks + states) // self.block.pages
        return int(slabs) * self.block.objects

    def surely(self, need: int, sequences: int) -> int:
        """Return the blocks beside a full batch of `sequences`; the oldest request has its `need` in any case."""
        return max(self.beside(sequences), min(self.beside(1), need))

    def likely(self, need: int, sequences: int) -> int:
        """Return the blocks for requests of `need` blocks each, `sequences` of them at most."""
        return max(self.of_requests(need), self.surely(need, sequences))


def pytorch_block_bytes(engine: CacheRules, request: PlanRequest, tensor: int) -> int:
    """Return bytes of one block of LMDeploy's pytorch backend: K, V and their scales each rounded up to 256 bytes."""
    total = 0
    quantized = request.kv_quantization in (KVQuantization.INT8, KVQuantization.INT4)
    for group in request.shape.attention:
        if group.kind is AttentionKind.LATENT:
            total += group.layers * padded(
                layer_bytes_per_token(engine, group, request, tensor) * BLOCK, PLANE_ALIGNMENT
            )
            continue
        heads = kv_heads_per_rank(group.kv_heads, tensor) * BLOCK
        for elements in (group.key_dim, group.value_dim):
            data = int(heads * head_bytes(elements, request.kv_quantization, scale_bytes=0))
            scales = padded(heads * 4, PLANE_ALIGNMENT) if quantized else 0
            total += group.layers * (padded(data, PLANE_ALIGNMENT) + scales)
    return total
