"""Commands under a pseudo-terminal: 80 columns, a dumb one, resized, closed; and an API server that goes away."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.fake_cluster import COMMAND, FakeCluster, Terminal, llm, ran

PODS = "/api/v1/namespaces/team/pods"
XTERM = {"TERM": "xterm", "COLUMNS": "", "LINES": ""}


@pytest.fixture
def space(tmp_path: Path) -> Iterator[FakeCluster]:
    made = FakeCluster(tmp_path)
    made.objects["qwen"] = told("qwen", "Loading")
    made.answers[PODS] = {"items": [], "metadata": {}}
    yield made
    made.server.shutdown()
    made.server.server_close()


def told(name: str, reason: str, status: str = "Unknown", **more: Any) -> dict[str, Any]:
    ready = {"type": "Ready", "status": status, "reason": reason, "message": f"message of {reason}"}
    body = llm(name)
    body["metadata"]["generation"] = 1
    body["spec"] = {
        "model": {"huggingFace": {"repository": "some-organisation/a-model-with-a-rather-long-name-of-70b"}},
        "engine": {"type": "LMDeploy"},
    }
    return {**body, "status": {"observedGeneration": 1, "conditions": [ready], **more}}


def resize(terminal: Terminal, columns: int, rows: int = 24) -> None:
    fcntl.ioctl(terminal.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_list_fits_the_terminal_and_a_pipe_gets_it_whole(space: FakeCluster) -> None:
    assert "a-model-with-a-rather-long-name-of-70b" in ran(space, "list")[1]
    terminal = Terminal(space, "list", **XTERM)
    resize(terminal, 80)
    shown = terminal.rest()
    lines = [line.rstrip("\r") for line in shown.splitlines() if line.strip()]
    assert len(lines) == 2
    assert all(len(line) < 80 for line in lines), lines
    assert terminal.ended() == 0


def test_wide_cuts_nothing(space: FakeCluster) -> None:
    """As kubectl's: the terminal wraps."""
    terminal = Terminal(space, "list", "-o", "wide", **XTERM)
    resize(terminal, 80)
    shown = terminal.rest()
    assert "a-model-with-a-rather-long-name-of-70b" in shown
    assert "message of Loading" in shown
    assert terminal.ended() == 0


def test_watch_redraws_and_follows_a_resize(space: FakeCluster) -> None:
    terminal = Terminal(space, "list", "--watch", **XTERM)
    resize(terminal, 120)
    terminal.until("Loading")
    space.objects["qwen"] = told("qwen", "ReplicasReady", "True")
    terminal.until("ReplicasReady")
    resize(terminal, 70)
    terminal.until("\x1b[2J")
    terminal.until("\x1b[J")
    assert all(len(line) < 70 for line in plain(terminal.before).splitlines())
    terminal.say("\x03")
    assert terminal.ended() == 130


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": ""}])
def test_watch_on_a_dumb_terminal_prints_only_what_changed(space: FakeCluster, variables: dict[str, str]) -> None:
    terminal = Terminal(space, "list", "--watch", **variables)
    terminal.until("Loading")
    space.objects["other"] = told("other", "Stopped")
    terminal.until("Stopped")
    assert "\x1b" not in terminal.before
    assert "NAME" not in terminal.before
    terminal.say("\x03")
    assert terminal.ended() == 130


def test_wait_draws_a_bar_below_and_takes_it_away(space: FakeCluster) -> None:
    progress = {"stage": "Fetching", "summary": "Fetching 42 %, 3 min left", "percent": 42}
    space.objects["qwen"] = told("qwen", "Fetching", progress=progress)
    terminal = Terminal(space, "wait", "qwen", **XTERM)
    terminal.until("qwen: Fetching: message of Fetching")
    terminal.until("[#############.................] Fetching 42 %, 3 min left")
    space.objects["qwen"] = told("qwen", "ReplicasReady", "True")
    terminal.until("\r\x1b[K")
    terminal.until("qwen: ReplicasReady: message of ReplicasReady")
    assert terminal.ended() == 0
    space.objects["qwen"] = told("qwen", "Fetching", progress=progress)
    code, output, errors = ran(space, "wait", "qwen", "--timeout", "1")
    assert (code, output) == (3, "qwen: Fetching: Fetching 42 %, 3 min left\n")
    assert errors == "kubectl llm wait: not ready after 1 s\n"


