"""`kubectl llm logs`: levels of both engines, the container before, several pods, a terminal that stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_operator.cli.logs import LEVELS, selected
from tests.unit.cli.fake_cluster import FakeCluster, Terminal, ran

PODS = "/api/v1/namespaces/team/pods"
VLLM = """(APIServer pid=1) INFO 11-30 12:00:00 [api_server.py:1] Started server process
(EngineCore pid=2) WARNING 11-30 12:00:01 [core.py:2] slow
(EngineCore pid=2) ERROR 11-30 12:00:02 [core.py:3] EngineCore failed
Traceback (most recent call last):
  File "core.py", line 3, in run
RuntimeError: no
INFO 11-30 12:00:03 [api_server.py:4] Shutting down
  a line that goes with it
""".splitlines()
LMDEPLOY = """2026-11-30 12:00:00,000 - lmdeploy - INFO - api_server.py:1 - up
2026-11-30 12:00:01,000 - lmdeploy - WARNING - engine.py:2 - slow
2026-11-30 12:00:02,000 - lmdeploy - ERROR - engine.py:3 - failed
""".splitlines()


@pytest.fixture
def space(tmp_path: Path) -> Iterator[FakeCluster]:
    made = FakeCluster(tmp_path)
    for name in ("qwen-1", "qwen-2"):
        for options in ("", "&previous=true", "&follow=true"):
            text = (
                "\n".join(f"{line} {name}" for line in VLLM[:3]) + f"\n\x1b[31mred\x1b[0m\x1b]0;taken\x07 {options}\n"
            )
            made.texts[f"{PODS}/{name}/log?container=engine&tailLines=200{options}"] = text
    pods(made, "qwen-1")
    yield made
    made.server.shutdown()
    made.server.server_close()


def pods(space: FakeCluster, *names: str) -> None:
    items = [{"metadata": {"name": name, "namespace": "team"}, "spec": {}, "status": {}} for name in names]
    space.answers[PODS] = {"items": items, "metadata": {}}


@pytest.mark.parametrize("log", [VLLM, LMDEPLOY], ids=["VLLM", "LMDeploy"])
def test_a_level_takes_those_above(log: list[str]) -> None:
    counts = [len(list(selected(log, level))) for level in LEVELS]
    assert counts == ([8, 8, 5, 4] if log is VLLM else [3, 3, 2, 1])


def test_a_traceback_has_the_level_of_its_line() -> None:
    assert list(selected(VLLM, "error")) == VLLM[2:6]


def test_one_pod_and_the_container_before(space: FakeCluster) -> None:
    code, output, errors = ran(space, "logs", "qwen")
    assert (code, errors) == (0, "")
    assert "Started server process qwen-1" in output
    assert "==>" not in output
    assert "&previous=true" in ran(space, "logs", "qwen", "--previous")[1]


def test_several_pods_have_their_names(space: FakeCluster) -> None:
    pods(space, "qwen-1", "qwen-2")
    output = ran(space, "logs", "qwen", "--level", "error")[1]
    assert [line for line in output.splitlines() if "red" not in line] == [
        "==> qwen-1",
        f"{VLLM[2]} qwen-1",
        "==> qwen-2",
        f"{VLLM[2]} qwen-2",
    ]
    followed = ran(space, "logs", "qwen", "--follow")[1].splitlines()
    assert {line.partition(": ")[0] for line in followed} == {"qwen-1", "qwen-2"}
    assert len(followed) == 8


def test_a_line_does_not_steer_a_terminal(space: FakeCluster) -> None:
    terminal = Terminal(space, "logs", "qwen", TERM="xterm")
    seen = terminal.rest()
    assert terminal.ended() == 0
    assert "red\\x1b]0;taken\\x07" in seen
    assert "\x1b" not in seen


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--follow", "--previous"), "--follow and --previous exclude each other"),
        (("--tail", "-1"), "expected a whole number up to 1,000,000"),
        (("--level", "notice"), "invalid choice: 'notice'"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(space: FakeCluster, arguments: tuple[str, ...], said: str) -> None:
    code, output, errors = ran(space, "logs", "qwen", *arguments)
    assert (code, output, len(errors.splitlines())) == (2, "", 1)
    assert said in errors


def test_an_object_without_pods(space: FakeCluster) -> None:
    pods(space)
    assert ran(space, "logs", "qwen") == (2, "", "kubectl llm logs: qwen has no pods; see kubectl llm status qwen\n")


def test_pods_without_a_log_hide_none_that_has_one(space: FakeCluster) -> None:
    """One waits for a GPU, and one has not restarted."""
    pods(space, "qwen-0", "qwen-1")
    said = {"kind": "Status", "code": 400, "message": 'container "engine" in pod "qwen-0" is waiting to start'}
    space.answers[f"{PODS}/qwen-0/log"] = said
    code, output, errors = ran(space, "logs", "qwen")
    assert code == 0
    assert "Started server process qwen-1" in output
    assert errors.startswith("kubectl llm logs: qwen-0 has no log yet: container")
    never = 'previous terminated container "engine" in pod "qwen-0" not found'
    space.answers[f"{PODS}/qwen-0/log"] = {**said, "message": never}
    code, output, errors = ran(space, "logs", "qwen", "--previous")
    assert (code, "Started server process qwen-1" in output) == (0, True)
    assert errors == "kubectl llm logs: qwen-0 has not restarted: leave --previous out\n"
    pods(space, "qwen-0")
    assert ran(space, "logs", "qwen", "--previous") == (2, "", errors)
