"""The filter before the engines' routers against bytes that no well-behaved client sends, through uvicorn's parsers."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_operator.engines import guard
from tests.engines.environments import lite_interpreter

WORKER = Path(__file__).resolve().parent / "workers" / "recording_app.py"
START_SECONDS = 60
GENERATED = 2_000
SERVED = re.compile(r"(/health|/metrics/?|/v1(/[^/\\%]+)+/?)")
"""What may reach an engine, said a second time: not by the filter's own function."""
HARMFUL = (
    "/update_weights",
    "/sleep",
    "/terminate",
    "/collective_rpc",
    "/distserve/p2p_connect",
    "/v1/load_lora_adapter",
)
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + KEY


def request(method: str, target: str, headers: bytes = b"", body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    line = f"{method} {target} {version}".rstrip().encode("utf-8", "surrogateescape")
    return line + b"\r\nHost: x\r\n" + headers + b"\r\n" + body


def attacks(path: str) -> Iterator[bytes]:
    """Every way we know to have a path looked at by one part and used by another."""
    name = path.lstrip("/")
    chunk = b"3\r\nxxx\r\n0\r\n"
    both = b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"
    inner = request("POST", path, b"Content-Length: 0\r\n")
    yield request("CONNECT", path)
    yield request("CONNECT", f"x:80{path}")
    yield request("CONNECT", "x:443", body=inner)
    yield request("POST", path, version="HTTP/1.0")
    yield request("POST", path, b"Connection: keep-alive\r\n", version="HTTP/1.0")
    yield request("POST", path, version="HTTP/0.9")
    yield request("GET", path, version="")
    yield request("POST", path, version="HTTP/2.0")
    yield request("POST", path, version="HTTP/1.1 HTTP/1.1")
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + inner
    h2c = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    yield request("GET", path, h2c)
    yield request("GET", "/v1/models", h2c, body=inner)
    yield request("GET", "/v1/realtime", UPGRADE, body=inner)
    yield request("GET", path, UPGRADE)
    yield request("POST", path, UPGRADE)
    yield request("GET", f"ws://x{path}", UPGRADE)
    yield request("GET", f"//x{path}", UPGRADE)
    yield request("GET", f"/v1/..{path}", UPGRADE)
    yield request("GET", f"/v1/%2e%2e{path}", UPGRADE)
    for scheme in ("http", "https", "ws", "file", "HTTP", "x"):
        yield request("POST", f"{scheme}://x{path}")
        yield request("POST", f"{scheme}://x/v1/models/..{path}")
        yield request("POST", f"{scheme}://user:pass@x{path}")
        yield request("POST", f"{scheme}:{path}")
    yield request("OPTIONS", "*", body=inner)
    for prefix in (
        "/", "//", "/./", "/v1/../", "/v1//../", "//v1/../", "/v1/;/../", "/v1/..;/", "/v1/%2e%2e/", "/v1/%2E%2E%2F",
        "/v1/.%2e/", "/v1/..%2f", "/v1%2f..%2f", "/v1%2F%2E%2E%2F", "/%2e/", "/v1/..%5c", "/v1\\..\\", "/v1/..\\",
        "/v1/%252e%252e/", "/v1/..%252f", "/v1/..%c0%af", "/v1/..%ef%bc%8f", "/v1/..%u2215", "/health/../",
        "/health%2f..%2f", "/metrics/../", "/metrics//", "/V1/../", "/v1/x/../../", "/v1/models?/../",
        "/v1/models#/../", "/v1/models%00/../", "/v1/models%0d%0a", "/v1/models%20HTTP/1.1%0d%0aX:%20",
        "/?/v1/models", "/;/v1/", "?", "#",
    ):  # fmt: skip
        yield request("POST", f"{prefix}{name}")
    yield request("POST", f"{path}?x=/v1/models")
    yield request("POST", f"{path}#/v1/models")
    yield request("POST", f"{path};/v1/models")
    yield request("POST", f"{path}%00/v1/models")
    yield request("POST", f"{path}\t/v1/models")
    yield request("POST", path.replace("_", "%5f").replace("s", "%73"))
    yield request("POST", f"//v1/{name}")
    yield request("POST", f"/v1//{name}")
    # One request in the body of another, whatever the body's end is held to be.
    yield request("POST", "/v1/models", both, chunk + b"\r\n" + inner)
    yield request("POST", "/v1/models", both, b"0\r\n\r\n" + inner)
    yield request("POST", "/v1/models", b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + inner)
    yield request("POST", "/v1/models", b"Content-Length: 4\r\nContent-Length: 40\r\n", b"xxxx" + inner)
    yield request("POST", "/v1/models", b"Content-Length: +4\r\n", b"xxxx" + inner)
    yield request("POST", "/v1/models", b"Content-Length: 0x4\r\n", b"xxxx" + inner)
    yield request("POST", "/v1/models", b"Content-Length: -1\r\n", inner)
    for coding in (
        b"xchunked",
        b"chunked, identity",
        b"identity, chunked",
        b" chunked",
        b"\tchunked",
        b"chunked\x0b",
        b"CHUNKED",
    ):
        yield request(
            "POST", "/v1/models", b"Transfer-Encoding:" + coding + b"\r\nContent-Length: 5\r\n", b"0\r\n\r\n" + inner
        )
    yield request("POST", "/v1/models", b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n" + inner)
    yield request("POST", "/v1/models", b"Transfer-Encoding: chunked\r\n", b"0\r\nX: y\r\n\r\n" + inner)
    yield request("POST", "/v1/models", b"Transfer-Encoding: chunked\r\n", b"0\r\n" + inner)
    yield request("POST", "/v1/models", b"Transfer-Encoding: chunked\r\n", b"FFFFFFFFFFFFFFFF1\r\n" + inner)
    yield request("POST", "/v1/models", b"Transfer-Encoding: chunked\r\n", b"3;x=\r\n\r\nxxx\r\n0\r\n\r\n" + inner)
    yield request(
        "POST", "/v1/models", b"Transfer-Encoding: chunked\r\nTrailer: X\r\n", chunk + f":path: {path}\r\n\r\n".encode()
    )
    yield request("POST", "/v1/models", b"Expect: 100-continue\r\nContent-Length: 4\r\n", b"xxxx" + inner)
    # What a proxy would believe.
    for header in (
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Prefix",
        "X-Forwarded-Path",
        "X-HTTP-Method-Override",
    ):
        yield request("POST", "/v1/models", f"{header}: {path}\r\n".encode())
    yield request("POST", "/v1/models", f"Host: x{path}\r\n".encode())
    yield request("POST", "/v1/models", f"X: y\n\nPOST {path} HTTP/1.1\r\n".encode())
    yield request("POST", "/v1/models", f"X: y\rPOST {path} HTTP/1.1\r\n".encode())
    yield request("POST", "/v1/models", f" folded\r\n {path}: x\r\n".encode())
    yield b"\r\n\r\n" + inner
    yield b" " + inner
    yield b"\x00" + inner
    yield inner.replace(b"\r\n", b"\n")
    yield inner.replace(b" ", b"\t")
    yield inner.replace(b"POST ", b"POST  ")
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + inner
    # Very long.
    yield request("POST", path + "?" + "a" * 200_000)
    yield request("POST", "/v1/" + "a/" * 50_000 + ".." + path)
    yield request("POST", "/v1/models" + "/.." * 50_000 + path)
    yield request("POST", "/v1/models", b"X: " + b"a" * 200_000 + b"\r\n", inner)
    yield request("POST", path, b"X: y\r\n" * 20_000)
    # Pipelined behind a good one.
    yield request("GET", "/v1/models") + inner
    yield request("GET", "/health") * 20 + inner + request("GET", "/health")


PARTS = (
    "/", "//", "/v1", "/v1/", "v1", "models", "..", ".", "%2e", "%2f", "%5c", "\\", ";", "?", "#", "%00", "%0a", "\x7f",
    "/health", "/metrics", "*", "http://x", "@", ":", "é", "%c3%a9", "%ff", "%", "%%", " ", "\t", "sleep",
    "update_weights", "a" * 5_000,
)  # fmt: skip


def generated(count: int) -> Iterator[bytes]:
    """Requests of random parts."""
    chance = random.Random(12)
    for _ in range(count):
        target = "".join(chance.choices(PARTS, k=chance.randint(1, 8)))
        method = chance.choice(
            ["GET", "POST", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "HEAD", "TRACE", "X", "post"]
        )
        headers = chance.choice([b"", b"", UPGRADE, b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"])
        body = chance.choice([b"", b"0\r\n\r\n", request("POST", chance.choice(HARMFUL))])
        yield request(
            method, target, headers, body, chance.choice(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", ""])
        )


@pytest.fixture(scope="module", params=["h11", "httptools"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A guarded server."""
    folder = tmp_path_factory.mktemp("wire")
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    (folder / guard.FILE).write_text(guard.source())
    command = [word.replace(guard.FOLDER, str(folder)) for word in guard.guarded(())]
    command += [str(lite_interpreter()), "-W", "ignore", str(WORKER), str(number), request.param]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    process = subprocess.Popen(command, env=environment)
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                reached(number)
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.1)
        yield number
        assert process.poll() is None, "it still runs"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def reached(port: int) -> set[str]:
    """What has come as far as the application so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/reached", timeout=60) as answer:
        return set(json.load(answer))


def send(port: int, data: bytes) -> None:
    """Send it all, say that this is the end, and read what comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        except OSError:
            pass  # it has hung up, which is an answer too


def forbidden(paths: set[str]) -> list[str]:
    found = []
    for one in paths:
        path = one.split(" ", 2)[2]
        parts = path.split("/")
        bad = not SERVED.fullmatch(path) or ".." in parts or "." in parts or any(path == name for name in HARMFUL)
        found += [one] if bad or not path.isprintable() else []
    return found


def test_no_bytes_reach_another_route(port: int) -> None:
    sent = 0
    for path in HARMFUL:
        for data in attacks(path):
            send(port, data)
            sent += 1
    for data in generated(GENERATED):
        send(port, data)
        sent += 1
    paths = reached(port)
    assert sent > GENERATED
    assert forbidden(paths) == []
    # It was not the sender that kept them all away.
    assert {"http POST /v1/models", "http GET /health"} <= paths
    assert "websocket GET /v1/realtime" in paths
