"""Reading an HTTP answer without taking more than one can hold."""

from __future__ import annotations

import aiohttp

UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError)
"""What a request raises whose answer does not come, or breaks off."""


class TooLongError(Exception):
    """The answer is longer than anything that was expected; the message says how long."""


async def read_at_most(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body of an answer.

    Args:
        answer: whose headers have come.
        limit: most bytes, decompressed.

    Raises:
        TooLongError: there are more; the connection is closed.
        aiohttp.ClientError: the connection broke.
    """
    read = bytearray()
    async for chunk in answer.content.iter_any():
        read += chunk
        if len(read) > limit:
            answer.close()
            raise TooLongError(f"an answer of more than {limit:,} bytes")
    answer.release()
    return bytes(read)
