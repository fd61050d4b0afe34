"""What layers with compressed caches keep in vLLM: DeepSeek V4's windows, compressed latents, and partial sums.

Sources: vLLM 0.20.2 to 0.33.0, models/deepseek_v4 (attention.py, compressor.py) and v1/attention/backends/mla
(sparse_swa.py). Public starts: 6.66 GiB for 30,000 tokens, and 13,528 tokens in 5.44 GiB (0.22, issue 44376).
A latent of 512 takes 584 bytes: 448 in 8 bit with 8 scales, 64 in 16 bit. Pages are multiples of 576 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.engines.vllm.packed import Hold, Kept, Pages, packed, tuples
from llm_operator.memory.types import PlanRequest
from llm_operator.memory.versions import release
from llm_operator.models import CompressedLayers

BLOCK = 256
WINDOW_BLOCK = 64
PARTIAL_BLOCKS = {4: 4, 128: 8}
"""Tokens in a block of partial sums, by the tokens that become one: the only rates that it has code for."""
RATES = " or ".join(map(str, PARTIAL_BLOCKS))
ALIGNMENT = 576
SCALED = 64
"""Elements of a latent that share one scale of a byte."""
PACKED_SINCE = (0, 33)


def pages(request: PlanRequest) -> Pages:
    """Return the blocks of all layers."""
    arrange = packed if release(request.version) >= PACKED_SINCE else tuples
    return arrange(list(_kept(request)))


def bytes_per_token(request: PlanRequest) -> int:
    """Return what one more token takes once the windows are full, in whole bytes."""
    found = pages(request)
    return found.block_bytes * sum(group.number for group in found.groups if group.window is None) // BLOCK


def known_rates(request: PlanRequest) -> bool:
    """Return whether vLLM has code for the rates at which the model's layers compress."""
    return all(not group.rate or group.rate in PARTIAL_BLOCKS for group in request.shape.compressed)


def _kept(request: PlanRequest) -> Iterator[Kept]:
    rotary = request.shape.rotary_dim
    for group in request.shape.compressed:
        if group.rate:
            yield _compressed(group, _latent(group.width, rotary))
        if group.index:
            yield _compressed(group, group.index + group.index // 128 * 4)
    for group in request.shape.compressed:
        page = _page(WINDOW_BLOCK * _latent(group.width, rotary))
        yield Kept(Hold.WINDOW, group.layers, page, WINDOW_BLOCK, group.window)
    if request.draft is not None and request.draft.own_layer:
        first = request.shape.compressed[0]
        page = _page(WINDOW_BLOCK * _latent(first.width, rotary))
        yield Kept(Hold.WINDOW, 1, page, WINDOW_BLOCK, first.window)
    for group in request.shape.compressed:
        if group.rate:
            yield _partial(group, group.width)
        if group.index:
            yield _partial(group, group.index)


def _latent(width: int, rotary: int) -> int:
    """Return the bytes of a latent: one each for what is not rotated, scales, and two each for what is."""
    plain = width - rotary
    return plain + plain // SCALED + 1 + 2 * rotary


def _compressed(group: CompressedLayers, entry: int) -> Kept:
    return Kept(Hold.EVERYTHING, group.layers, _page(BLOCK // group.rate * entry), BLOCK)


def _partial(group: CompressedLayers, width: int) -> Kept:
    """Return the sums of a group of tokens that is not complete: values and their weights, in 32 bit."""
    times = 2 if group.overlap else 1
    tokens = PARTIAL_BLOCKS.get(group.rate, max(PARTIAL_BLOCKS.values()))
    return Kept(Hold.WINDOW, group.layers, _page(tokens * 2 * times * width * 4), tokens, times * group.rate)


def _page(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
