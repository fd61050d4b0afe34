"""`kubectl llm explain`: what a reason of a condition means, and what to do."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from typing import Any

from llm_operator.cli.errors import BadInputError
from llm_operator.reasons import NAMES, explain, similar


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("explain", help="what a reason means", description=__doc__, allow_abbrev=False)
    line.add_argument("reason", metavar="REASON", nargs="?", help="such as Unschedulable; without it: all reasons")


def run(chosen: argparse.Namespace) -> int:
    """Print the meanings of a reason.

    Raises:
        BadInputError: there is no such reason.
    """
    if chosen.reason is None:
        print("\n".join(sorted(NAMES)))
        return 0
    found = explain(chosen.reason)
    if not found:
        lower = {name.lower(): name for name in NAMES}
        near = [*similar(chosen.reason), *(lower[name] for name in get_close_matches(chosen.reason.lower(), lower))]
        hint = (
            f"; did you mean {', '.join(list(dict.fromkeys(near))[:3])}?"
            if near
            else "; without a name, all are listed"
        )
        raise BadInputError([f"there is no reason {chosen.reason[:80]!r}{hint}"])
    for number, reason in enumerate(found):
        lines = [
            *([""] if number else []),
            f"{reason.name} ({reason.area}, {reason.severity}; {', '.join(reason.conditions)})",
            reason.meaning,
            *([f"What to do: {reason.remedy}"] if reason.remedy else []),
            *([f"Fields: {', '.join(reason.fields)}"] if reason.fields else []),
            *([f"Stalls {reason.stalls}"] if reason.stalls else []),
        ]
        print("\n".join(lines))
    return 0
