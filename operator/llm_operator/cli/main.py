"""`kubectl-llm`: the command line."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType
from typing import NoReturn

from llm_operator import __version__
from llm_operator.cli.errors import BadInputError, one_line

EXIT_BAD_INPUT = 2
EXIT_STOPPED = 130
COMMANDS: Mapping[str, str] = {
    "plan": "what will fit, in numbers",
    "render": "every object that would be created",
    "list": "the LLMDeployments",
    "status": "one object on one screen",
    "wait": "until it serves, or cannot",
    "chat": "talk to a served model",
    "bench": "how fast it answers",
    "logs": "what its engines wrote",
    "explain": "what a reason or a field means",
    "history": "its revisions, and what each one changed",
    "restart": "replace the pods",
    "cache": "the models kept on claims",
    "completion": "completion for a shell",
}
"""Each is a module beside this one. Only that of the command that runs is imported: planning takes half a second."""
_MODULES = {"list": "listing", "cache": "cache_command"}
_WRONG = re.compile(r"invalid choice: '(.{1,40}?)' \(choose from (.*)\)|unrecognized arguments: (-{1,2}[\w-]{1,40})")
MOST_SHOWN = 500
ANYWHERE: Mapping[str, bool] = {
    "-n": True,
    "--namespace": True,
    "-A": False,
    "--all-namespaces": False,
    "--context": True,
    "--kubeconfig": True,
}
"""Options that may stand before the command too, as in kubectl, and whether each takes a value."""


class Line(argparse.ArgumentParser):
    """A parser whose errors are one sentence, with the nearest word for a wrong one."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end."""
        wrong = _WRONG.search(message)
        near: list[str] = []
        if wrong:
            from difflib import get_close_matches  # noqa: PLC0415 - only where something is wrong

            known = re.findall(r"[\w.-]+", wrong[2]) if wrong[2] else list(self._option_string_actions)
            near = get_close_matches(wrong[1] or wrong[3], known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        text = one_line(message) if len(message) < MOST_SHOWN else f"{one_line(message[:MOST_SHOWN])}..."
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: {text}{hint or f'; see {self.prog} --help'}\n")


def module(command: str) -> ModuleType:
    """The module of a command."""
    return import_module(f"llm_operator.cli.{_MODULES.get(command, command)}")


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line, with the options of one command; kubectl runs it as `kubectl llm`."""
    line = Line(
        prog="kubectl llm",
        description="Plans LLMDeployments, shows how they are, talks to them, and looks after their cached models.",
        epilog="-n, -A, --context and --kubeconfig may stand before the command too.",
        allow_abbrev=False,
    )
    line.add_argument("--version", action="version", version=__version__)
    commands = line.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in COMMANDS.items():
        if name == command:
            module(name).add_to(commands)
        else:
            commands.add_parser(name, help=about, allow_abbrev=False)
    return line


def ordered(given: Sequence[str]) -> list[str]:
    """The words with the command first: what may stand before it is moved behind it."""
    before: list[str] = []
    words = list(given)
    while words and words[0].partition("=")[0] in ANYWHERE:
        name, equals, _ = words[0].partition("=")
        count = 2 if ANYWHERE[name] and not equals else 1
        before += words[:count]
        words = words[count:]
    if not words or words[0].startswith("-"):
        return list(given)
    at = 2 if words[0] == "cache" and len(words) > 1 and not words[1].startswith("-") else 1
    return [*words[:at], *before, *words[at:]]


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal of another encoding than UTF-8 gets what it lacks as an escape.
            stream.reconfigure(errors="backslashreplace")
    given = ordered(sys.argv[1:] if argv is None else argv)
    command = given[0] if given and given[0] in COMMANDS else None
    chosen = parser(command).parse_args(given)
    try:
        code: int = module(chosen.command).run(chosen)
        sys.stdout.flush()
    except BadInputError as error:
        for problem in error.problems:
            print(f"kubectl llm {chosen.command}: {one_line(problem)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_STOPPED
    except OSError as error:
        # The reader of a pipe, or the terminal, has gone.
        if not isinstance(error, BrokenPipeError) and error.errno != errno.EIO:
            raise
        # The interpreter flushes once more at its end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return EXIT_BAD_INPUT
    return code


def main() -> None:
    """The console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
