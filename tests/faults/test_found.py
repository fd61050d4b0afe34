"""What the machines found, reduced to the least that shows it."""

from __future__ import annotations

import pytest

from llm_operator.api import KIND
from tests.faults.proxy import Delay, Exchange, Fault
from tests.faults.scenarios import CACHED, claim, only_unused_jobs
from tests.faults.world import Case, World
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster


def test_what_vanishes_while_an_operator_starts_is_noticed(world: World) -> None:
    """Between its first list and the watch, which begins where that list ended."""
    with Case(world, "vanishes") as case:
        claim()(case)
        case.space.create(llm("demo", **CACHED))
        case.rest(lambda space: space.is_ready("demo"), quiet=0.5)
        watches = 0

        def rule(exchange: Exchange) -> Fault | None:
            nonlocal watches
            first = exchange.watch and exchange.path.endswith("/llmdeployments") and watches == 0
            watches += first
            return Delay(3) if first else None

        case.proxy.rule = rule
        case.kill()
        eventually(lambda: watches == 1, why="the first watch")
        case.space.delete(KIND, "demo")
        eventually(lambda: only_unused_jobs(case.space), seconds=60, why="the Job is marked as unused")
        assert not case.complaints(), case.complaints()
