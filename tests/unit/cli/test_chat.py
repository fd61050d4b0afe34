"""`kubectl llm chat` against a stand-in for the API server and the engine behind its proxy, in a pseudo-terminal too.

Proxy and port-forward are tested with both engines on the full node (tests/e2e/test_serving.py).
"""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.fake_cluster import FakeCluster, Terminal, available, llm, ran


@pytest.fixture
def space(tmp_path: Path) -> Iterator[FakeCluster]:
    made = FakeCluster(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_one_question_through_the_proxy(space: FakeCluster) -> None:
    code, output, errors = ran(space, "chat", "qwen", "-m", "hi", "--system", "be short", "--max-tokens", "5")
    assert (code, output, errors) == (0, "Hello \\x1b[2Jworld\n", "")
    (asked,) = space.asked
    system, question = {"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}
    assert asked == {
        **{"model": "m", "stream": True, "max_tokens": 5, "messages": [system, question]},
        "stream_options": {"include_usage": True},
    }


def test_a_question_from_standard_input(space: FakeCluster) -> None:
    assert ran(space, "chat", "qwen", stdin="from a pipe\n")[0] == 0
    assert space.asked[0]["messages"] == [{"role": "user", "content": "from a pipe"}]
    assert ran(space, "chat", "qwen") == (
        *(2, ""),
        "kubectl llm chat: there is no question: give -m, or write it to standard input\n",
    )


def test_thoughts_are_shown_apart(space: FakeCluster) -> None:
    assert ran(space, "chat", "qwen", "-m", "think")[1] == "\n[thinks] hm\n[answers] Hello \\x1b[2Jworld\n"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("broken", "qwen stopped with an error: out of memory"),
        ("refuse", "cannot ask qwen: 400 the prompt is too long"),
        ("cut", "qwen broke off in the middle of the answer: the engine may have restarted; ask again"),
    ],
)
def test_an_answer_that_goes_wrong_is_one_sentence(space: FakeCluster, question: str, said: str) -> None:
    code, _, errors = ran(space, "chat", "qwen", "-m", question)
    assert (code, errors) == (2, f"kubectl llm chat: {said}\n")


def test_what_cannot_be_talked_to_is_said(space: FakeCluster) -> None:
    code, _, errors = ran(space, "chat", "qwn", "-m", "hi")
    assert code == 2
    assert errors == ("kubectl llm chat: there is no LLMDeployment 'qwn' in namespace team; did you mean qwen?\n")
    space.objects["qwen"] = llm("qwen", **available("False", "NoReadyReplica"))
    assert "qwen does not serve: NoReadyReplica" in ran(space, "chat", "qwen", "-m", "hi")[2]


SECRET = "/api/v1/namespaces/team/secrets/keys"
PODS = "/api/v1/namespaces/team/pods"


@pytest.fixture
def keyed(space: FakeCluster) -> FakeCluster:
    """An object with an API key, and its one pod."""
    space.objects["qwen"] = llm("qwen", spec={"engine": {"apiKey": {"name": "keys", "key": "qwen"}}})
    space.key = "sk-one"
    space.answers[SECRET] = {"data": {"qwen": base64.b64encode(b"sk-one").decode()}}
    pod = {
        "metadata": {"name": "qwen-1"},
        "spec": {"containers": [{"name": "engine", "ports": [{"name": "http", "containerPort": 8000}]}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    space.answers[PODS] = {"items": [pod], "metadata": {}}
    return space


def test_the_api_key_of_the_objects_secret_reaches_the_engine_by_a_port_forward(keyed: FakeCluster) -> None:
    code, output, errors = ran(keyed, "chat", "qwen", "-m", "hi")
    assert (code, output, errors) == (0, "Hello \\x1b[2Jworld\n", "")
    assert set(keyed.keys) == {"Bearer sk-one"}
    assert set(keyed.forwarded) == {f"{PODS}/qwen-1/portforward?ports=8000"}


def test_a_long_question_and_a_long_answer_pass_a_port_forward(keyed: FakeCluster) -> None:
    question = "word " * 13_000
    assert ran(keyed, "chat", "qwen", stdin=question)[0] == 0
    assert keyed.asked[0]["messages"][0]["content"] == question.strip()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"code": 403, "message": "no"},
            "which you may not read in namespace team: request that right, or set LLM_API",
        ),
        ({"code": 404, "message": "no"}, "the Secret keys, which holds the API key of qwen, does not exist: create it"),
        ({"data": {"other": "eA=="}}, "the Secret keys has no key 'qwen'; see spec.engine.apiKey"),
        ({"data": {"qwen": "eA"}}, "the key 'qwen' of the Secret keys is not text"),
        ({"data": {"qwen": "c2sKCg=="}}, "the Secret keys holds an API key that no HTTP header can hold"),
        ({"data": {"qwen": "c2stdHdv"}}, "qwen refuses the API key of the Secret keys; if the Secret changed after"),
    ],
)
def test_a_key_that_cannot_be_used_is_one_sentence(keyed: FakeCluster, answer: dict[str, Any], said: str) -> None:
    keyed.answers[SECRET] = answer
    code, output, errors = ran(keyed, "chat", "qwen", "-m", "hi")
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert said in errors


