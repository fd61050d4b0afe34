"""docs/cli.md and the site's page of options say what `--help` says."""

from __future__ import annotations

import re

import pytest

from devcluster.cache import ROOT
from devtools.site import SUBCOMMANDS, command_line, help_of
from llm_operator.cli.main import COMMANDS

PAGE = (ROOT / "docs" / "cli.md").read_text()


def helps() -> dict[str, str]:
    found = {command: help_of(command) for command in COMMANDS}
    return found | {f"{one} {name}": help_of(one, name) for one, names in SUBCOMMANDS.items() for name in names}


HELPS = helps()


@pytest.mark.parametrize("command", HELPS)
def test_a_command_has_its_row_and_its_help(command: str) -> None:
    assert re.search(rf"^\|.*`{command}[ `]", PAGE, re.MULTILINE), f"docs/cli.md has no row for {command}"
    assert HELPS[command].startswith(f"usage: kubectl llm {command}")
    assert f"## {command}\n" in command_line()


def test_the_table_has_no_other_commands() -> None:
    table = PAGE[PAGE.index("| command |") :].partition("\n\n")[0]
    cells = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    named = {words.split()[0] for cell in cells for words in re.findall(r"`([a-z][^`]*)`", cell)}
    assert named == set(COMMANDS)


def test_every_option_of_the_page_is_one_of_a_command() -> None:
    text = re.sub(r"\$ (?:helm|kubectl get)[^|]*", "", PAGE)
    known = set(re.findall(r"--[a-z][a-z-]+", " ".join(HELPS.values())))
    unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - known - {"--help", "--version"}
    assert unknown == set(), unknown


@pytest.mark.parametrize("command", HELPS)
def test_every_option_says_what_it_is(command: str) -> None:
    """A line of an option with nothing beside or below it."""
    lines = HELPS[command].partition("options:")[2].splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if re.match(r"  -", line) and not re.search(r"\S  +\S", line.strip()):
            assert after.startswith("     "), f"{command}: {line.strip()} has no help"
