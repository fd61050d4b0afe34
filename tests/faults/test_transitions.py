"""Random changes of specs, valid and invalid, of several objects at once; a fresh object with the last valid spec is
the oracle.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from devcluster.client import ApiError
from llm_operator.api import KIND
from tests.faults.conftest import Effort, Result
from tests.faults.scenarios import claim
from tests.faults.specs import REFUSED_BY_OPERATOR, REFUSED_BY_SERVER, broken, valid
from tests.faults.state import snapshot
from tests.faults.twins import answered, comparable, pause, replace_spec, twin_state, whole
from tests.faults.world import Case, World

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

JSON = dict[str, Any]
NAMES = tuple(f"llm-{number}" for number in range(5))
AT_A_TIME = 3
CHANGES_A_ROUND = 30


def changed(case: Case, draw: random.Random, specs: dict[str, JSON], count: int) -> None:
    """Make so many changes, the last of each object a valid one."""
    for _ in range(count - len(NAMES)):
        name = draw.choice(NAMES)
        kind = draw.random()
        pause(draw.choice([0.0, 0.0, 0.1, 0.5]))
        if kind < 0.15:
            with pytest.raises(ApiError, match="422"):
                replace_spec(case.space, name, broken(draw, specs[name], REFUSED_BY_SERVER))
        elif kind < 0.3:
            replace_spec(case.space, name, broken(draw, specs[name], REFUSED_BY_OPERATOR))
        elif kind < 0.4:
            case.space.delete(KIND, name)
            pause(draw.choice([0.0, 1.0]))
            create_again(case, name, specs[name])
        else:
            specs[name] = valid(draw)
            replace_spec(case.space, name, specs[name])
    for name in NAMES:
        specs[name] = valid(draw)
        replace_spec(case.space, name, specs[name])


def create_again(case: Case, name: str, spec: JSON) -> None:
    """Create an object as soon as the one before it is gone."""
    for _ in range(100):
        if case.space.get(KIND, name) is None:
            break
        pause(0.1)
    case.space.create(whole(name, spec))


def history(world: World, seed: int, rounds: int, deadline: float) -> tuple[int, list[str]]:
    """One namespace with a long history; how many changes, and what went wrong."""
    draw = random.Random(seed)
    wrong: list[str] = []
    count = 0
    with Case(world, "history") as case:
        claim()(case)
        specs = {name: valid(draw) for name in NAMES}
        for name, spec in specs.items():
            case.space.create(whole(name, spec))
        for number in range(rounds):
            if time.monotonic() > deadline:
                break
            changed(case, draw, specs, CHANGES_A_ROUND)
            count += CHANGES_A_ROUND
            expected = twin_state(world, specs)
            found = case.settle(expected, reduced=comparable) or case.quiet(within=30)
            if not found:
                found = refused_keeps(case, draw, specs)
                count += 1
            if found := found or case.complaints():
                wrong.append(f"seed {seed}, round {number}:\n{found}\n{case.log.read_text()[-2000:]}")
                print(wrong[-1], flush=True)
                break
    return count, wrong


def refused_keeps(case: Case, draw: random.Random, specs: dict[str, JSON]) -> str:
    """A spec that the operator refuses changes nothing of what serves."""
    name = draw.choice(NAMES)
    before = {kind: entry for kind, entry in comparable(snapshot(case.space)).items() if kind != KIND}
    replace_spec(case.space, name, broken(draw, specs[name], REFUSED_BY_OPERATOR))
    case.rest(answered, quiet=1.0)
    after = {kind: entry for kind, entry in comparable(snapshot(case.space)).items() if kind != KIND}
    replace_spec(case.space, name, specs[name])
    return "" if before == after else f"a refused spec changed the children of {name}"


def test_random_transitions(
    world: World, effort: Effort, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    histories, rounds = (9, 4) if effort.long else (1, 1)
    deadline = effort.deadline()
    with measured("random changes of specs, five objects at once", "changes") as result:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            for count, wrong in pool.map(
                lambda number: history(world, effort.seed * 1000 + number, rounds, deadline), range(histories)
            ):
                result.count += count
                result.failures += wrong
        result.note = f"{histories} namespaces"
