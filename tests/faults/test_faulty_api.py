"""The API server, or what stands before it, misbehaves while objects change; once it behaves, all must be as ever.

The oracle is the same change without a fault. Whatever happens, the operator stays: no traceback and no end, few
requests in an outage, little memory.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from llm_operator.api import KIND
from tests.cluster.helpers import Space
from tests.faults.conftest import Effort, Result
from tests.faults.faults import FAULTS, FaultKind
from tests.faults.proxy import Silence
from tests.faults.state import without_revisions
from tests.faults.world import Case, World
from tests.support.chart import NAMESPACE
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

JSON = dict[str, Any]
RELIST = ("--no-leader-elect", "--no-gpu-inventory", "--relist-seconds", "10")
BAD_SECONDS = 12.0
AT_A_TIME = 4
SHORT_KINDS = 3
MOST_REQUESTS = 60
"""In the busiest second of an outage. kopf begins each of six watches anew after 0.1 s, then more slowly."""
MOST_MIB = 256.0
LEADING = ("--no-gpu-inventory", "--lease-name", "llm-llm-operator", "--lease-namespace", NAMESPACE)
"""The Lease is the chart's, as the rights allow no other."""
TAKE_OVER_SECONDS = 30.0


def changes(case: Case) -> None:
    """What is done to three objects while things go wrong."""
    case.space.create(llm("two", replicas=2))
    case.space.patch("one", {"spec": {"contextLength": 4096}})
    time.sleep(BAD_SECONDS / 3)
    case.space.create(llm("three", webUI={}))
    case.space.patch("two", {"spec": {"replicas": 1, "engine": {"extraArgs": ["--seed", "7"]}}})
    case.space.delete("Service", "one")
    time.sleep(BAD_SECONDS / 3)
    case.space.delete(KIND, "three")
    case.space.patch("one", {"spec": {"contextLength": 1024}})
    time.sleep(BAD_SECONDS / 3)


def done(space: Space) -> bool:
    """Two are ready, the third is gone."""
    return space.is_ready("one") and space.is_ready("two") and space.names("Deployment") == {"one", "two"}


def under(world: World, kind: FaultKind | None, seed: int, expected: JSON | None) -> tuple[str, JSON]:
    """Change objects under one kind of fault; what went wrong, and what came out."""
    draw = random.Random(seed)
    with Case(world, kind.name if kind else "undisturbed", arguments=RELIST) as case:
        case.space.create(llm("one", contextLength=2048))
        case.rest(lambda space: space.is_ready("one"), quiet=0.5)
        if kind is not None:
            case.proxy.rule = lambda exchange: kind.make(exchange, draw)
            case.proxy.disconnect()
        changes(case)
        case.proxy.rule = None
        if kind is not None and kind.heals_by_reset:
            case.proxy.disconnect()
        if expected is None:
            return case.complaints(), without_revisions(case.rest(done))
        wrong = case.settle(expected, reduced=without_revisions) or case.quiet()
        faults = sum(case.proxy.faults.values())
        case.stop()
        wrong = wrong or case.complaints() or ("" if faults else "the fault never happened")
        if case.peak_mib > MOST_MIB:
            wrong += f"{case.peak_mib:.0f} MiB"
        return (f"{wrong}\n{case.log.read_text()[-2000:]}" if wrong else ""), {}


def test_each_kind_of_fault(
    world: World, effort: Effort, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    wanted = [kind for kind in FAULTS if not effort.kinds or kind.name in effort.kinds]
    kinds = wanted if effort.long else random.Random(effort.seed).sample(FAULTS, SHORT_KINDS)
    with measured("one kind of fault while objects change", "kinds") as result, ThreadPoolExecutor(AT_A_TIME) as pool:
        wrong, expected = under(world, None, effort.seed, None)
        assert not wrong, wrong
        found = pool.map(lambda kind: under(world, kind, effort.seed, expected)[0], kinds)
        for kind, wrong in zip(kinds, found, strict=True):
            result.count += 1
            if wrong:
                result.failures.append(f"{kind.name}:\n{wrong}")
                print(result.failures[-1], flush=True)


def test_an_outage_costs_few_requests(
    world: World, effort: Effort, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    seconds = 120.0 if effort.long else 6.0
    with measured("nothing answers", "outages") as result, Case(world, "outage") as case:
        result.count = 1
        for number in range(10):
            case.space.create(llm(f"llm-{number}"))
        expected = case.rest(lambda space: all(space.is_ready(f"llm-{number}") for number in range(10)))
        case.proxy.down = True
        case.proxy.disconnect()
        begin = time.monotonic()
        for number in range(10):
            case.space.patch(f"llm-{number}", {"metadata": {"labels": {"a": "b"}}})
        time.sleep(seconds)
        end = time.monotonic()
        most = case.proxy.most_per_second(begin + 1, end - 1)
        case.proxy.down = False
        for number in range(10):
            case.space.patch(f"llm-{number}", {"metadata": {"labels": {"a": None}}})
        wrong = case.settle(expected) or case.quiet() or case.complaints()
        case.stop()
        result.note = f"at most {most} requests/s, {case.peak_mib:.0f} MiB"
        result.failures += [text for text in (wrong,) if text]
        assert most <= MOST_REQUESTS
        assert case.peak_mib <= MOST_MIB


@pytest.mark.long
def test_of_two_operators_the_one_that_is_cut_off_from_its_lease_writes_no_more(
    world: World, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    with measured("two operators, the leader's lease is never answered", "partitions") as result:
        result.count = 1
        space = Space(world.plane, world.name("lease"))
        first = Case(world, "first", space=space, arguments=LEADING)
        second = Case(world, "second", space=space, arguments=LEADING)
        with first, second:
            space.create(llm("demo"))
            eventually(lambda: space.is_ready("demo"), why="served")
            leader, other = (first, second) if first.proxy.writes else (second, first)
            assert other.proxy.writes == 0
            leader.proxy.rule = lambda exchange: Silence() if exchange.lease else None
            begin = time.monotonic()
            while time.monotonic() - begin < TAKE_OVER_SECONDS or not other.proxy.writes:
                space.patch("demo", {"spec": {"contextLength": 1024 + int(time.monotonic() * 4) % 7}})
                time.sleep(0.25)
                assert time.monotonic() - begin < 2 * TAKE_OVER_SECONDS, "nobody leads"
            eventually(lambda: space.is_ready("demo"), why="served by the other")
            _one_writer(world, leader, other, result)


def _one_writer(world: World, leader: Case, other: Case, result: Result) -> None:
    """By the audit log, the one wrote, and then the other; never both."""
    times: dict[str, list[str]] = {leader.proxy.name: [], other.proxy.name: []}
    for entry in world.audited():
        if entry["userAgent"] in times and "/leases" not in entry["requestURI"]:
            times[entry["userAgent"]].append(entry["requestReceivedTimestamp"])
    last, first = max(times[leader.proxy.name]), min(times[other.proxy.name])
    result.note = f"the last write {last[11:23]}, the first of the other {first[11:23]}"
    if last >= first:
        result.failures.append(f"both write: {result.note}")