def test_a_key_of_the_environment(keyed: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    keyed.answers[SECRET] = {"code": 403, "message": "no"}
    monkeypatch.setenv("LLM_API_KEY", "sk-one")
    assert ran(keyed, "chat", "qwen", "-m", "hi")[0] == 0
    monkeypatch.setenv("LLM_API_KEY", "sk-two")
    assert "refuses the API key of the environment variable LLM_API_KEY" in ran(keyed, "chat", "qwen", "-m", "hi")[2]


def test_a_port_forward_that_is_refused_or_fails_is_one_sentence(keyed: FakeCluster) -> None:
    keyed.forward_error = "connection refused"
    assert ran(keyed, "chat", "qwen", "-m", "hi") == (
        *(2, ""),
        "kubectl llm chat: qwen does not answer through a port-forward: connection refused\n",
    )
    keyed.answers[PODS] = {"items": [], "metadata": {}}
    assert "qwen has no ready pod" in ran(keyed, "chat", "qwen", "-m", "hi")[2]


def test_a_port_forward_without_a_key(keyed: FakeCluster) -> None:
    keyed.objects["qwen"] = llm("qwen")
    keyed.key = None
    assert ran(keyed, "chat", "qwen", "-m", "hi", "--port-forward")[0] == 0
    assert keyed.keys == keyed.expected == [None]


def test_a_conversation_on_a_terminal(space: FakeCluster, tmp_path: Path) -> None:
    terminal = Terminal(space, "chat", "qwen")
    terminal.until("> ")
    terminal.say("/system be kind\n")
    terminal.until("System prompt set.")
    terminal.until("> ")
    terminal.say("one \\\ntwo\n")
    terminal.until("world")
    terminal.until("first after")
    terminal.until("> ")
    terminal.say("endless\n")
    terminal.until("again again")
    terminal.say("\x03")
    terminal.until("[stopped]")
    assert space.closed.wait(30), "the engine was not told that nobody listens"
    terminal.until("> ")
    terminal.say(f"/save {tmp_path / 'talk.json'}\n")
    terminal.until("Saved to")
    terminal.until("> ")
    terminal.say("broken\n")
    terminal.until("qwen stopped with an error: out of memory")
    terminal.until("> ")
    terminal.say("/reset\n")
    terminal.until("starts again")
    terminal.until("> ")
    terminal.say("hi\n")
    terminal.until("first after")
    terminal.until("> ")
    terminal.say("/reset\n")
    terminal.until("starts again")
    terminal.until("> ")
    terminal.say("/etc/passwd: what is it?\n")
    terminal.until("there is no command /etc/passwd:")
    terminal.until("> ")
    terminal.say("/save\n")
    terminal.until("/save needs the name of a file")
    terminal.until("> ")
    terminal.say(" /etc/passwd: what is it?\n")
    terminal.until("first after")
    assert space.asked[-1]["messages"][-1]["content"] == "/etc/passwd: what is it?"
    terminal.until("> ")
    terminal.say("/reset\n")
    terminal.until("starts again")
    terminal.until("> ")
    terminal.say("hi\n")
    terminal.until("first after")
    terminal.until("> ")
    terminal.say("/reset\n")
    terminal.until("starts again")
    terminal.until("> ")
    # Two lines up in the history: the question again.
    terminal.say("\x1b[A\x1b[A\n")
    terminal.until("first after")
    terminal.until("> ")
    terminal.say("\x04")
    assert terminal.ended() == 0
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert [entry["role"] for entry in saved] == ["system", "user", "assistant", "user", "assistant"]
    assert saved[1]["content"] == "one \ntwo"
    assert saved[4]["content"].startswith("Hello \x1b[2Jworldagain ")
    assert space.asked[-1]["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
    ]


def test_a_terminal_that_goes_away_ends_the_command(space: FakeCluster) -> None:
    terminal = Terminal(space, "chat", "qwen")
    terminal.until("> ")
    os.kill(terminal.child, signal.SIGHUP)
    assert terminal.ended() != 0
