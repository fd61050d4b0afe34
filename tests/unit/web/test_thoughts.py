from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_page.thoughts import split


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("It is 4.", "", "It is 4."),
        ("<think>four?</think>It is 4.", "four?", "It is 4."),
        ("\n<think>\nfour?\n</think>\n\nIt is 4.", "four?", "It is 4."),
        ("<think>four", "four", ""),
        ("<think>four?</thi", "four?", ""),
        ("<th", "", ""),
        ("four?</think>It is 4.", "four?", "It is 4."),
        ("<think></think>It is 4.", "", "It is 4."),
        ("The tag `</think>` ends thoughts.", "", "The tag `</think>` ends thoughts."),
        ("A tag <think> in the text", "", "A tag <think> in the text"),
        ("a < b", "", "a < b"),
        ("<thing>", "", "<thing>"),
        ("", "", ""),
    ],
)
def test_thoughts_and_answer(text: str, thought: str, answer: str) -> None:
    assert split(text) == (thought, answer)


@given(
    thought=st.text(st.characters(exclude_characters="<>`"), min_size=1).filter(str.strip),
    answer=st.text(st.characters(exclude_characters="<>`")),
)
def test_while_it_streams_no_thought_is_shown_as_answer(thought: str, answer: str) -> None:
    text = f"<think>{thought}</think>{answer}"
    for end in range(len(text) + 1):
        seen_thought, seen_answer = split(text[:end])
        assert answer.lstrip().startswith(seen_answer)
        assert thought.strip().startswith(seen_thought)
    assert split(text) == (thought.strip(), answer.lstrip())
