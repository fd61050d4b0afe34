"""Requests over aiohttp's connections: whatever a server sends, there is an answer or one of the usual errors."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import aiohttp
import pytest

from llm_operator.kube.exchange import Answer, Exchange
from llm_operator.kube.reading import UNREACHABLE, TooLongError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
PACKED = gzip.compress(b"y" * 100_000)


class Server:
    """Answers requests with given bytes, in turn, the last ones again and again; and sends requests to itself."""

    def __init__(self, *answers: bytes, prefix: str = "", closing: bool = False) -> None:
        self.answers = list(answers)
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self._prefix = prefix
        self._closing = closing
        """After each answer, although it did not say so."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=4))
        self._exchange = Exchange(self._session, f"http://127.0.0.1:{port}{self._prefix}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = [line.partition(":")[2] for line in head.splitlines() if line.startswith("Content-Length")]
                self.bodies.append(await reader.readexactly(int(length[0])) if length else b"")
                self.heads.append(head)
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
                await writer.drain()
                if self._closing:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def send(
        self,
        method: str = "GET",
        path: str = "/api/v1/pods",
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        common: Mapping[str, str] | None = None,
        seconds: float = 10.0,
    ) -> Answer:
        """A request to this server."""
        return await self._exchange.send(
            method, path, parameters or {}, headers or {}, body, common=common or {}, seconds=seconds, limit=1000
        )


async def test_a_request_is_sent_whole_and_as_it_is() -> None:
    async with Server(OK, prefix="/k8s/clusters/a") as server:
        query = {"labelSelector": "a=b,c in (d)", "limit": "500"}
        common, body = {"Authorization": "Bearer x"}, '{"ä": 1}'.encode()
        answer = await server.send("PATCH", "/api/v1/a b?c#d", query, {"Content-Type": "text/x"}, body, common=common)
    assert (answer.status, answer.text) == (200, b"{}")
    first, *lines = server.heads[0].rstrip().split("\r\n")
    target = "/k8s/clusters/a/api/v1/a%20b%3Fc%23d?labelSelector=a%3Db%2Cc+in+%28d%29&limit=500"
    assert first == f"PATCH {target} HTTP/1.1"
    sent = dict(line.split(": ", 1) for line in lines)
    assert sent.pop("Host").startswith("127.0.0.1:")
    assert sent.pop("User-Agent")
    assert sent == {
        "Accept-Encoding": "gzip, deflate",
        "Authorization": "Bearer x",
        "Content-Type": "text/x",
        "Content-Length": str(len(body)),
    }
    assert server.bodies == [body]


async def test_connections_are_kept_and_new_credentials_are_sent() -> None:
    async with Server(OK) as server:
        for common in ({"Authorization": "1"}, {"Authorization": "2"}):
            await server.send(common=common)
            await server.send(common=common)
    assert server.connections == 1
    told = [line for head in server.heads for line in head.splitlines() if line.startswith("Authorization")]
    assert told == ["Authorization: 1"] * 2 + ["Authorization: 2"] * 2
    assert "Content-Length" not in server.heads[0]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"{}"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, b"{}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n" + gzip.compress(b"{}", mtime=0),
            b"{}",
        ),
    ],
)
async def test_every_way_of_saying_it_is_read(sent: bytes, text: bytes) -> None:
    closing = sent.startswith(b"HTTP/1.0")
    async with Server(sent, closing=closing) as server:
        answer = await server.send()
    assert answer.text == text
    assert len(server.heads) == 1, "a redirect is not followed"


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_what_is_no_answer_is_one_of_the_usual_errors(sent: bytes, method: str) -> None:
    async with Server(sent, OK, closing=True) as server:
        server.answers.insert(0, sent)
        with pytest.raises(UNREACHABLE):
            await server.send(method)
        server.answers = [OK]
        assert (await server.send(method)).text == b"{}", "the next request is not affected"


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"y" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"64\r\n"
        + b"y" * 100
        + b"\r\n" * 1
        + b"3e8\r\n" * 1
        + b"y" * 1000
        + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED,
    ],
)
async def test_an_answer_is_read_up_to_a_limit(sent: bytes) -> None:
    async with Server(sent, OK) as server:
        with pytest.raises(TooLongError, match="more than 1,000 bytes"):
            await server.send()
        assert (await server.send()).text == b"{}"
        assert server.connections == 2, "what is left of it is not read"


async def test_a_connection_that_was_closed_meanwhile_is_no_error_of_a_read() -> None:
    async with Server(OK, closing=True) as server:
        for _ in range(3):
            assert (await server.send("GET")).text == b"{}"
            assert (await server.send("DELETE")).text == b"{}"


async def test_a_write_is_sent_once() -> None:
    async with Server(b"", closing=True) as server:
        with pytest.raises(aiohttp.ClientError):
            await server.send("PATCH", body=b"x")
        assert len(server.heads) == 1
        with pytest.raises(aiohttp.ClientError):
            await server.send("GET")
        assert len(server.heads) == 3


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
async def test_silence_ends_in_time(sent: bytes) -> None:
    async with Server(sent, OK) as server:
        with pytest.raises(TimeoutError):
            await server.send(seconds=0.05)
        assert (await server.send()).text == b"{}"


@pytest.mark.parametrize("value", ["x\r\nX: y", "x\ny", "x\ry", "x\0"])
async def test_a_credential_adds_no_header(value: str) -> None:
    async with Server(OK) as server:
        with pytest.raises(ValueError, match="end of a line"):
            await server.send(common={"Authorization": value})
        assert server.heads == []


async def test_a_server_that_is_not_there() -> None:
    async with Server(OK) as server:
        server._server.close()
        await server._server.wait_closed()
        with pytest.raises(aiohttp.ClientConnectorError):
            await server.send()
