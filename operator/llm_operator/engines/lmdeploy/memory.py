"""LMDeploy's answers to planning: how each backend spends the memory of a GPU, what it refuses, what its flags say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llm_operator.engines.lmdeploy import blocks, capability, formats, overheads
from llm_operator.memory.budget import Budget, Estimate, Rank, block_inputs, share_of, share_term
from llm_operator.memory.capability import below, card
from llm_operator.memory.engine import Change, EngineMemory
from llm_operator.memory.kv_cache import Allocation, bytes_per_token, head_bytes, state_size, states_of_sequence
from llm_operator.memory.overheads import Batch, Runtime
from llm_operator.memory.types import EngineSettings, KVQuantization, PlanRequest, Term, gib
from llm_operator.memory.versions import release
from llm_operator.memory.weights import even_share, kv_heads_per_rank, padded, quantization_in_force, weight_bytes
from llm_operator.models import (
    AttentionKind,
    AttentionLayers,
    CheckpointQuantization,
    Role,
    StateLayers,
    Tensor,
    Tower,
)

PYTORCH_STATES = 2
"""States that the PyTorch backend keeps beside those of a full batch (0.18.0, pytorch/engine/executor/base.py)."""
FOLDED = (Role.LATENT_QUERY, Role.LATENT_KEY_VALUE, Role.ATTENTION_OUTPUT)
"""Projections of latent attention that TurboMind multiplies into each other (0.12.3, module.py; 0.14, mla.py)."""
FOLDING = (0, 12)
ONE_LATENT = (0, 12, 3)
STATES_KNOWN = (0, 16)
"""The release from which it is known how TurboMind keeps states (code of 0.16.0, starts of 0.18.0)."""
TOWER_HEADS = {64: 64, 72: 128}
"""Elements of a head of Qwen3.5's image encoder, and as TurboMind pads them (0.16.0, turbomind/models/qwen3_5.py)."""


def folds_latents(request: PlanRequest) -> bool:
    """Return whether this version multiplies kv_b into the projections of queries and of the output."""
    return request.shape.is_latent and release(request.version) >= FOLDING


