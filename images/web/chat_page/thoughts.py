"""A reasoning model's thoughts, separated from its answer. Pure."""

from __future__ import annotations

OPEN = "<think>"
CLOSE = "</think>"


def split(text: str) -> tuple[str, str]:
    """Thoughts and answer in the text of a message so far.

    Thoughts stand at the beginning, between `<think>` and `</think>`. The chat templates of some models (QwQ,
    DeepSeek-R1) write the opening tag themselves, so that only the closing one arrives: what stands before it was
    thought. The tag anywhere else is text, such as an answer about the tag. A tag that has arrived in part is not
    shown yet.
    """
    start = text.lstrip()
    if start.startswith(OPEN):
        thought, closed, answer = start.removeprefix(OPEN).partition(CLOSE)
        if closed:
            return thought.strip(), answer.lstrip()
        return _without_part(thought, 1).strip(), ""
    if start and OPEN.startswith(start):
        return "", ""
    thought, closed, answer = start.partition(CLOSE)
    if closed and OPEN not in thought and "`" not in thought[-3:]:
        return thought.strip(), answer.lstrip()
    # A lone `<` at the end of an answer is text until proven otherwise.
    return "", _without_part(text, 2)


def _without_part(text: str, shortest: int) -> str:
    """A text without the beginning of a closing tag at its end."""
    for length in range(len(CLOSE) - 1, shortest - 1, -1):
        if text.endswith(CLOSE[:length]):
            return text[:-length]
    return text
