"""The page: what is on it, and what happens when a user asks, stops or asks again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from chat_page import conversation
from chat_page.conversation import Message
from chat_page.engine import Engine, EngineError, Piece, Served
from chat_page.settings import Settings

STYLE = Path(__file__).with_name("style.css")
FRAME_SECONDS = 0.08
"""Minimum time between two updates of the page: a fast engine sends a token every few milliseconds."""
PAUSE_SECONDS = 0.25
LOOK_AGAIN_SECONDS = 5.0
LONGEST_ANSWER = 1_000_000
QUESTION_CHARACTERS = 2_000_000
SEND, STOP = "Send", "Stop"
"""Words on the buttons: gradio's pictures have no name that a screen reader could say."""
MATHS = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
# Fonts of the person's own machine: a page in a closed network loads none.
THEME = gr.themes.Base(
    primary_hue="teal",
    neutral_hue="slate",
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
)


class Page:
    """The page in front of one engine. Conversations live in the browsers; the page keeps none."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._served: Served | None = None
        self._trouble = ""
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    def blocks(self) -> gr.Blocks:
        """The page's parts and what they do."""
        name = self._settings.model or "Chat"
        with gr.Blocks(title=name, analytics_enabled=False, fill_height=True, fill_width=True) as blocks:
            header = gr.HTML(self._header(), elem_id="header", padding=False)
            banner = gr.HTML("", elem_id="banner", padding=False)
            chatbot = gr.Chatbot(
                elem_id="conversation",
                # Read by screen readers, not shown.
                label="Conversation",
                show_label=False,
                container=False,
                scale=1,
                height=None,
                min_height=160,
                layout="bubble",
                buttons=["copy"],
                allow_tags=False,
                latex_delimiters=MATHS,
                feedback_options=None,
                allow_file_downloads=False,
                placeholder="## Ask something\n\nNothing that you write is kept on the server.",
            )
            question = gr.Textbox(
                elem_id="question",
                label="Question",
                show_label=False,
                container=False,
                autofocus=True,
                lines=1,
                max_lines=8,
                max_length=QUESTION_CHARACTERS,
                placeholder="Enter sends, Shift+Enter begins a new line",
                submit_btn=SEND,
                stop_btn=False,
            )
            with gr.Accordion("Settings", open=False, elem_id="settings"):
                system = gr.Textbox(value="", label="System prompt", lines=2, max_lines=6, elem_id="system")
                with gr.Row():
                    temperature = gr.Slider(
                        0, 2, value=0.7, step=0.05, label="Temperature", info="0: always the likeliest word"
                    )
                    tokens = gr.Number(
                        value=2048, minimum=1, maximum=LONGEST_ANSWER, precision=0, label="Longest answer, in tokens"
                    )
            asking = [chatbot, system, temperature, tokens]
            quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
            streaming: dict[str, Any] = {
                "show_progress": "hidden",
                "api_visibility": "private",
                # Each tab streams for itself; how many at a time is the engine's to say.
                "concurrency_limit": None,
            }
            asked = question.submit(ask, [question, chatbot], [chatbot, question], **quick)
            answered = asked.then(self.answer, asking, [chatbot], **streaming)
            answered.then(settle, [chatbot], [chatbot, question], **quick)
            again = chatbot.retry(ask_again, [chatbot], [chatbot, question], **quick)
            answered_again = again.then(self.answer, asking, [chatbot], **streaming)
            answered_again.then(settle, [chatbot], [chatbot, question], **quick)
            chatbot.undo(take_back, [chatbot], [chatbot, question], **quick)
            question.stop(None, None, None, cancels=[answered, answered_again], api_visibility="private")
            gr.Timer(LOOK_AGAIN_SECONDS).tick(self.look, None, [header, banner], **quick)
            blocks.load(self.look, None, [header, banner], **quick)
        return blocks

    async def answer(
        self, history: list[Message], system: str | None, temperature: float, tokens: float | None
    ) -> AsyncIterator[list[Message]]:
        """Stream the answer to the last question of a conversation."""
        if not history or history[-1]["role"] != "user":
            return
        question = conversation.text_of(history[-1]["content"])
        messages = conversation.to_api(system or "", history[:-1], question)
        limit = int(tokens or 1)
        begin = drawn = time.monotonic()
        draft = conversation.Draft()
        yield [*history, conversation.waiting(0)]
        try:
            model = self._settings.model or (self._served or await self._engine.look()).model
            stream = self._engine.answer(messages, model, temperature, limit, self._context())
            async with aclosing(paced(stream)) as pieces:
                async for piece in pieces:
                    now = time.monotonic()
                    if piece is not None:
                        draft.add(piece.thought, piece.text, now)
                        draft.finish = draft.finish or piece.finish
                    if piece is None or now - drawn >= FRAME_SECONDS:
                        drawn = now
                        yield [*history, *(draft.shown() or [conversation.waiting(now - begin)])]
        except EngineError as error:
            yield [*history, *draft.shown(done=True), conversation.notice(str(error))]
            return
        yield [*history, *draft.shown(done=True), *conversation.ending(draft, limit)]

    async def look(self) -> tuple[str, str]:
        """Header and banner, as the engine is now; many tabs ask the engine once."""
        async with self._looking:
            if time.monotonic() - self._looked_at >= LOOK_AGAIN_SECONDS / 2:
                try:
                    self._served, self._trouble = await self._engine.look(), ""
                except EngineError as error:
                    self._trouble = str(error)
                self._looked_at = time.monotonic()
        banner = f'<div class="trouble" role="status">{escape(self._trouble)}</div>' if self._trouble else ""
        return self._header(), banner

    def _context(self) -> int | None:
        """Tokens of a conversation, at most; None: not known."""
        return self._settings.context or (self._served.context if self._served else None)

    def _header(self) -> str:
        """The model's name, and how it is served; all of it text from outside."""
        settings, served = self._settings, self._served
        name = settings.model or (served.model if served else "Chat")
        context = self._context()
        facts = [
            settings.engine,
            f"KV cache {settings.kv_cache}" if settings.kv_cache else "",
            f"context {context:,} tokens" if context else "",
        ]
        chips = "".join(f'<span class="fact">{escape(fact)}</span>' for fact in facts if fact)
        return f'<h1>{escape(name)}</h1><div class="facts">{chips}</div>'


