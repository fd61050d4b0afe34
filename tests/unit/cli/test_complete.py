"""Completion: the words that kubectl and shells are offered."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_operator.cli.complete import answer
from llm_operator.cli.completion import SCRIPTS
from llm_operator.cli.main import ANYWHERE, COMMANDS, ordered, parser
from llm_operator.reasons import NAMES
from tests.unit.cli.fake_cluster import FakeCluster, llm

PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    made = FakeCluster(tmp_path)
    made.objects["other"] = llm("other")
    monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig))
    monkeypatch.setenv("NO_PROXY", "*")
    yield made
    made.server.shutdown()
    made.server.server_close()


def words(*typed: str) -> list[str]:
    return [line.split("\t")[0] for line in answer(typed)[:-1]]


def test_commands_and_their_options() -> None:
    assert words("") == list(COMMANDS)
    assert answer(["l"]) == ["list\tthe LLMDeployments", "logs\twhat its engines wrote", ":4"]
    assert set(words("list", "-")) >= {"--watch", "--output", "--namespace", "--context"}
    assert words("list", "-o", "") == ["table", "wide", "json", "yaml"]
    assert words("cache", "") == ["list", "prune"]
    assert set(words("cache", "prune", "--d")) == {"--dry-run"}
    assert words("explain", "Unsch") == ["Unschedulable"]
    assert set(words("explain", "")) == NAMES
    assert words("completion", "") == ["bash", "zsh", "fish"]
    assert set(words("-")) == set(ANYWHERE)


def test_files_are_left_to_the_shell() -> None:
    assert answer(["plan", "-f", ""]) == [":0"]
    assert answer(["status", "x", ""]) == [":4"]


def test_names_of_the_cluster(space: FakeCluster) -> None:
    assert words("status", "") == ["qwen", "other"]
    assert words("chat", "o") == ["other"]
    assert words("-n", "team", "status", "q") == ["qwen"]
    assert words("status", "qwen", "") == []
    space.answers["/api/v1/namespaces"] = {"items": [{"metadata": {"name": "team"}}], "metadata": {}}
    assert words("status", "-n", "") == ["team"]
    assert words("-n", "") == ["team"]
    assert words("list", "--context", "") == ["c"]


def test_a_cluster_that_is_away_completes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/none")
    assert answer(["status", ""]) == [":4"]
    assert answer(["status", "--context", ""]) == [":4"]


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_the_scripts_are_ones_that_the_shell_reads(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell])
    program = shutil.which(shell)
    if program is None:
        assert shell != "bash"
        assert SCRIPTS[shell].count("{") == SCRIPTS[shell].count("}")
        return
    subprocess.run([program, "-n", str(script)], check=True, timeout=60)


def test_bash_completes(space: FakeCluster) -> None:
    script = f"""{SCRIPTS["bash"]}
COMP_WORDS=(kubectl-llm status ""); COMP_CWORD=2; _kubectl_llm; echo "${{COMPREPLY[@]}}"
COMP_WORDS=(kubectl-llm list --out); COMP_CWORD=2; _kubectl_llm; echo "${{COMPREPLY[@]}}"
cd {space.folder}; COMP_WORDS=(kubectl-llm plan -f kube); COMP_CWORD=3; _kubectl_llm; echo "${{COMPREPLY[@]}}"
"""
    environment = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["qwen other", "--output", "kubeconfig"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["-n", "x", "list"], ["list", "-n", "x"]),
        (["--context=c", "-A", "list", "-o", "json"], ["list", "--context=c", "-A", "-o", "json"]),
        (["-n", "x", "cache", "prune", "--yes"], ["cache", "prune", "-n", "x", "--yes"]),
        (["list", "-n", "x"], ["list", "-n", "x"]),
        (["-n"], ["-n"]),
        (["-n", "x"], ["-n", "x"]),
        (["-n", "x", "--help"], ["-n", "x", "--help"]),
        ([], []),
    ],
)
def test_options_may_stand_before_the_command(given: list[str], expected: list[str]) -> None:
    assert ordered(given) == expected


def test_what_may_stand_before_a_command_is_known_to_those_that_ask_a_cluster() -> None:
    for command in ("list", "status", "wait", "chat", "bench", "logs", "restart"):
        nested = next(
            action for action in parser(command)._actions if isinstance(action, argparse._SubParsersAction)
        ).choices[command]
        known = set(nested._option_string_actions)
        assert set(ANYWHERE) - known <= {"-A", "--all-namespaces"}, command
