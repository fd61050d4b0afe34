"""How often an engine restarted this week, and why: the dashboard's queries, run by the real promtool."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from llm_operator.monitoring.__main__ import files
from llm_operator.monitoring.dashboards import CHOSEN, DASHBOARDS, NONE, WEEK_SECONDS
from llm_operator.monitoring.rules import ends, restarts

JSON = dict[str, Any]
DAY = 86_400
HOUR = 3600
DAYS = 10
"""The test's present: some of the ends below are older than a week then."""
OBJECT = 'namespace="team", name="qwen"'
ENDS = "llmdeployment_engine_last_end_timestamp_seconds"
RESTARTS = "llmdeployment_engine_restarts_total"


class Series:
    """Samples of one metric, one an hour; what was given last goes on."""

    def __init__(self, metric: str, pod: str, reason: str = "", instance: str = "a") -> None:
        more = f', reason="{reason}"' if reason else ""
        self._name = f'{metric}{{{OBJECT}, pod="{pod}", instance="{instance}"{more}}}'
        self._values: list[str] = []

    def until(self, hours: int, value: float | None) -> Series:
        """The value at every hour before that one; None: there is none."""
        self._values += ["_" if value is None else f"{value:.0f}"] * (hours - len(self._values))
        return self

    def document(self) -> JSON:
        return {"series": self._name, "values": " ".join(self._values)}


def evaluate(promtool: Path, folder: Path, series: list[Series], expected: dict[str, list[JSON]]) -> None:
    (folder / "rules.yaml").write_text(files()["rules.yaml"])
    case = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1h",
        "tests": [
            {
                "interval": "1h",
                "input_series": [one.document() for one in series],
                "promql_expr_test": [
                    {"expr": expression, "eval_time": f"{DAYS}d", "exp_samples": samples}
                    for expression, samples in expected.items()
                ],
            }
        ],
    }
    (folder / "case.yaml").write_text(yaml.safe_dump(case))
    result = subprocess.run(
        [promtool, "test", "rules", str(folder / "case.yaml")], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def of(value: int, reason: str = "") -> JSON:
    more = f', reason="{reason}"' if reason else ""
    return {"labels": f"{{{OBJECT}{more}}}", "value": value}


def test_ends_and_restarts_of_pods_that_are_gone_count_and_older_ones_do_not(promtool: Path, tmp_path: Path) -> None:
    end = DAYS * 24 + 1
    first, second, third, old = 5 * DAY, 5 * DAY + 2 * HOUR, 6 * DAY, 1 * DAY
    series = [
        # Gone since the seventh day: ran out of memory twice, then crashed.
        Series(RESTARTS, "qwen-0").until(120, 0).until(122, 1).until(144, 2).until(168, 3),
        Series(ENDS, "qwen-0", "GPUOutOfMemory").until(120, None).until(122, first).until(144, second),
        Series(ENDS, "qwen-0", "EngineCrashed").until(144, None).until(168, third),
        # Alive: it ended once, nine days ago.
        Series(RESTARTS, "qwen-1").until(24, 0).until(end, 1),
        Series(ENDS, "qwen-1", "EngineCrashed").until(24, None).until(end, old),
    ]
    expected = {
        ends(WEEK_SECONDS): [of(2, "GPUOutOfMemory"), of(1, "EngineCrashed")],
        restarts("7d"): [of(3)],
    }
    evaluate(promtool, tmp_path, series, expected)


def test_an_operator_that_starts_again_counts_nothing_twice(promtool: Path, tmp_path: Path) -> None:
    end = DAYS * 24 + 1
    series = [
        Series(RESTARTS, "qwen-0", instance="a").until(120, 0).until(150, 1),
        Series(RESTARTS, "qwen-0", instance="b").until(150, None).until(end, 1),
        Series(ENDS, "qwen-0", "EngineCrashed", instance="a").until(120, None).until(150, 5 * DAY),
        Series(ENDS, "qwen-0", "EngineCrashed", instance="b").until(150, None).until(end, 5 * DAY),
    ]
    evaluate(promtool, tmp_path, series, {ends(WEEK_SECONDS): [of(1, "EngineCrashed")], restarts("7d"): [of(1)]})


def test_the_dashboard_shows_the_week_of_every_object(promtool: Path, tmp_path: Path) -> None:
    """An object without an end has a row with 0."""
    panels = {panel.title: panel for board in DASHBOARDS for heading, row in board.rows for panel in row}
    ((expression, _),) = panels["Engine ends by reason"].queries
    quiet = Series("llmdeployment_info", "x").until(DAYS * 24 + 1, 1)
    asked = expression.replace("$namespace", ".*").replace("$name", ".*")
    evaluate(promtool, tmp_path, [quiet], {asked: [of(0)]})


def test_the_page_on_calls_has_the_queries_of_the_dashboard() -> None:
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    block = page.partition("### Restarts of a week")[2].partition("```text\n")[2].partition("```")[0]
    chosen = {CHOSEN: '{namespace="team", name="qwen"}', f" or {NONE}": ""}
    (week,) = (row for board in DASHBOARDS for heading, row in board.rows if heading == "The last 7 days")
    shown = [expression for panel in week[:3] for expression, _ in panel.queries]
    for old, new in reversed(chosen.items()):
        shown = [expression.replace(old, new) for expression in shown]
    assert block.splitlines() == shown
