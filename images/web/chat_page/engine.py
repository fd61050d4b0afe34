"""The engine behind the page: what it serves, and its answers as they stream."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import openai

from chat_page.settings import Settings

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 1800.0
"""A long prompt on a busy engine waits long for its first token: that isn't an error."""
LOOK_SECONDS = 5.0
DETAIL_LIMIT = 300
TEMPLATE_TOKENS, MESSAGE_TOKENS = 256, 32
"""More than a chat template adds to a conversation, and to each message."""


class EngineError(Exception):
    """Why there is no answer, in one sentence for the person at the page."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the engine says of the model that it serves."""

    model: str
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer, as it streams."""

    thought: str = ""
    text: str = ""
    finish: str = ""
    """Why the answer ended: `stop`, `length` (its own limit), `context` (that is full); empty until it has ended."""


class Engine:
    """A client of one OpenAI-compatible API."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # The client wants a key; an engine without one looks at none.
        self._client = openai.AsyncOpenAI(
            base_url=settings.api,
            api_key=settings.api_key or "none",
            max_retries=0,
            timeout=openai.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        )

    async def look(self) -> Served:
        """What the engine serves now.

        Raises:
            EngineError: it doesn't answer, or refuses.
        """
        try:
            models = await self._client.with_options(timeout=LOOK_SECONDS).models.list()
        except Exception as error:
            raise self._explained(error) from error
        served = {model.id: model for model in models.data}
        if not served:
            raise EngineError("The engine answers, but serves no model.")
        name = self._settings.model or next(iter(served))
        if name not in served:
            raise EngineError(f"The engine serves {', '.join(served)[:DETAIL_LIMIT]}, not {name}.")
        # vLLM reports its context as max_model_len (0.33.0, entrypoints/openai/models/protocol.py).
        context = getattr(served[name], "max_model_len", None)
        return Served(name, context if isinstance(context, int) else None)

    async def answer(
        self,
        messages: Sequence[dict[str, str]],
        model: str,
        temperature: float,
        tokens: int,
        context: int | None = None,
    ) -> AsyncGenerator[Piece, None]:
        """Stream the answer to a conversation; to close the iterator stops the engine too.

        Args:
            messages: the conversation.
            model: its name at the engine.
            temperature: 0 to 2.
            tokens: the longest answer.
            context: tokens of conversation and answer together, at most; None: not known.

        Raises:
            EngineError: there is no answer, or it broke off.
        """
        begun = ended = False
        # vLLM refuses a limit that may go beyond the context; without one, the answer may fill it.
        limited = context is None or fits(messages, tokens, context)
        came = 0
        try:
            stream = await self._client.chat.completions.create(
                model=model,
                messages=list(messages),
                temperature=temperature,
                max_tokens=tokens if limited else openai.omit,
                stream=True,
            )
            async with stream:
                async for chunk in stream:
                    piece = _piece(chunk)
                    begun = begun or bool(piece.text or piece.thought)
                    ended = ended or bool(piece.finish)
                    came += bool(piece.text or piece.thought)
                    if not limited and piece.finish == "length":
                        piece = replace(piece, finish="context")
                    yield piece
                    if not limited and not ended and came >= tokens:
                        yield Piece(finish="length")
                        return
        except Exception as error:
            raise self._explained(error, begun=begun) from error
        if not ended:
            raise EngineError("The answer broke off: the engine closed the connection. Try again.")

    def _explained(self, error: Exception, *, begun: bool = False) -> EngineError:
        """An error as one sentence."""
        if begun and isinstance(error, (httpx.HTTPError, openai.APIConnectionError)):
            return EngineError("The answer broke off: the connection to the engine was lost. Try again.")
        if isinstance(error, (openai.APITimeoutError, TimeoutError)):
            return EngineError("The engine doesn't answer in time: it may be busy or still starting. Try again later.")
        if isinstance(error, (openai.APIConnectionError, httpx.HTTPError, OSError)):
            return EngineError(
                f"The engine can't be reached at {self._settings.api}: it may still be starting, or be stopped."
            )
        if isinstance(error, openai.APIStatusError):
            return EngineError(_status_sentence(error, has_key=bool(self._settings.api_key)))
        if isinstance(error, (openai.APIError, ValueError)):
            return EngineError(f"The engine reports an error: {_detail(error)}")
        return EngineError(f"The page has a fault: {type(error).__name__}. Its log says more.")


def fits(messages: Sequence[dict[str, str]], tokens: int, context: int) -> bool:
    """Whether an answer of so many tokens certainly fits behind a conversation: no token is less than a byte."""
    prompt = sum(len(message["content"].encode()) + MESSAGE_TOKENS for message in messages)
    return TEMPLATE_TOKENS + prompt + tokens <= context


def _status_sentence(error: openai.APIStatusError, *, has_key: bool) -> str:
    status, detail = error.status_code, _detail(error)
    if status in (401, 403):
        if has_key:
            return "The engine refuses this page's API key: check that the page and the engine use the same Secret."
        return "The engine wants an API key, and this page has none: start it with the engine's key."
    if status == 404:
        return f"The engine doesn't know what the page requests: {detail}"
    if status in (400, 413, 422):
        return f"The engine refuses the request: {detail}"
    if status in {429, 503}:
        return "The engine takes no more requests now: try again in a moment."
    return f"The engine failed with HTTP {status}: {detail.rstrip('.')}. Try again in a moment."


def _detail(error: Exception) -> str:
    """What the server says of its error, in one line."""
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        message: Any = body.get("message") or body.get("detail") or body.get("error") or json.dumps(body)
    else:
        message = body or getattr(error, "message", "") or error
    line = " ".join(str(message).split())
    return line if len(line) <= DETAIL_LIMIT else line[: DETAIL_LIMIT - 1] + "…"


def _piece(chunk: Any) -> Piece:
    """One event of the stream. LMDeploy calls thoughts `reasoning_content`, vLLM since 0.12 `reasoning`."""
    if not chunk.choices:
        return Piece()
    choice = chunk.choices[0]
    delta = choice.delta
    thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
    return Piece(
        thought=_text(thought),
        text=_text(delta.content) + _text(getattr(delta, "refusal", None)) + _calls(delta),
        finish=choice.finish_reason or "",
    )


def _text(value: Any) -> str:
    """A text, or that of a list of parts."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) if isinstance(part, dict) else _text(part) for part in value)
    return value if isinstance(value, str) else ""


def _calls(delta: Any) -> str:
    """Calls of tools, which this page cannot make: they are shown."""
    calls = getattr(delta, "tool_calls", None)
    functions = [getattr(call, "function", None) for call in calls] if isinstance(calls, list) else []
    return "".join(
        (f"\n\n`{function.name}` " if _text(function.name) else "") + _text(function.arguments)
        for function in functions
        if function is not None
    )
