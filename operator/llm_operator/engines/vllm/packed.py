"""Blocks of vLLM in which caches of unequal pages lie side by side.

vLLM puts layers that need the same slots into one group, and splits the larger groups, so that one block of any group
has about the same bytes. Sources: 0.20.2 and 0.26.0, v1/core/kv_cache_utils.py (_get_kv_cache_groups_uniform_groups);
0.33.0, v1/core/kv_cache_planning.py (_get_packed_kv_cache_groups, for layouts whose outermost dimension is the block).
tests/engines/test_groups.py holds both against vLLM's own functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Hold(StrEnum):
    """What decides how many blocks a request holds."""

    EVERYTHING = "Everything"  # one for each of its tokens
    WINDOW = "Window"  # for the tokens of a window
    RING = "Ring"  # one, whose entries are written again and again
    STATE = "State"


@dataclass(frozen=True, slots=True)
class Kept:
    """What `layers` layers keep alike. page: bytes of one block in one layer. tokens: of one block.

    window: tokens that are looked back. blocks: of a state, for one request.
    """

    hold: Hold
    layers: int
    page: int
    tokens: int
    window: int | None = None
    blocks: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that share block tables in vLLM. number: groups that they fill; tokens: of one block; None: a state."""

    number: int
    tokens: int | None
    window: int | None = None
    states: int = 1


@dataclass(frozen=True, slots=True)
class Pages:
    """vLLM's blocks. block_bytes: one block of one group, all its layers."""

    block_bytes: int
    groups: tuple[Group, ...]

    def needed(self, context: int, in_flight: int) -> int:
        """Return the blocks of one request of `context` tokens. in_flight: tokens of steps that are not settled."""
        need = 0
        for group in self.groups:
            if group.tokens is None:
                need += group.number * group.states
            elif group.window is None:
                need += group.number * -(-context // group.tokens)
            else:
                # A window may start inside a block.
                kept = min(group.window - 1 + in_flight, context)
                need += group.number * (-(-kept // group.tokens) + 1)
        return max(need, 1)


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Layers that need the same slots. pages: bytes of a page -> layers with such pages; first: bytes of the first."""

    hold: Hold
    tokens: int
    window: int | None
    blocks: int
    pages: Mapping[int, int]
    first: int

    @property
    def repeats(self) -> int:
        """Return the most layers with pages of one size: how often the pattern of its layers is repeated."""
        return max(self.pages.values())

    @property
    def layers(self) -> int:
        """Return the number of its layers."""
        return sum(self.pages.values())

    @property
    def balanced(self) -> bool:
        """Return whether there are as many layers of each size."""
        return len(set(self.pages.values())) == 1

    def widest(self, number: int) -> int:
        """Return the bytes of one block in the widest of `number` groups."""
        return sum(-(-layers // number) * page for page, layers in self.pages.items())

    def group(self, number: int) -> Group:
        """Return its groups."""
        tokens = self.tokens if self.hold in (Hold.EVERYTHING, Hold.WINDOW) else None
        return Group(number, tokens, self.window, self.blocks)


def _buckets(kept: Iterable[Kept]) -> list[_Bucket]:
    found: dict[tuple[Hold, int, int | None, int], dict[int, int]] = {}
    for each in kept:
        pages = found.setdefault((each.hold, each.tokens, each.window, each.blocks), {})
        pages[each.page] = pages.get(each.page, 0) + each.layers
    return [_Bucket(*key, pages, next(iter(pages))) for key, pages in found.items()]


def _least_padding(counts: Sequence[int], least: int) -> int:
    """Return the number, `least` or more, to whose multiples all counts are rounded up with the fewest additions.

    Of equally good ones the largest (_approximate_gcd).
    """
    candidates = range(max(1, least), max(counts) + 1)
    return min(candidates, key=lambda size: (sum(-count % size for count in counts), -size), default=least)


def packed(kept: Iterable[Kept]) -> Pages:
    """Return the blocks of 0.33.0: each group as wide as its own layers, states split to fit the widest other one."""
    buckets = _buckets(kept)
    mixed = [bucket.repeats for bucket in buckets if bucket.balanced and len(bucket.pages) > 1]
    repeats = _least_padding([bucket.repeats for bucket in buckets if bucket.balanced], max(mixed)) if mixed else None

    def number(bucket: _Bucket) -> int:
        return -(-bucket.repeats // repeats) if repeats is not None and bucket.balanced else 1

    def is_state(bucket: _Bucket) -> bool:
        return bucket.hold in (Hold.STATE, Hold.RING) or (repeats is None and bucket.hold is Hold.WINDOW)

    anchor = max(bucket.widest(bucket.layers if is_state(bucket) else number(bucket)) for bucket in buckets)
    numbers = [
        max(number(bucket), -(-bucket.layers // max(anchor // bucket.first, 1))) if is_state(bucket) else number(bucket)
        for bucket in buckets
    ]
    return _pages(buckets, numbers, lambda bucket, each: bucket.widest(each))


def tuples(kept: Iterable[Kept]) -> Pages:
    """Return the blocks up to 0.26: every group is as wide as layers of all sizes together.

    0.26.0 gives a size fewer slots where fewer layers have it, but still refuses to start by this measure: a block is
    1.2 % smaller there for DeepSeek V4 Flash.
    """
    buckets = sorted(_buckets(kept), key=lambda bucket: bucket.hold is not Hold.EVERYTHING)
    whole = buckets[0]
    repeats = _least_padding([bucket.repeats for bucket in buckets], whole.repeats)
    numbers = [1, *(-(-bucket.repeats // repeats) for bucket in buckets[1:])]
    row = sum(whole.pages)
    return _pages(buckets, numbers, lambda bucket, each: -(-bucket.repeats // each) * row)


def _pages(buckets: Sequence[_Bucket], numbers: Sequence[int], wide: Callable[[_Bucket, int], int]) -> Pages:
    pairs = list(zip(buckets, numbers, strict=True))
    block = max(wide(bucket, number) for bucket, number in pairs)
    return Pages(max(block, 1), tuple(bucket.group(number) for bucket, number in pairs))