def _folded(piece: Tensor, request: PlanRequest, tensor: int) -> tuple[int, int]:
    """Return a projection's size after kv_b went into it: heads are as wide as the latent, and kv_b is gone."""
    latent = next(group for group in request.shape.attention if group.kind is AttentionKind.LATENT)
    wide = -(-request.shape.heads // tensor) * latent.key_dim
    match piece.role:
        case Role.LATENT_QUERY:
            return wide, piece.columns
        case Role.LATENT_KEY_VALUE:
            return 0, piece.columns
        case _:
            return piece.rows, wide


def _tower_share(piece: Tensor, tower: Tower, tensor: int) -> tuple[int, int]:
    """Return a matrix of Qwen3.5's image encoder on one rank; its heads are shared only where the ranks divide them."""
    head = tower.hidden // tower.heads
    attention = tower.heads * TOWER_HEADS.get(head, head) // (tensor if tower.heads % tensor == 0 else 1)
    if piece.role is Role.TOWER_IN:
        return attention if piece.rows == tower.hidden else -(-piece.rows // tensor), piece.columns
    return piece.rows, attention if piece.columns == tower.hidden else -(-piece.columns // tensor)


class LMDeployMemory(EngineMemory):
    """What both backends have in common. Facts are of 0.18.0 unless a version is named."""

    block_tokens = blocks.BLOCK

    def nonsense(self, request: PlanRequest) -> Iterator[str]:
        """Yield what LMDeploy has no option for."""
        if request.kv_memory_bytes is not None or request.gpu_memory_utilization is not None:
            yield "a KV cache in bytes or a utilization is vLLM's; LMDeploy takes memoryPercent"

    def too_old(self, request: PlanRequest) -> str | None:
        """Return why the card is too old."""
        if below(request, 7, 0):
            return f"LMDeploy {request.version} has no code for {card(request)}; it needs 7.0 or newer"
        return None

    def state_bytes(self, layers: StateLayers, request: PlanRequest, tensor: int) -> int:
        """Return the bytes of one sequence's state in one layer (pytorch/configurations/qwen3_5.py).

        LMDeploy keeps as many tokens of the convolution as that is long, and recurrent states in 16 bit.
        """
        return state_size(layers, tensor, kept=layers.kernel, recurrent_bytes=2)

    def blocks_per_request(self, request: PlanRequest, tensor: int, context: int, batched_tokens: int) -> int:
        """Return the blocks that a request holds at its longest; every layer keeps every token."""
        return -(-context // blocks.BLOCK)

    def default_batch(self, request: PlanRequest) -> Batch:
        """Return the request's limits, else the defaults for this card."""
        return overheads.default_batch(request)

    def settings(self, found: Estimate) -> EngineSettings:
        """Return what its flags must say: the share of the memory that is free after loading."""
        return EngineSettings(
            tensor=found.tensor, context_length=found.context or None, ratio_percent=found.percent or None
        )

    def held(self, request: PlanRequest, tensor: int) -> int:
        """Return the bytes of quantized weights on one rank, beside which kernels take memory; 0 if none are."""
        return 0 if quantization_in_force(request) is None else weight_bytes(self, request, tensor).tensors


def _allocation(pages: blocks.SharedPages, count: int) -> Allocation:
    return Allocation(count, pages.block.size, count * blocks.BLOCK)


class TurboMindMemory(LMDeployMemory):
    """How TurboMind spends the memory of a GPU."""

    pads_widths = True

    def refusals(self, request: PlanRequest, quantization: CheckpointQuantization | None) -> Iterator[str]:
        """Yield what this version cannot serve."""
        yield from formats.code_refusals(request)
        yield from formats.turbomind_refusals(request)
        yield from capability.turbomind_refusals(request, quantization)

    def notes(self, request: PlanRequest) -> Iterator[str]:
        """Yield what differs from what the request says."""
        yield from formats.turbomind_notes(request)
        yield from formats.code_notes(request)

    def unknowns(self, request: PlanRequest) -> tuple[str, ...]:
        """Return why there are no numbers."""
        shape, tower = request.shape, request.shape.tower
        what = next(formats.turbomind_unknowns(request), "")
        if not shape.states:
            return (f"{what}: no plan is made for it, and nothing is blocked",) if what else ()
        capability = request.gpu.compute_capability
        if release(request.version) < STATES_KNOWN:
            what = f"how TurboMind before 0.16.0 keeps the states of {shape.architecture} is not known"
        elif quantization_in_force(request) is not None:
            what = f"how TurboMind holds quantized weights of {shape.architecture} is not known"
        elif capability is not None and capability > (9, 0) and capability != (12, 0):
            what = f"whether TurboMind runs the delta nets of {shape.architecture} on {card(request)} is not known"
        elif tower is not None and (not tower.heads or tower.hidden // tower.heads not in TOWER_HEADS):
            what = f"how TurboMind holds the image encoder of {shape.architecture} is known for heads of 64 and 72 only"
        return (f"{what}: no plan is made for it, and nothing is blocked",) if what else ()

    def objections(self, request: PlanRequest, tensor: int) -> Iterator[str]:
        """Yield why it refuses this many ranks: delta nets repeat no heads (GatedDeltaNetLayer.cc)."""
        for layers in request.shape.states:
            if layers.groups < tensor:
                yield f"tensor parallelism {tensor} does not divide the {layers.groups} key heads of delta nets"

    def other_backends(self, request: PlanRequest) -> Iterator[tuple[Change, PlanRequest]]:
        """Yield the request with the PyTorch backend, which runs more models."""
        yield {"engine.backend": "PyTorch"}, replace(request, backend="PyTorch")

    def holds_wide_zeros(self, request: PlanRequest) -> bool:
        """Return True: 4-bit weights take 4.25 bits at group 128 (measured)."""
        return True

    def local_size(self, piece: Tensor, request: PlanRequest, tensor: int) -> tuple[int, int]:
        """Return rows and columns of a tensor on one rank."""
        if piece.role is Role.EMBEDDING:
            return piece.rows, -(-piece.columns // tensor)
        if piece.role is Role.HEAD:
            return padded(piece.rows, 8 * tensor) // tensor, piece.columns
        if piece.role in FOLDED and folds_latents(request):
            return _folded(piece, request, tensor)
        tower = request.shape.tower
        if piece.role in (Role.TOWER_IN, Role.TOWER_OUT) and tower is not None and tower.heads and request.shape.states:
            return _tower_share(piece, tower, tensor)
        return even_share(piece, request, tensor)

    def latent_bytes(self, group: AttentionLayers, request: PlanRequest, tensor: int) -> int:
        """Return the bytes of one token's latent in one layer.

        Before 0.12.3 keys and values of every head were kept apart, as wide as the latent since 0.12.0. On V100 that
        left GLM-4.7-Flash 4,928 tokens on one and 42,880 on four (InternLM/lmdeploy, issues 4366 and 4367), too few for
        the warm-up.
        """
        if release(request.version) >= ONE_LATENT:
            return super().latent_bytes(group, request, tensor)
        width = group.key_dim if folds_latents(request) else request.shape.head_dim
        return int(2 * kv_heads_per_rank(request.shape.heads, tensor) * head_bytes(width, KVQuantization.NONE))

    def allocate(self, request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
        """Return the blocks of whole slabs in the budget, beside the states of as many requests as fit."""
        if not request.shape.states:
            return blocks.turbomind_slabs(bytes_per_token(self, request, tensor), budget)
        pages = self.pages(request, tensor, budget)
        need = self.blocks_per_request(request, tensor, context, batched_tokens)
        return _allocation(pages, pages.likely(need, self.default_batch(request).sequences))

    def least(self, request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
        """Return the same beside the states of a full batch, which takes them however short its requests are."""
        if not request.shape.states:
            return self.allocate(request, tensor, budget, context, batched_tokens)
        pages = self.pages(request, tensor, budget)
        need = self.blocks_per_request(request, tensor, context, batched_tokens)
        return _allocation(pages, pages.surely(need, self.default_batch(request).sequences))

    def pages(self, request: PlanRequest, tensor: int, budget: int) -> blocks.SharedPages:
        """Return the cache that blocks and states share.

        One object has the convolutions of all layers, one of each layer its recurrent state.
        """
        convolutions, kept = 0, []
        for layers in request.shape.states:
            one = state_size(layers, tensor, kept=layers.kernel, recurrent_bytes=0)
            convolutions += one * layers.layers
            kept.append(blocks.SlabClass(self.state_bytes(layers, request, tensor) - one, layers.layers))
        block = blocks.SlabClass(bytes_per_token(self, request, tensor) * blocks.BLOCK, 1)
        kept.insert(0, blocks.SlabClass(convolutions, 1))
        # Models that TurboMind refuses have states without either part, and are estimated all the same.
        return blocks.SharedPages(block, tuple(kind for kind in kept if kind.size), budget)

    def runtime(self, request: PlanRequest, tensor: int, batch: Batch) -> Runtime:
        """Return the overheads of one rank."""
        return overheads.turbomind(request, tensor, batch, self.held(request, tensor))

    def budget(self, rank: Rank) -> Budget:
        """Return a share of what weights and overheads leave."""
        return share_of(rank, rank.free, rank.free_low)

    def cache_term(self, found: Estimate) -> Term:
        """Return how the bytes of the KV cache come about."""
        return share_term(found, "LMDeploy turbomind.cc")

    def tokens_term(self, found: Estimate) -> Term:
        """Return how these bytes become tokens."""
        inputs: dict[str, int | float | str] = {
            **block_inputs(found),
            "blockTokens": blocks.BLOCK,
            "slabBytes": blocks.slab_bytes(found.likely.block_bytes),
        }
        if found.request.shape.states:
            inputs |= {
                "context": found.context,
                "stateBytesPerRequest": states_of_sequence(self, found.request, found.tensor),
                "batch": found.batch.sequences,
            }
            formula = "slabs in kvBytes beside the states of the requests that fit, for kvTokensLow of the whole batch"
            return Term("kvTokens", found.likely.tokens, "tokens", formula, inputs, "LMDeploy src/turbomind/engine")
        formula = "whole slabs in kvBytes * whole blocks in a slab * blockTokens"
        return Term("kvTokens", found.likely.tokens, "tokens", formula, inputs, "LMDeploy src/turbomind/memory")


class PyTorchMemory(LMDeployMemory):
    """How LMDeploy's PyTorch backend spends the memory of a GPU."""

    def refusals(self, request: PlanRequest, quantization: CheckpointQuantization | None) -> Iterator[str]:
        """Yield what this version cannot serve."""
        yield from formats.code_refusals(request)
        yield from formats.pytorch_refusals(request)
        yield from capability.pytorch_refusals(request, quantization)

    def unknowns(self, request: PlanRequest) -> tuple[str, ...]:
        """Return why there are no numbers."""
        found = list(formats.pytorch_unknowns(request))
        if request.shape.compressed:
            found.append(f"how LMDeploy lays out the compressed caches of {request.shape.architecture} is not known")
        return tuple(f"{what}: no plan is made for it, and nothing is blocked" for what in found)

    def while_loading(self, request: PlanRequest) -> CheckpointQuantization | None:
        """Return FP8 where the command line requests it over 16-bit weights."""
        return formats.pytorch_while_loading(request)

    def notes(self, request: PlanRequest) -> Iterator[str]:
        """Yield what differs from what the request says."""
        yield from formats.pytorch_notes(request)
        yield from formats.code_notes(request)

    def holds_wide_zeros(self, request: PlanRequest) -> bool:
        """Return False: zero points stay packed."""
        return False

    def local_size(self, piece: Tensor, request: PlanRequest, tensor: int) -> tuple[int, int]:
        """Return rows and columns of a tensor on one rank; embedding and head are whole on each."""
        return even_share(piece, request, tensor)

    def allocate(self, request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
        """Return the whole blocks in the budget."""
        block = blocks.pytorch_block_bytes(self, request, tensor)
        count = max(budget, 0) // block
        return Allocation(count, block, count * blocks.BLOCK)

    def runtime(self, request: PlanRequest, tensor: int, batch: Batch) -> Runtime:
        """Return the overheads of one rank."""
        return overheads.pytorch(request, tensor, self.held(request, tensor))

    def budget(self, rank: Rank) -> Budget:
        """Return a share of what is free after logits and states are set aside."""
        block = blocks.pytorch_block_bytes(self, rank.request, rank.tensor)
        states = states_of_sequence(self, rank.request, rank.tensor) * (rank.batch.sequences + PYTORCH_STATES)
        set_aside = overheads.pytorch_reserve(rank.request, rank.batch) + states
        usable = rank.free - set_aside
        if usable < 16 * block:
            full = f"of {gib(rank.free)} free LMDeploy's pytorch backend sets {gib(set_aside)} aside for logits"
            if states:
                full += (
                    f" and the states of {rank.batch.sequences} sequences; a lower maxConcurrentSequences needs less"
                )
            return Budget(0, 0, set_aside, problem=full)
        # What is set aside holds the logits only; everything else that grows must find room beside the share.
        budget = share_of(rank, usable, rank.free_low - set_aside)
        problem = budget.problem
        if problem is None and budget.likely // block <= 2:
            problem = f"LMDeploy's pytorch backend needs more than 2 KV blocks of {gib(block)}"
        return replace(budget, set_aside=set_aside, problem=problem)

    def cache_term(self, found: Estimate) -> Term:
        """Return how the bytes of the KV cache come about."""
        source = "LMDeploy pytorch/engine/executor"
        if not found.set_aside:
            return share_term(found, "LMDeploy turbomind.cc")
        inputs = {
            "memoryPercent": found.percent or 0,
            "free": found.free,
            "mustStayFree": found.reserve,
            "setAside": found.set_aside,
        }
        formula = "memoryPercent / 100 * (free - setAside)"
        return Term("kvBytesPerGpu", found.budget, "bytes", formula, inputs, source)

    def tokens_term(self, found: Estimate) -> Term:
        """Return how these bytes become tokens."""
        inputs: dict[str, int | float | str] = {**block_inputs(found), "blockTokens": blocks.BLOCK}
        formula = "whole blocks in kvBytes * blockTokens"
        return Term("kvTokens", found.likely.tokens, "tokens", formula, inputs, "LMDeploy pytorch/engine/executor")
