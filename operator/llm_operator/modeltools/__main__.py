"""`python3 -m llm_operator.modeltools COMMAND ...`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

COMMANDS = {
    "fetch": ("fetch", "download a model from a hub"),
    "inspect": ("inspection", "read the configuration and the size of a model on a volume"),
    "quantize": ("quantize", "quantize a model with the engine's own tool"),
    "convert": ("convert", "convert a model with the engine's own tool"),
    "remove": ("remove", "remove a model from a cache volume"),
    "verify": ("verify", "compare a model of a cache volume with what was written"),
    "install": ("install", "copy these tools into a folder, for a container of another image"),
}
"""Command -> module of this package, and what it does."""


def command_line(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser; with the options of the chosen command only.

    Only the requested command is imported: the others may need what this image does not have.
    """
    parser = argparse.ArgumentParser(prog="python3 -m llm_operator.modeltools", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module_name, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name == chosen:
            module = importlib.import_module(f"llm_operator.modeltools.{module_name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code (see `report`)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = command_line(given[0] if given else None).parse_args(given)
    # Jobs of other images and user ids write to the same volume; what they share is the volume's group (fsGroup).
    os.umask(0o002)
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
