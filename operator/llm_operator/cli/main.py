"""`kubectl-llm`: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from llm_operator import __version__
from llm_operator.cli import cache, plan
from llm_operator.cli.errors import BadInputError, one_line

EXIT_BAD_INPUT = 2


def parser() -> argparse.ArgumentParser:
    """The command line; kubectl runs it as `kubectl llm`."""
    line = argparse.ArgumentParser(
        prog="kubectl llm", description="Plans LLMDeployments, and looks after their cached models.", allow_abbrev=False
    )
    line.add_argument("--version", action="version", version=__version__)
    commands = line.add_subparsers(dest="command", required=True, metavar="COMMAND")
    plan.add_to(commands)
    cache.add_to(commands)
    return line


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    chosen = parser().parse_args(argv)
    try:
        return cache.run(chosen) if chosen.command == "cache" else plan.run(chosen)
    except BadInputError as error:
        for problem in error.problems:
            print(f"kubectl llm {chosen.command}: {one_line(problem)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        return EXIT_BAD_INPUT


def main() -> None:
    """The console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
