"""Specs change for minutes while faults of every kind are mixed into the requests, with outages and kills between.

Now and then all is well for a moment: then a fresh object with the same spec is the oracle.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.faults.conftest import Effort, Result
from tests.faults.faults import mixed
from tests.faults.scenarios import claim
from tests.faults.specs import valid
from tests.faults.test_faulty_api import MOST_MIB, RELIST
from tests.faults.twins import comparable, pause, replace_spec, twin_state, whole
from tests.faults.world import Case, World

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

JSON = dict[str, Any]
NAMES = tuple(f"llm-{number}" for number in range(5))
SHARE = 0.3
SHORT_SECONDS = 10.0
HISTORIES = 3
"""Of a long run: namespaces side by side, which share its minutes."""
SPELL_SECONDS = 60.0


def spell(case: Case, draw: random.Random, specs: dict[str, JSON], seconds: float) -> int:
    """Change specs under faults for a while; how many changes."""
    case.proxy.rule = mixed(SHARE, draw)
    case.proxy.disconnect()
    end = time.monotonic() + seconds
    outage, killed = time.monotonic() + draw.uniform(0.2, 0.6) * seconds, False
    count = 0
    while time.monotonic() < end:
        name = draw.choice(NAMES)
        specs[name] = valid(draw)
        replace_spec(case.space, name, specs[name])
        count += 1
        pause(draw.uniform(0.1, 1.5))
        if not killed and time.monotonic() > outage:
            killed = True
            if draw.random() < 0.5:
                case.kill()
            else:
                case.proxy.down = True
                case.proxy.disconnect()
                pause(min(seconds / 5, 10))
                case.proxy.down = False
    case.proxy.rule = None
    return count


def history(world: World, seed: int, seconds: float) -> Result:
    """One namespace with its own operator and faults; what was tried, and what went wrong."""
    draw, result = random.Random(seed), Result("", "")
    with Case(world, "churn", arguments=RELIST) as case:
        claim()(case)
        specs = {name: valid(draw) for name in NAMES}
        for name, spec in specs.items():
            case.space.create(whole(name, spec))
        left, compared = seconds, 0
        while left > 0 and not result.failures:
            result.count += spell(case, draw, specs, min(left, SPELL_SECONDS))
            left -= SPELL_SECONDS
            expected = twin_state(world, specs)
            wrong = case.settle(expected, reduced=comparable, seconds=150) or case.quiet(within=30) or case.complaints()
            compared += 1
            if wrong:
                result.failures.append(
                    f"seed {seed}, after {compared} spells:\n{wrong}\n{case.log.read_text()[-4000:]}"
                )
                print(result.failures[-1], flush=True)
        result.seconds = seconds - max(left, 0.0)
        case.stop()
        faults, most = sum(case.proxy.faults.values()), max(case.proxy.requests.values())
        result.note = (
            f"seed {seed}: {result.seconds / 60:.1f} min, {faults:,} faults, {compared} comparisons, "
            f"at most {most} requests/s, {case.peak_mib:.0f} MiB"
        )
        print(f"{result.note}, {result.count} changes, {len(result.failures)} failures", flush=True)
        if case.peak_mib > MOST_MIB:
            result.failures.append(f"seed {seed}: {case.peak_mib:.0f} MiB of memory, more than {MOST_MIB}")
    return result


def test_churn(world: World, effort: Effort, measured: Callable[[str, str], AbstractContextManager[Result]]) -> None:
    histories = HISTORIES if effort.long else 1
    seconds = effort.minutes * 60 / histories if effort.long else SHORT_SECONDS
    with measured("churn under faults", "changes") as result, ThreadPoolExecutor(histories) as pool:
        seeds = range(effort.seed, effort.seed + histories)
        for one in pool.map(lambda seed: history(world, seed, seconds), seeds):
            result.count += one.count
            result.failures += one.failures
            result.note = "; ".join(filter(None, (result.note, one.note)))
