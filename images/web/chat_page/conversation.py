"""A conversation between the page's messages and the API's. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chat_page import thoughts

NOTICE = "notice"
"""Id of a message by which the page itself speaks."""
WHOLE = ("", "stop", "tool_calls", "function_call")
"""Why an answer ends that is complete."""
Message = dict[str, Any]


def to_api(system: str, history: Sequence[Mapping[str, Any]], question: str) -> list[dict[str, str]]:
    """What is sent: no thoughts, no notices, and no question that stayed without an answer."""
    said: list[dict[str, str]] = []
    for message in history:
        metadata = message.get("metadata") or {}
        if metadata.get("title") or metadata.get("id") == NOTICE:
            continue
        text = text_of(message.get("content"))
        if message["role"] == "user" and said and said[-1]["role"] == "user":
            said.pop()
        if text.strip():
            said.append({"role": str(message["role"]), "content": text})
    if said and said[-1]["role"] == "user":
        said.pop()
    if system.strip():
        said.insert(0, {"role": "system", "content": system.strip()})
    return [*said, {"role": "user", "content": question}]


def text_of(content: Any) -> str:
    """The text of a message's content, which is a text or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return str(content.get("text") or "")
    if isinstance(content, Sequence):
        return "".join(text_of(part) for part in content)
    return ""


@dataclass(slots=True)
class Draft:
    """An answer so far."""

    thought: str = ""
    """What the engine itself marked as thoughts."""
    text: str = ""
    """The answer's text, perhaps with thoughts between tags."""
    finish: str = ""
    """Why it ended; empty until then."""
    began: float | None = None
    thought_seconds: float | None = None
    """How long the thoughts took; None while they go on."""

    def add(self, thought: str, text: str, now: float) -> None:
        """What the engine sent at a time in seconds."""
        self.thought += thought
        self.text += text
        if self.began is None and (thought or text):
            self.began = now
        if self.thought_seconds is None and self.began is not None and thoughts.split(self.text)[1]:
            self.thought_seconds = now - self.began

    def shown(self, *, done: bool = False) -> list[Message]:
        """The messages that show it: thoughts, folded when they have ended, then the answer."""
        inner, answer = thoughts.split(self.text)
        thought = "\n\n".join(part for part in (self.thought.strip(), inner) if part)
        messages: list[Message] = []
        if thought:
            over = done or bool(answer)
            metadata: Message = {"title": "Thoughts" if over else "Thinking …", "status": "done" if over else "pending"}
            if over and self.thought_seconds is not None:
                metadata["duration"] = round(self.thought_seconds, 1)
            messages.append({"role": "assistant", "content": thought, "metadata": metadata})
        if answer:
            messages.append({"role": "assistant", "content": answer})
        return messages


def ending(draft: Draft, limit: int) -> list[Message]:
    """What the page adds to an answer that ended.

    Args:
        draft: the answer.
        limit: the most tokens that it could have.
    """
    text = _ended(draft, limit)
    return [notice(text)] if text else []


def _ended(draft: Draft, limit: int) -> str:
    early = {
        "length": f"{limit:,} tokens is its limit. See Settings.",
        "context": "the model's context is full. Reload the page to begin a new conversation.",
        "content_filter": "the engine's filter stopped it.",
    }
    if draft.finish not in WHOLE:
        why = early.get(draft.finish) or f"the engine ended it ({draft.finish[:40]}). Try again."
        return f"The answer ends here: {why}"
    shown = draft.shown(done=True)
    if not shown:
        return "The engine gave an empty answer."
    if shown[-1].get("metadata"):
        return "The model ended after its thoughts, without an answer. Ask again, or more simply."
    return ""


def waiting(seconds: float) -> Message:
    """What is shown until the first token."""
    title = "Waiting for the first token …" if seconds < 3 else f"Waiting for the first token … {seconds:.0f} s"
    return {"role": "assistant", "content": "", "metadata": {"title": title, "status": "pending"}}


def notice(text: str) -> Message:
    """A sentence of the page itself."""
    # A quote alone: the style sheet gives it a colour, so that it does not look like the model's words.
    return {"role": "assistant", "content": f"> {text}", "metadata": {"id": NOTICE}}
