"""`kubectl llm chat` against a stand-in for the API server and the engine behind its proxy, in a pseudo-terminal too.

Proxy and port-forward are tested with both engines on the full node (tests/e2e/test_serving.py).
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_operator.cli.chat import Answer
from llm_operator.cli.serving import pieces
from llm_operator.cli.thoughts import Thoughts
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


THOUGHTS: list[list[dict[str, Any]]] = [
    [{"reasoning_content": "hm"}, {"reasoning_content": " so"}, {"content": "Yes."}],
    [{"reasoning": "hm"}, {"reasoning": " so"}, {"content": "Yes."}],
    [{"reasoning_content": "hm so", "reasoning": "hm so"}, {"content": "Yes."}],
    [{"content": "<thi"}, {"content": "nk>\n"}, {"content": "hm so</"}, {"content": "think>"}, {"content": "\n\nYes."}],
]


class Screen(io.StringIO):
    """A terminal in memory."""

    def isatty(self) -> bool:
        return True


def shown(deltas: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """What a terminal shows of an answer, and what stays of it in the conversation."""
    screen, answer = Screen(), Answer()
    monkeypatch.setattr(sys, "stdout", screen)
    for delta in deltas:
        for piece in pieces(json.dumps({"choices": [{"delta": delta}]}).encode(), "qwen"):
            answer.take(piece)
    answer.close()
    monkeypatch.undo()
    return screen.getvalue(), answer.text


@pytest.mark.parametrize("deltas", THOUGHTS, ids=["reasoning_content", "reasoning", "both", "tags"])
def test_thoughts_are_shown_apart(deltas: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(deltas, monkeypatch) == ("[thinks] hm so\n[answers] Yes.\n", "Yes.")


def test_a_script_gets_the_answer_alone(space: FakeCluster) -> None:
    space.deltas = THOUGHTS[-1]
    assert ran(space, "chat", "qwen", "-m", "2 + 2?") == (0, "Yes.\n", "[thinks] hm so\n")


@given(st.lists(st.sampled_from(["<think>", "</think>", "</thi", "nk>", "<", "`", "a", " ", "\n"]), max_size=12))
def test_no_text_is_lost_between_tags(parts: list[str]) -> None:
    """However the stream is cut."""
    at_once, in_parts = separated(["".join(parts)]), separated(parts)
    assert at_once == in_parts
    assert "".join("".join(in_parts).split()) == "".join(without_tags("".join(parts).lstrip()).split())


def separated(parts: list[str]) -> tuple[str, str]:
    """Thoughts and answer of a text that comes in parts, without blanks at their ends."""
    tags = Thoughts()
    told = [*(piece for part in parts for piece in tags.add(part)), *tags.end()]
    thought, answer = ("".join(text for text, of in told if of is kind).rstrip() for kind in (True, False))
    return thought, answer


def without_tags(text: str) -> str:
    """As `separated` leaves tags out: one at the beginning, and the first closing one that is not quoted."""
    opened = text.startswith("<think>")
    text = text.removeprefix("<think>")
    before, closed, after = text.partition("</think>")
    return before + after if closed and (opened or "`" not in before[-3:]) else text


@pytest.mark.parametrize(
    ("deltas", "screen", "kept"),
    [
        ([{"content": "hm so</think>\n\nYes."}], "hm so\n[answers] Yes.", "Yes."),
        ([{"content": "The tag `</think>` ends them."}], "The tag `</think>` ends them.", None),
        ([{"content": "a <"}, {"content": " b"}], "a < b", None),
        ([{"content": "ends with </th"}], "ends with </th", None),
        ([{"content": "<think>only thoughts"}], "[thinks] only thoughts", ""),
        ([{"content": [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]}], "in parts", None),
        ([{"refusal": "I can't help with that."}], "I can't help with that.", None),
        (
            [
                {"tool_calls": [{"index": 0, "function": {"name": "weather", "arguments": '{"city": '}}]},
                {"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]},
            ],
            '[calls] weather {"city": "Oslo"}',
            "",
        ),
        ([{"content": "one\r\ntwo\rthree"}], "one\ntwothree", "one\r\ntwo\rthree"),
        (
            [{"content": "你好\u3000\u00a0👩\u200d💻 \u202e\u009b\x1b"}],
            "你好\u3000\u00a0👩\u200d💻 \\u202e\\x9b\\x1b",
            "你好\u3000\u00a0👩\u200d💻 \u202e\u009b\x1b",
        ),
        ([{"content": "w" * 100_000}], "w" * 100_000, None),
        ([{"content": 5, "tool_calls": [None, {"function": 3}], "reasoning": {}}, {"content": "ok"}], "ok", None),
    ],
)
def test_what_an_engine_may_send(
    deltas: list[dict[str, Any]], screen: str, kept: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(deltas, monkeypatch) == (f"{screen}\n", screen if kept is None else kept)


def test_late_thoughts_do_not_stay_in_the_conversation(space: FakeCluster) -> None:
    space.deltas = [{"content": "hm "}, {"content": "so</think>"}, {"content": "\n\nYes."}]
    terminal = Terminal(space, "chat", "qwen")
    for question in ("2 + 2?", "Sure?"):
        terminal.until("> ")
        terminal.say(f"{question}\n")
        terminal.until("first after")
    terminal.until("> ")
    terminal.say("exit\n")
    assert terminal.ended() == 0
    assert space.asked[1]["messages"] == [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Sure?"},
    ]


FULL = "the model's context is full; begin a new one, or shorten the question"


@pytest.mark.parametrize(
    ("finish", "options", "code", "said"),
    [
        ("stop", (), 0, ""),
        ("length", ("--max-tokens", "1000"), 0, "the answer ends here: --max-tokens is 1,000"),
        (
            "length",
            (),
            0,
            "the answer ends here: the model's context is full; begin a new one, or shorten the question",
        ),
        ("content_filter", (), 0, "the answer ends here: the engine's filter stopped it"),
        ("abort", (), 2, "qwen ended the answer: abort; kubectl llm logs qwen may say why"),
        ("error", (), 2, "qwen ended the answer: error; kubectl llm logs qwen may say why"),
    ],
)
def test_why_an_answer_ended_is_said(
    space: FakeCluster, finish: str, options: tuple[str, ...], code: int, said: str
) -> None:
    space.finish = finish
    assert ran(space, "chat", "qwen", "-m", "hi", *options) == (
        *(code, "Hello \\x1b[2Jworld\n"),
        f"kubectl llm chat: {said}\n" if said else "",
    )


def test_an_empty_answer_is_said(space: FakeCluster) -> None:
    space.deltas = []
    assert ran(space, "chat", "qwen", "-m", "hi") == (0, "", "kubectl llm chat: qwen gave an empty answer\n")


@pytest.mark.parametrize(
    "delta", [{"reasoning_content": "hm"}, {"content": "<think>hm"}, {"content": "<think>hm</think>\n"}]
)
def test_thoughts_without_an_answer_are_said(space: FakeCluster, delta: dict[str, str]) -> None:
    """A script would see an empty answer and no error."""
    space.deltas = [delta]
    code, output, errors = ran(space, "chat", "qwen", "-m", "hi")
    assert (code, output.strip()) == (0, "")
    assert errors.endswith("kubectl llm chat: qwen ended after its thoughts, without an answer\n")


NO_TEXT = "is not UTF-8 text: convert it, such as with iconv -t UTF-8"


@pytest.mark.parametrize("variables", [{"LC_ALL": "C"}, {"PYTHONUTF8": "0", "LC_ALL": "C.UTF-8"}], ids=str)
def test_what_is_not_text_is_one_sentence(space: FakeCluster, variables: dict[str, str]) -> None:
    """Python reads a strict and a lenient locale in two ways."""
    for said, stdin, arguments in (
        ("standard input", b"caf\xe9", ()),
        ("standard input", "hi".encode("utf-16-le"), ()),
        ("--message", b"", ("-m", "caf\udce9")),
        ("--system", b"", ("-m", "hi", "--system", "caf\udce9")),
    ):
        code, output, errors = ran(space, "chat", "qwen", *arguments, stdin=stdin, **variables)
        assert (code, output, errors) == (2, "", f"kubectl llm chat: {said} {NO_TEXT}\n")
    assert space.asked == []


def test_typed_bytes_that_are_not_text_leave_the_conversation_open(space: FakeCluster) -> None:
    terminal = Terminal(space, "chat", "qwen", LC_ALL="C")
    terminal.until("> ")
    os.write(terminal.descriptor, b"caf\xe9\n")
    terminal.until(NO_TEXT)
    terminal.until("> ")
    terminal.say("hi\n")
    terminal.until("first after")
    terminal.until("> ")
    terminal.say("/bye\n")
    assert terminal.ended() == 0


def test_questions_of_windows_and_of_a_byte_order_mark(space: FakeCluster) -> None:
    assert ran(space, "chat", "qwen", stdin=b"\xef\xbb\xbfone\r\ntwo\r\n")[0] == 0
    assert space.asked[0]["messages"][0]["content"] == "one\ntwo"


def test_a_question_that_is_too_long_is_refused_not_cut(space: FakeCluster) -> None:
    code, _, errors = ran(space, "chat", "qwen", stdin="x" * ((4 << 20) + 1))
    assert (code, errors) == (2, "kubectl llm chat: the question on standard input is longer than 4 MiB\n")


def test_a_terminal_without_unicode_gets_escapes(space: FakeCluster) -> None:
    space.deltas = [{"content": "你好"}]
    assert ran(space, "chat", "qwen", "-m", "hi", PYTHONIOENCODING="ascii")[1] == "\\u4f60\\u597d\n"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-tokens", "0"), ("--max-tokens", "many"), ("--temperature", "nan"), ("--temperature", "-1")],
)
def test_options_that_no_engine_takes(space: FakeCluster, option: str, value: str) -> None:
    code, _, errors = ran(space, "chat", "qwen", "-m", "hi", f"{option}={value}")
    assert (code, errors.count("\n")) == (2, 1)
    assert f"argument {option}: {value!r}: expected a" in errors


def test_an_empty_message_is_no_question(space: FakeCluster) -> None:
    assert "there is no question" in ran(space, "chat", "qwen", "-m", " \n")[2]


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
    (tmp_path / "kept").write_text("of somebody else")
    (tmp_path / "link").symlink_to(tmp_path / "new")
    for name in ("kept", "link"):
        terminal.say(f"/save {tmp_path / name}\n")
        terminal.until("is there already: give another name")
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
    assert (tmp_path / "talk.json").stat().st_mode & 0o777 == 0o600
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
