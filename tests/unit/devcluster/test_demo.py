"""What `make demo` says at its end: commands that exist, on a terminal of 80 columns."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from devcluster.demo import _farewell
from devcluster.session import Session
from llm_operator.cli.main import COMMANDS, parser

FOLDER = Path("/cache")


@pytest.mark.parametrize("own", [True, False])
def test_the_farewell_fits_and_its_commands_exist(own: bool) -> None:
    text = _farewell(Session(FOLDER / "kubeconfig", FOLDER / "bin"), 445, own=own)
    lines = [line for line in text.splitlines() if not line.startswith("  export")]
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("  kubectl llm ")]
    assert len(commands) >= 3
    for _, _, *words in commands:
        assert words[0] in COMMANDS
        parser(words[0]).parse_args(words)
    assert "http://127.0.0.1:8080/" in text
