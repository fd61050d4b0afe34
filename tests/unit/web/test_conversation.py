from __future__ import annotations

import pytest

from chat_page.conversation import Draft, Message, ending, notice, text_of, to_api, waiting


def said(role: str, text: str) -> Message:
    return {"role": role, "content": [{"type": "text", "text": text}], "metadata": None}


def test_thoughts_and_notices_are_not_sent() -> None:
    draft = Draft()
    draft.add("hm", "4", 1.0)
    history = [said("user", "2 + 2?"), *draft.shown(done=True), notice("The answer ends here."), waiting(5)]
    assert to_api("", history, "Sure?") == [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "Sure?"},
    ]


def test_questions_without_an_answer_are_not_sent() -> None:
    history = [said("user", "a"), notice("no engine"), said("user", "b"), said("assistant", "B"), said("user", "c")]
    assert to_api(" be brief ", history, "d") == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "d"},
    ]


def test_thoughts_fold_when_the_answer_begins() -> None:
    draft = Draft()
    draft.add("four", "", 10.0)
    (thinking,) = draft.shown()
    assert thinking["metadata"] == {"title": "Thinking …", "status": "pending"}
    draft.add("", "It is", 12.5)
    draft.add("", " 4", 13.0)
    thoughts, answer = draft.shown()
    assert thoughts["metadata"] == {"title": "Thoughts", "status": "done", "duration": 2.5}
    assert answer == {"role": "assistant", "content": "It is 4"}


def test_what_the_engine_and_the_tags_tell_apart_is_one_thought() -> None:
    draft = Draft()
    draft.add("first", "<think>second</think>done", 0.0)
    assert [message["content"] for message in draft.shown(done=True)] == ["first\n\nsecond", "done"]


@pytest.mark.parametrize(
    ("thought", "text", "finish", "said"),
    [
        ("", "4", "stop", ""),
        ("", "4", "", ""),
        ("hm", "4", "stop", ""),
        ("", "`add` {}", "tool_calls", ""),
        ("", "", "stop", "> The engine gave an empty answer."),
        ("hm", "", "stop", "> The model ended after its thoughts"),
        ("", "<think>hm", "stop", "> The model ended after its thoughts"),
        ("", "<think>hm</think> ", "stop", "> The model ended after its thoughts"),
        ("hm", "", "length", "> The answer ends here: 1,000 tokens is its limit"),
        ("", "4", "context", "> The answer ends here: the model's context is full"),
        ("", "4", "content_filter", "> The answer ends here: the engine's filter"),
        ("", "4", "abort", "> The answer ends here: the engine ended it (abort)"),
        ("", "4", "e" * 1000, f"> The answer ends here: the engine ended it ({'e' * 40})"),
    ],
)
def test_how_an_answer_ended_is_said(thought: str, text: str, finish: str, said: str) -> None:
    """Folded thoughts without an answer look like a page that hangs."""
    draft = Draft()
    draft.add(thought, text, 0.0)
    draft.finish = finish
    notices = ending(draft, 1000)
    assert [text_of(message["content"])[: len(said)] for message in notices] == ([said] if said else [])
