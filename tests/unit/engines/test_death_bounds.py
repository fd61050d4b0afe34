"""What a log may cost: bounds on what the patterns are given, and on what each pattern can do with it.

No time is measured: `python -m tests.bench.deaths` does, and the worst log took 32 ms there, on a busy machine.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.engines import death, failures
from llm_operator.engines.death import MOST_CHARACTERS, MOST_OF_A_LINE, read_log
from llm_operator.engines.parts import PARTS
from llm_operator.engines.registry import ENGINES
from tests.support.hostile_logs import HOSTILE

# The parser's own tree: what a pattern can cost follows from its repeats.
parser, codes = (importlib.import_module(f"re.{name}") for name in ("_parser", "_constants"))
PATTERNS = {
    **{f"{known.reason}: {known.pattern.pattern[:40]}": known.pattern for known in failures.signatures()},
    **{
        f"{module.__name__}.{name}": value
        for module in (death, failures)
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern)
    },
    **{
        f"{name} of {part.reason}: {pattern.pattern[:40]}": pattern
        for part in (*(part for engine in ENGINES.values() for part in engine.log.parts), *PARTS)
        for name, pattern in (("frames", part.frames), ("errors", part.errors), ("words", part.words))
        if pattern is not None
    },
    **{
        f"{engine.name} {name}": pattern
        for engine in ENGINES.values()
        for name, pattern in (
            *(
                (f"{part}: {pattern.pattern[:40]}", pattern)
                for part, pattern in (*engine.log.steps, *engine.log.stages)
            ),
            *((f"level: {pattern.pattern[:40]}", pattern) for pattern in engine.log.levels),
            *(
                (part, getattr(engine.log, part))
                for part in ("harmless", "child", "quoting", "waiting", "joining", "repeated")
            ),
        )
        if pattern is not None
    },
}
MOST_REPEATS = 2
"""Of `.*` in one alternative: with n characters in a line it takes no more than n² steps, and lines are short."""


def repeats(tree: Iterable[Any], inside: bool = False) -> Iterator[tuple[bool, bool]]:
    """Every repeat of more than 100 times in a pattern's tree: whether it is of any character, and within another."""
    for operation, value in tree:
        if operation in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            _, most, body = value
            long = most is codes.MAXREPEAT or most > 100
            if long:
                yield any(part[0] is codes.ANY for part in body), inside
            yield from repeats(body, inside or long)
        elif operation is codes.SUBPATTERN:
            yield from repeats(value[3], inside)
        elif operation is codes.BRANCH:
            yield from max((list(repeats(branch, inside)) for branch in value[1]), key=len)
        elif operation in (codes.ASSERT, codes.ASSERT_NOT):
            yield from repeats(value[1], inside)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_can_explode(name: str) -> None:
    pattern = PATTERNS[name]
    found = list(repeats(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)))
    assert sum(wide for wide, _ in found) <= MOST_REPEATS
    # A repeat in a repeat may be tried once in a line, not at each of its characters.
    assert pattern.pattern.startswith("^") or not any(nested for _, nested in found)


def test_a_pattern_that_can_explode_is_seen() -> None:
    assert list(repeats(parser.parse("(a+)+")))[1] == (False, True)
    assert [wide for wide, _ in repeats(parser.parse("x.*y.*z.{0,300}"))] == [True, True, True]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_the_patterns_see_little_of_a_hostile_log(text: str) -> None:
    log = read_log(text)
    assert sum(map(len, log.deciding)) <= MOST_CHARACTERS
    assert all(len(line) <= MOST_OF_A_LINE for line in log.deciding)
    assert len(log.last) <= 2 * MOST_OF_A_LINE + 2


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=400), st.integers(1, 400))
def test_the_patterns_see_little_of_any_log(text: str, times: int) -> None:
    log = read_log(text * times)
    assert sum(map(len, log.deciding)) <= MOST_CHARACTERS
    assert all(len(line) <= MOST_OF_A_LINE for line in log.deciding)
