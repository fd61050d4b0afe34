"""The event loop of the process's threads."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

import uvloop

CLOSED = "the handler is closed"
"""What uvloop 0.22 says of data that comes for a connection which was closed a moment before (handles/handle.pyx)."""
UNSTOPPED = "generator didn't stop after athrow"
"""What the loop meets in a watch of kopf 1.45.2 that it closes at its end (clients/watching.py, streaming_block)."""

log = logging.getLogger("llm_operator.connections")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, with `tell` for what no task awaits."""
    loop = uvloop.new_event_loop()
    loop.set_exception_handler(tell)
    return loop


def tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log a connection's end in one line; anything else as asyncio does, with its traceback.

    Anyone who reads from or writes to the connection gets its own error, so nothing is lost.
    """
    error = context.get("exception")
    if context.get("asyncgen") is not None and UNSTOPPED in str(error):
        log.info("a watch was still open when the process ended")
        return
    if isinstance(error, ConnectionError | ssl.SSLError) or (isinstance(error, RuntimeError) and CLOSED in str(error)):
        log.info("a connection ended: %s", str(error)[:300] or type(error).__name__)
        return
    loop.default_exception_handler(context)
