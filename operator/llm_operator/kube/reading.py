"""Reading an HTTP answer without taking more than one can hold."""

from __future__ import annotations

import aiohttp

UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError)
"""What a request raises whose answer does not come, or breaks off."""


PAGE_VALUES = 2_000_000
"""Most values of a page of several objects: parsed, they take up to 300 MiB."""


class TooLongError(Exception):
    """The answer is longer than anything that was expected; the message says how long."""


def check_values(text: bytes) -> None:
    """Whether the memory suffices to parse a page of a list: three bytes of JSON take up to seventy.

    Raises:
        TooLongError: there are too many values; the page is to be requested with fewer objects.
    """
    if text.count(b",") + text.count(b"{") + text.count(b"[") > PAGE_VALUES:
        raise TooLongError(f"an answer of more than {PAGE_VALUES:,} values")


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
