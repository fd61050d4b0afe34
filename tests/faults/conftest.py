"""Options, fixtures and the table of results of the machines that search for faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import pytest

from tests.faults.world import World

ROW = "row of the table"


@dataclass
class Result:
    """A row of the table.

    Attributes:
        name: what was tried.
        unit: what is counted.
        count: how many of them.
        failures: one text for each that went wrong.
        seconds: how long it took.
        note: what else was measured.
    """

    name: str
    unit: str
    count: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""

    def line(self) -> str:
        """A line of a Markdown table."""
        return (
            f"| {self.name} | {self.count:,} {self.unit} | {len(self.failures)} | {self.seconds:,.0f} | {self.note} |"
        )


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    Attributes:
        seed: of everything that is drawn.
        long: everything there is, for as long as it takes; else what fits into two minutes.
        minutes: how long faults are mixed into changes in a long run, and the most that any machine takes.
        scenarios: names of those in which kills are tried; empty: all.
        kinds: names of the kinds of fault that are tried one by one; empty: all.
    """

    seed: int
    long: bool
    minutes: float
    scenarios: tuple[str, ...]
    kinds: tuple[str, ...]

    def deadline(self) -> float:
        """When a machine that begins now ends, by the monotonic clock."""
        return time.monotonic() + self.minutes * 60


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--seed", type=int, default=1, help="of everything that is drawn (default 1)")
    group.addoption("--long", action="store_true", help="try everything, for as long as it takes (about two hours)")
    group.addoption(
        "--minutes", type=float, default=30, help="of churn in a long run, and the most of all (default 30)"
    )
    group.addoption("--scenarios", default="", help="names of those in which a long run kills (default: all)")
    group.addoption("--kinds", default="", help="names of the faults that a long run tries alone (default: all)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a long run has the time for; pytest counts it as deselected."""
    if config.getoption("--long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long") is not None]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table. Rows travel with the reports, because tests may run in other processes."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    rows = [text for report in reports for name, text in report.user_properties if name == ROW]
    if rows:
        terminalreporter.section(f"faults, seed {config.getoption('--seed')}")
        for line in ("| what | count | failures | seconds | |", "|---|---|---|---|---|", *rows):
            terminalreporter.write_line(str(line))


@pytest.fixture(scope="session")
def effort(pytestconfig: pytest.Config) -> Effort:
    """What the command line says."""
    option = pytestconfig.getoption
    scenarios, kinds = (tuple(filter(None, option(name).split(","))) for name in ("--scenarios", "--kinds"))
    return Effort(option("--seed"), option("--long"), option("--minutes"), scenarios, kinds)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The cluster of all machines."""
    with World(tmp_path_factory.mktemp("faults")) as started:
        yield started


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, str], AbstractContextManager[Result]]:
    """Begin a row of the table; its failures fail the test at the end."""

    @contextmanager
    def begin(name: str, unit: str) -> Iterator[Result]:
        result, start = Result(name, unit), time.monotonic()
        try:
            yield result
        except BaseException as error:
            result.failures.append(repr(error))
            raise
        finally:
            result.seconds = time.monotonic() - start
            request.node.user_properties.append((ROW, result.line()))
        assert not result.failures, "\n\n".join([f"{len(result.failures)} of {result.count} failed", *result.failures])

    return begin
