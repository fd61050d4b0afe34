"""What kopf and the watches of children read instead of an unchecked answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp
from pydantic_core import to_json

JSON = dict[str, Any]

GONE: JSON = {
    "type": "ERROR",
    "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "list again"},
}
"""The event that makes a watch begin with a list again."""
Event = tuple[JSON, bytes]
"""An event of a watch, and its line as it came; empty if it was made here."""


class CheckedAnswer(aiohttp.ClientResponse):
    """An answer whose JSON was read and checked before anything else receives it."""

    checked: Any = None

    async def json(self, **_: Any) -> Any:
        """The checked value; of a refusal, what it says."""
        return await super().json() if self.checked is None else self.checked


class Events:
    """The checked events of a watch. It replaces `ClientResponse.content`, of which kopf uses one method."""

    def __init__(self, content: aiohttp.StreamReader, events: AsyncGenerator[Event]) -> None:
        self._content = content
        self.events = events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        """One event after the other, each with its end of line."""
        async for event, line in self.events:
            yield (line or to_json(event)) + b"\n"


async def only(event: Event) -> AsyncGenerator[Event]:
    """Yield one event."""
    yield event
