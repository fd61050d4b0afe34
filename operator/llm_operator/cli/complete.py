"""Completion of `kubectl llm`: by kubectl itself (kubectl_complete-llm on the PATH), and by a shell for kubectl-llm.

The answer is that of cobra's `__complete`, which kubectl's own completion reads: a line per word, with a description
after a tab, then a directive.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from llm_operator.cli.main import ANYWHERE, COMMANDS, ordered, parser

NO_FILES, FILES = 4, 0
"""Cobra's ShellCompDirectiveNoFileComp and ShellCompDirectiveDefault."""
SECONDS = 3.0
"""A cluster that does not answer by then completes nothing."""
_NAMES = ("status", "wait", "chat", "bench", "logs", "history", "restart")


def main() -> None:
    """The console script: the words after `kubectl llm`, the last of which is being typed."""
    print("\n".join(answer(sys.argv[1:])))


def answer(words: Sequence[str]) -> list[str]:
    """The completions of the last word, and the directive."""
    *before, typed = words or [""]
    found, files = _completions(ordered([*before, "x"])[:-1] if before else [], typed)
    lines = [f"{word}\t{about}" if about else word for word, about in found if word.startswith(typed)]
    return [*lines, f":{FILES if files else NO_FILES}"]


def _completions(before: list[str], typed: str) -> tuple[Iterable[tuple[str, str]], bool]:
    command = next((word for word in before if word in COMMANDS), None)
    if command is None:
        if before and ANYWHERE.get(before[-1]):
            return _values(before[-1], before)
        return [*COMMANDS.items(), *((name, "") for name in ANYWHERE if typed.startswith("-"))], False
    line = _nested(parser(command))[command]
    rest = before[before.index(command) + 1 :]
    nested = _nested(line)
    if not nested:
        return _of_command(command, line, rest, before, typed)
    action = next((word for word in rest if word in nested), None)
    if action is None:
        return [(name, "") for name in nested], False
    return _of_command(command, nested[action], rest, before, typed)


def _of_command(
    command: str, line: argparse.ArgumentParser, rest: list[str], before: list[str], typed: str
) -> tuple[Iterable[tuple[str, str]], bool]:
    option = line._option_string_actions.get(rest[-1]) if rest else None
    if option is not None and option.nargs != 0:
        if option.choices:
            return [(str(choice), "") for choice in option.choices], False
        return _values(rest[-1], before)
    if typed.startswith("-"):
        options = [action for action in line._actions if action.option_strings]
        return [(max(action.option_strings, key=len), _help(action)) for action in options], False
    return _operands(command, rest, before)


def _operands(command: str, rest: list[str], before: list[str]) -> tuple[Iterable[tuple[str, str]], bool]:
    if command in _NAMES:
        return ([] if any(not word.startswith("-") for word in rest[:1]) else _objects(before)), False
    if command == "explain":
        from llm_operator.reasons import NAMES  # noqa: PLC0415

        return [(name, "") for name in sorted(NAMES)], False
    if command == "completion":
        return [(shell, "") for shell in ("bash", "zsh", "fish")], False
    return [], command in ("plan", "render")


def _values(option: str, before: list[str]) -> tuple[Iterable[tuple[str, str]], bool]:
    """Values of an option without fixed choices."""
    if option in ("-n", "--namespace"):
        return _namespaces(before), False
    if option == "--context":
        from llm_operator.cli.kubeconfig import contexts  # noqa: PLC0415

        return [(name, "") for name in contexts(_given(before, "--kubeconfig"))], False
    return [], True


def _given(before: list[str], *options: str) -> str | None:
    """The value that was given to an option already."""
    for word, following in zip(before, [*before[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in options:
            return value if equals else following
    return None


def _objects(before: list[str]) -> list[tuple[str, str]]:
    from llm_operator.cli.cluster import OBJECTS, PLURAL  # noqa: PLC0415

    return _listed(before, OBJECTS, PLURAL, namespaced=True)


def _namespaces(before: list[str]) -> list[tuple[str, str]]:
    return _listed(before, "api/v1", "namespaces", namespaced=False)


def _listed(before: list[str], prefix: str, plural: str, *, namespaced: bool) -> list[tuple[str, str]]:
    """Names of the cluster; none if it cannot be asked: a completion says nothing of problems."""
    from llm_operator.cli.cluster import connect  # noqa: PLC0415
    from llm_operator.cli.errors import BadInputError  # noqa: PLC0415

    try:
        cluster = connect(_given(before, "--kubeconfig"), _given(before, "--context"), seconds=SECONDS)
        place = (_given(before, "-n", "--namespace") or cluster.namespace) if namespaced else None
        return [(str(item["metadata"]["name"]), "") for item in cluster.list(prefix, plural, place)]
    except BadInputError:
        return []


def _nested(line: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in line._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _help(action: Any) -> str:
    return str(action.help or "").replace("%%", "%")
