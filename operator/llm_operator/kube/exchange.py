"""One request and its answer over aiohttp's connections, without what its session does for each.

aiohttp's pool, TLS, connection errors and parser are used as they are. A session builds URLs, jars of cookies, traces
and a task for each request besides, and follows redirects: half of a request's CPU (aiohttp 3.14.5, 60 us in place of
110), and no API server redirects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from llm_operator.kube.reading import TooLongError

REPEATED = frozenset({"GET", "DELETE"})
"""Sent once more if a connection that was kept open turns out to be closed: a session repeats these, too."""
LAST_INFORMATIONAL = 199


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: bytes
    """Decompressed."""


class Exchange:
    """Requests to one server."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        """Prepare.

        Args:
            session: whose connections are used; it goes through no proxy.
            server: base URL without a trailing slash.
        """
        connector = session.connector
        if connector is None:
            raise RuntimeError("the session is closed")
        self._connector = connector
        self._request = aiohttp.ClientRequest(
            "GET", URL(server), loop=asyncio.get_running_loop(), session=session, ssl=True
        )
        self._prefix = URL(server).raw_path.rstrip("/")
        self._own = _lines({name: self._request.headers[name] for name in ("Host", "Accept-Encoding", "User-Agent")})
        self._given: Mapping[str, str] = {}
        self._given_lines = ""

    async def send(  # noqa: PLR0913 - a request has as many parts
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        common: Mapping[str, str],
        seconds: float,
        limit: int,
    ) -> Answer:
        """Send a request; its answer.

        Args:
            method: HTTP method.
            path: unquoted.
            parameters: of the query.
            headers: of this request.
            body: None for none.
            common: more headers, the same object again and again.
            seconds: for everything.
            limit: most bytes of the text that are read, decompressed.

        Raises:
            aiohttp.ClientError, OSError: no answer, or one that broke off or is not HTTP.
            TimeoutError: not within the time.
            TooLongError: the text has more bytes; the connection is closed.
            ValueError: a header holds the end of a line.
        """
        target = self._prefix + quote(path)
        if parameters:
            target += "?" + urlencode(parameters)
        if common is not self._given:
            self._given, self._given_lines = common, _lines(common)
        length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
        head = f"{method} {target} HTTP/1.1\r\n{self._own}{self._given_lines}{_lines(headers)}{length}\r\n"
        text = head.encode() + (body or b"")
        async with asyncio.timeout(seconds):
            if method not in REPEATED:
                return await self._once(text, limit)
            try:
                return await self._once(text, limit)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                return await self._once(text, limit)

    async def _once(self, text: bytes, limit: int) -> Answer:
        connection = await self._connector.connect(self._request, traces=[], timeout=aiohttp.ClientTimeout())
        try:
            protocol = connection.protocol
            if protocol is None or protocol.transport is None:
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(read_until_eof=True)
            protocol.transport.write(text)
            while True:
                message, content = await protocol.read()
                # 101 would end HTTP on this connection; nothing here requests that.
                if message.code > LAST_INFORMATIONAL:
                    break
            read = bytearray()
            while not content.at_eof():
                read += await content.readany()
                if len(read) > limit:
                    raise TooLongError(f"an answer of more than {limit:,} bytes")
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientPayloadError(f"an answer that is not HTTP: {error.message[:200]}") from error
        except BaseException:
            connection.close()
            raise
        connection.release()
        return Answer(message.code, message.headers, bytes(read))


def _lines(headers: Mapping[str, str]) -> str:
    """Headers as they are sent.

    Raises:
        ValueError: one holds the end of a line.
    """
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if lines.count("\r") != len(headers) or lines.count("\n") != len(headers) or "\0" in lines:
        raise ValueError("a header of a request holds the end of a line")
    return lines
