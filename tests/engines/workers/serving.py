"""The worker's end of the line protocol: one JSON request a line on stdin, one JSON reply a line on stdout.

Imported by the workers inside the engines' own environments, so it needs nothing but the standard library.
"""

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

Handler = Callable[[Sequence[str]], Any]


class RefusedError(Exception):
    """The engine's own code does not accept the command line; the text is what it printed."""


def own_stdout() -> Any:
    """Keep the real stdout for replies and send whatever else prints there to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def serve(replies: Any, handlers: dict[str, Handler]) -> None:
    """Answer requests {"op": name, "argv": [...]} until stdin ends; the first line says that the imports are done."""
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": True, "result": handlers[request["op"]](request["argv"])}
        except RefusedError as refused:
            answer = {"ok": False, "error": str(refused)}
        except Exception as error:  # a bug of the worker must reach the test, not end the worker
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}", "unexpected": True}
        print(json.dumps(answer), file=replies, flush=True)


@contextlib.contextmanager
def refusing() -> Any:
    """Turn argparse's exit into RefusedError with what it printed to stderr."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as end:
        lines = [text for text in said.getvalue().splitlines() if "error:" in text]
        raise RefusedError(lines[-1] if lines else f"exit {end.code}: {said.getvalue()[-500:]}") from end


def options(parser: argparse.ArgumentParser, type_name: Callable[[Any], str]) -> list[dict[str, Any]]:
    """Every option of the parser: names, how many values it takes, their type and choices."""
    table = []
    for action in parser._actions:
        if not action.option_strings or action.dest in ("help", "version"):
            continue
        table.append(
            {
                "names": sorted(action.option_strings, key=lambda name: (-len(name), name)),
                "takes": _takes(action),
                "type": type_name(action),
                "choices": sorted(str(choice) for choice in action.choices) if action.choices else None,
            }
        )
    return table


def _takes(action: argparse.Action) -> str:
    if action.nargs is None:
        return "1"
    return str(action.nargs)


def inexact(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """Options in argv that are no exact option strings of the parser; to argparse a negative number is a value."""
    known = {name for action in parser._actions for name in action.option_strings}
    number = parser._negative_number_matcher
    words = [word for word in argv if word.startswith("-") and word != "-" and not number.match(word)]
    return [word for word in words if word.split("=")[0] not in known]
