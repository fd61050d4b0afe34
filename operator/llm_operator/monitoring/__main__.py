"""Writes rules and dashboards into the chart, or checks that they are there as they would be written."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from llm_operator.monitoring.alerts import alert_rules
from llm_operator.monitoring.dashboards import DASHBOARDS
from llm_operator.monitoring.grafana import render
from llm_operator.monitoring.rules import recording_rules


def files() -> dict[str, str]:
    """Text by file name, relative to the chart's folder of files."""
    groups = [
        {"name": "llm-operator.engines", "rules": recording_rules()},
        {"name": "llm-operator.alerts", "rules": alert_rules()},
    ]
    rules = yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000)
    dashboards = {f"dashboards/{board.uid}.json": json.dumps(render(board), indent=1) + "\n" for board in DASHBOARDS}
    return {"rules.yaml": rules, **dashboards}


def main(arguments: list[str] | None = None) -> int:
    """Write or check; 1 if a checked file differs."""
    parser = argparse.ArgumentParser(prog="python -m llm_operator.monitoring", description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", type=Path, metavar="FOLDER", help="write the files there")
    choice.add_argument("--check", type=Path, metavar="FOLDER", help="compare the files there")
    options = parser.parse_args(arguments)
    stale = []
    for name, text in files().items():
        path = (options.write or options.check) / name
        if options.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            stale.append(str(path))
    if stale:
        print(f"stale: {', '.join(stale)}: run make generate", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
