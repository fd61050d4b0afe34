"""`kubectl-llm`: the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from llm_operator import __version__
from llm_operator.cli.errors import BadInputError, one_line

EXIT_BAD_INPUT = 2
COMMANDS: Mapping[str, str] = {
    "plan": "what will fit, in numbers",
    "render": "every object that would be created",
    "list": "the LLMDeployments",
    "status": "one object on one screen",
    "wait": "until it serves, or cannot",
    "chat": "talk to a served model",
    "bench": "how fast it answers",
    "logs": "what its engines wrote",
    "explain": "what a reason means",
    "restart": "replace the pods",
    "cache": "the models kept on claims",
}
"""Each is a module beside this one. Only that of the command that runs is imported: planning takes half a second."""


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line, with the options of one command; kubectl runs it as `kubectl llm`."""
    line = argparse.ArgumentParser(
        prog="kubectl llm",
        description="Plans LLMDeployments, shows how they are, and looks after their cached models.",
        allow_abbrev=False,
    )
    line.add_argument("--version", action="version", version=__version__)
    commands = line.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in COMMANDS.items():
        if name == command:
            import_module(f"llm_operator.cli.{name if name != 'list' else 'listing'}").add_to(commands)
        else:
            commands.add_parser(name, help=about, allow_abbrev=False)
    return line


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    command = given[0] if given and given[0] in COMMANDS else None
    chosen = parser(command).parse_args(given)
    try:
        code: int = import_module(f"llm_operator.cli.{command if command != 'list' else 'listing'}").run(chosen)
        sys.stdout.flush()
    except BadInputError as error:
        for problem in error.problems:
            print(f"kubectl llm {chosen.command}: {one_line(problem)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        # The interpreter flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return 130
    return code


def main() -> None:
    """The console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
