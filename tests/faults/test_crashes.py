"""The operator is killed at every one of its writes: before it, after it, and after it with the answer lost.

The same scenario without a kill says what must come out: the same objects after every step, the same Jobs and claims
made as often, and nothing written once all is done.
"""

from __future__ import annotations

import functools
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from tests.faults.conftest import Effort, Result
from tests.faults.proxy import After, Before, Exchange, Fault
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.world import Case, World

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

JSON = dict[str, Any]
Moment = Literal["before", "after", "lost"]
MOMENTS: tuple[Moment, ...] = ("before", "after", "lost")
AT_A_TIME = 4
GONE_SECONDS = 15.0
SHORT_SCENARIOS, SHORT_KILLS = 2, 8
SLOW = ("remove", "two-share", "another-model", "try-again", "quantize")
"""Of a long run only: they wait for times that the operator keeps."""


@dataclass(frozen=True)
class Reference:
    """What a scenario comes to if nothing goes wrong."""

    scenario: Scenario
    states: tuple[JSON, ...]
    """After each step."""
    writes: int
    made: Counter[str]
    """Jobs and claims by name."""


def once(case: Case) -> Counter[str]:
    """How often each Job and claim was made."""
    found: Counter[str] = Counter()
    for path, count in case.proxy.made().items():
        if re.search(r"/(jobs|persistentvolumeclaims)/", path):
            found[path.replace(f"/{case.space.name}/", "/NAMESPACE/")] += count
    return found


def reference(world: World, scenario: Scenario) -> Reference | str:
    """Run a scenario without a kill, restarting the operator after each step; what went wrong where something did."""
    try:
        return _undisturbed(world, scenario)
    except AssertionError as error:
        return f"{scenario.name}: {error}"


def _undisturbed(world: World, scenario: Scenario) -> Reference:
    states = []
    with Case(world, scenario.name) as case:
        for step in scenario.steps:
            step.act(case)
            states.append(case.rest(step.done))
            before = len(case.proxy.done)
            case.kill()
            again = case.rest(step.done, quiet=2.0)
            assert not case.written(before), f"{scenario.name}: a restart writes: {case.written(before)}"
            assert again == states[-1]
        assert not case.complaints(), case.complaints()
        return Reference(scenario, tuple(states), case.proxy.writes, once(case))


def killed(world: World, expected: Reference, number: int, moment: Moment) -> str:
    """Run a scenario and kill at one write; what went wrong, empty if nothing did."""
    scenario = expected.scenario
    done = False

    def rule(exchange: Exchange) -> Fault | None:
        nonlocal done
        if done or not exchange.write or exchange.number != number:
            return None
        done = True
        return Before(case.kill) if moment == "before" else After(case.kill, lost=moment == "lost")

    case = Case(world, scenario.name, rule=rule)
    with case:
        for step, state in zip(scenario.steps, expected.states, strict=True):
            step.act(case)
            wrong = case.settle(state)
            if wrong:
                return f"{wrong}\n{case.complaints()}\n{case.log.read_text()[-3000:]}"
        # An operator that starts while its object is being deleted may act once on what it listed a moment before: the
        # garbage collector removes what it makes, because its owner is gone.
        left = case.quiet(within=GONE_SECONDS) or case.settle(expected.states[-1])
        return left or case.complaints() or _made_otherwise(case, expected)


def _made_otherwise(case: Case, expected: Reference) -> str:
    made = once(case)
    return "" if made == expected.made else f"made {dict(made)}, expected {dict(expected.made)}"


def test_kill_at_every_write(
    world: World, effort: Effort, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    draw = random.Random(effort.seed)
    wanted = [one for one in SCENARIOS if not effort.scenarios or one.name in effort.scenarios]
    quick = [one for one in SCENARIOS if one.name not in SLOW]
    scenarios = wanted if effort.long else draw.sample(quick, SHORT_SCENARIOS)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        with measured("without a fault, restarted after every step", "scenarios") as result:
            tried = list(pool.map(functools.partial(reference, world), scenarios))
            references = [one for one in tried if isinstance(one, Reference)]
            result.failures += [one for one in tried if isinstance(one, str)]
            result.count, result.note = len(tried), f"{sum(one.writes for one in references)} writes"
        chosen = [(one, number, moment) for one in references for number in range(one.writes) for moment in MOMENTS]
        if not effort.long:
            chosen = draw.sample(chosen, SHORT_KILLS)
        with measured("killed at every write" if effort.long else "killed at a write", "kills") as result:
            deadline = effort.deadline()
            draw.shuffle(chosen)

            def tried_in_time(kill: tuple[Reference, int, Moment]) -> str | None:
                return killed(world, *kill) if time.monotonic() < deadline else None

            for (one, number, moment), wrong in zip(chosen, pool.map(tried_in_time, chosen), strict=True):
                if wrong is None:
                    continue
                result.count += 1
                if wrong:
                    result.failures.append(f"{one.scenario.name}, write {number}, {moment}:\n{wrong}")
                    print(result.failures[-1], flush=True)
            result.note = f"{len(scenarios)} scenarios, {len(chosen)} kills in all"