def test_a_terminal_that_is_closed_ends_the_command(space: FakeCluster) -> None:
    terminal = Terminal(space, "list", "--watch", **XTERM)
    terminal.until("Loading")
    os.close(terminal.descriptor)
    _, status = os.waitpid(terminal.child, 0)
    assert os.waitstatus_to_exitcode(status) in (-signal.SIGHUP, 2)


def test_an_api_server_that_is_away_for_a_moment_is_waited_for(space: FakeCluster) -> None:
    terminal = Terminal(space, "wait", "qwen", TERM="dumb")
    terminal.until("message of Loading")
    space.away = True
    terminal.until("trying again")
    space.objects["qwen"] = told("qwen", "ReplicasReady", "True")
    space.away = False
    terminal.until("ReplicasReady")
    terminal.until("the API server answers again")
    assert terminal.ended() == 0


def test_an_api_server_that_is_gone_is_one_sentence(space: FakeCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    space.kubeconfig.write_text(space.kubeconfig.read_text().replace(str(space.server.server_port), str(port)))
    for command in ("list", "status", "logs", "chat", "bench", "restart"):
        code, output, errors = ran(space, command, *([] if command == "list" else ["qwen"]), stdin="hi")
        assert (code, output) == (2, "")
        assert errors == (
            f"kubectl llm {command}: the API server http://127.0.0.1:{port} cannot be reached: [Errno 111] Connection "
            "refused; check --kubeconfig and --context\n"
        )


@pytest.mark.parametrize("arguments", [("list",), ("status", "qwen"), ("explain",), ("logs", "qwen", "--help")])
def test_a_reader_that_goes_away_is_no_error(space: FakeCluster, arguments: tuple[str, ...]) -> None:
    script = f"{COMMAND} {' '.join(arguments)} | true"
    done = subprocess.run(
        ["bash", "-c", script], env=space.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""


LEASES = "/apis/coordination.k8s.io/v1/leases"
HELD = {"holderIdentity": "llm-operator-1", "renewTime": "2999-01-01T00:00:00Z"}
RELEASED = {"holderIdentity": "", "renewTime": "2999-01-01T00:00:00Z"}
LONG_AGO = {"holderIdentity": "llm-operator-1", "renewTime": "2020-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (HELD, ""),
        (RELEASED, "no operator runs in this cluster: the status"),
        (LONG_AGO, "no operator runs in this cluster (the last sign of one is "),
        (None, ""),
    ],
    ids=["running", "released", "dead", "may not be seen"],
)
def test_a_cluster_without_an_operator_is_said_once_on_stderr(
    space: FakeCluster, spec: dict[str, str] | None, said: str
) -> None:
    """What nothing looks after must not look as if it were: no exit code and no document changes by it."""
    if spec is not None:
        space.answers[LEASES] = {"items": [{"metadata": {"name": "llm-operator"}, "spec": spec}], "metadata": {}}
        space.answers["/api/v1/pods"] = {"items": [], "metadata": {}}
    for command in (("list",), ("list", "-o", "json"), ("wait", "qwen", "--timeout", "0")):
        code, output, errors = ran(space, *command)
        assert code == (3 if command[0] == "wait" else 0)
        assert "no operator" not in output
        assert errors.count("no operator runs") == (1 if said else 0)
        assert said in errors
        if "json" in command:
            assert json.loads(output)["items"]


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}, {"CLICOLOR": "0"}, {"FORCE_COLOR": "1"}], ids=str)
def test_no_command_writes_colors(space: FakeCluster, variables: dict[str, str]) -> None:
    """Nothing is colored on any terminal, so that no convention about colors can be broken."""
    for command in (("list",), ("status", "qwen"), ("wait", "qwen", "--timeout", "0")):
        terminal = Terminal(space, *command, **{**XTERM, **variables})
        assert not re.search(r"\x1b\[[0-9;]*m", terminal.rest())
        terminal.ended()
