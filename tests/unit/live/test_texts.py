import json

from hypothesis import given
from hypothesis import strategies as st

from llm_operator.engines import guard
from llm_operator.live.texts import shrunk, whole


@given(st.text())
def test_a_text_is_the_same_after_it_was_compressed(text: str) -> None:
    assert whole(shrunk(text)) == text
    assert whole(shrunk(shrunk(text))) == text
    assert whole(text) == text


def test_what_every_pod_template_holds_takes_next_to_nothing() -> None:
    text = json.dumps({"metadata": {"annotations": {"guard": guard.source()}}})
    assert len(shrunk(text)) < len(text) / 20
