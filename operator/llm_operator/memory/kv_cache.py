"""The KV cache: bytes per token, and what differs by engine in CacheRules: formats, blocks, what one request needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from llm_operator.memory.types import KVQuantization, PlanRequest
from llm_operator.memory.weights import kv_heads_per_rank
from llm_operator.models import AttentionKind, AttentionLayers, StateLayers


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a budget becomes: blocks of `block_tokens` tokens, and the tokens they hold for requests of the context."""

    blocks: int
    block_bytes: int
    tokens: int


class CacheRules(Protocol):
    """How an engine, or one of its backends, lays out its KV cache. `tensor` is the number of ranks; bytes are of one.

    Attributes:
        block_tokens: tokens of one block.
    """

    block_tokens: int

    def kv_format(self, request: PlanRequest) -> KVQuantization:
        """Return the format of the cache: the request's, or the one that the engine takes from the checkpoint."""
        return request.kv_quantization

    def latent_bytes(self, group: AttentionLayers, request: PlanRequest, tensor: int) -> int:
        """Return the bytes of one token's latent in one layer on one of `tensor` ranks."""
        return int(head_bytes(group.key_dim, KVQuantization.NONE))

    def compressed_bytes_per_token(self, request: PlanRequest) -> int:
        """Return the bytes that one more token takes in all layers whose cache is compressed."""
        return 0

    def state_bytes(self, layers: StateLayers, request: PlanRequest, tensor: int) -> int:
        """Return the bytes of one sequence's state in one layer that keeps a state; `state_size` counts them."""
        ...

    def allocate(self, request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
        """Return what the engine makes of `budget` bytes for requests of at most `context` tokens.

        batched_tokens: prefill tokens of one step.
        """
        ...

    def least(self, request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
        """Return what surely holds tokens in `budget` bytes, however many requests there are and however short."""
        return self.allocate(request, tensor, budget, context, batched_tokens)

    def blocks_per_request(self, request: PlanRequest, tensor: int, context: int, batched_tokens: int) -> int:
        """Return the blocks that a request of `context` tokens holds at its longest."""
        ...


def head_bytes(elements: int, quantization: KVQuantization, *, scale_bytes: int = 4) -> float:
    """Return bytes of one token's K (or V) of one KV head.

    Int8 and Int4 add 4 bytes per head and token: scale and zero of 16 bit each, or one 32-bit scale.
    """
    match quantization:
        case KVQuantization.NONE:
            return 2.0 * elements
        case KVQuantization.FP8:
            return float(elements)
        case KVQuantization.INT8:
            return float(elements + scale_bytes)
        case KVQuantization.INT4:
            return elements / 2 + scale_bytes


def layer_bytes_per_token(engine: CacheRules, group: AttentionLayers, request: PlanRequest, tensor: int) -> int:
    """Return KV bytes of one token in one layer of `group` on one of `tensor` ranks; each holds a latent whole."""
    if group.kind is AttentionKind.INDEX:
        return group.key_dim
    if group.kind is AttentionKind.LATENT:
        return engine.latent_bytes(group, request, tensor)
    how = engine.kv_format(request)
    heads = kv_heads_per_rank(group.kv_heads, tensor)
    return int(heads * (head_bytes(group.key_dim, how) + head_bytes(group.value_dim, how)))


def state_size(layers: StateLayers, tensor: int, *, kept: int, recurrent_bytes: int) -> int:
    """Return the bytes of one sequence's state in one layer on one of `tensor` ranks.

    Groups are repeated where they are fewer than the ranks. kept: tokens of the convolution. recurrent_bytes: of one
    number of the recurrent state.
    """
    groups = layers.groups if layers.groups % tensor == 0 else tensor
    channels = -(-(layers.channels + 2 * groups * layers.group_size) // tensor)
    return channels * kept * 2 + -(-layers.heads // tensor) * layers.recurrent * recurrent_bytes


def states_of_sequence(engine: CacheRules, request: PlanRequest, tensor: int) -> int:
    """Return the bytes of one sequence's states of all layers on one rank."""
    return sum(engine.state_bytes(layers, request, tensor) * layers.layers for layers in request.shape.states)


def bytes_per_token(engine: CacheRules, request: PlanRequest, tensor: int) -> int:
    """Return KV bytes of one token on one rank, all layers counted, before blocks, slabs and windows."""
    groups = request.shape.attention
    whole = sum(layer_bytes_per_token(engine, group, request, tensor) * group.layers for group in groups)
    return whole + (engine.compressed_bytes_per_token(request) if request.shape.compressed else 0)
