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
    """Between its own first list and that of the watch: no watch tells of it, and the next relist is minutes away."""
    with Case(world, "vanishes") as case:
        claim()(case)
        case.space.create(llm("demo", **CACHED))
        case.rest(lambda space: space.is_ready("demo"), quiet=0.5)
        lists = 0

        def rule(exchange: Exchange) -> Fault | None:
            nonlocal lists
            lists += exchange.listing and exchange.path.endswith("/llmdeployments")
            return Delay(3) if exchange.listing and exchange.path.endswith("/llmdeployments") and lists == 2 else None

        case.proxy.rule = rule
        case.kill()
        eventually(lambda: lists == 2, why="the watch's own list")
        case.space.delete(KIND, "demo")
        eventually(lambda: only_unused_jobs(case.space), seconds=60, why="the Job is marked as unused")
        assert not case.complaints(), case.complaints()