def ask(question: str | None, history: list[Message]) -> tuple[list[Message], Any]:
    """The question joins the conversation, and the button becomes a stop button."""
    if not question or not question.strip():
        return history, gr.update()
    asked = [*history, {"role": "user", "content": question}]
    return asked, gr.update(value="", submit_btn=False, stop_btn=STOP)


def ask_again(history: list[Message]) -> tuple[list[Message], Any]:
    """The conversation up to its last question, to be answered again."""
    kept = list(history)
    while kept and kept[-1]["role"] != "user":
        kept.pop()
    return kept, gr.update(submit_btn=False, stop_btn=STOP)


def take_back(history: list[Message]) -> tuple[list[Message], Any]:
    """The last question leaves the conversation and comes back into the box."""
    kept, _ = ask_again(history)
    question = conversation.text_of(kept.pop()["content"]) if kept else ""
    return kept, gr.update(value=question)


def settle(history: list[Message]) -> tuple[list[Message], Any]:
    """After an answer, however it ended: nothing is waiting."""
    kept: list[Message] = []
    for message in history:
        metadata = message.get("metadata") or {}
        if metadata.get("status") != "pending":
            kept.append(message)
        elif conversation.text_of(message.get("content")).strip():
            kept.append({**message, "metadata": {"title": "Thoughts", "status": "done"}})
    return kept, gr.update(submit_btn=SEND, stop_btn=False)


async def paced(pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece | None, None]:
    """The pieces, and None while none comes: then the page draws what is left to draw, or that it waits."""
    waiting: asyncio.Future[Piece] | None = None
    try:
        while True:
            # Awaited here, and cancelled in the end.
            waiting = waiting or asyncio.ensure_future(anext(pieces))  # noqa: TID251
            done, _ = await asyncio.wait({waiting}, timeout=PAUSE_SECONDS)
            if not done:
                yield None
                continue
            try:
                piece = waiting.result()
            except StopAsyncIteration:
                return
            waiting = None
            yield piece
    finally:
        if waiting is not None and not waiting.done():
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await pieces.aclose()
