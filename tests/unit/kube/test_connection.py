"""Credentials of a kubeconfig that change, end, or never come; against servers with TLS and a proxy of their own."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from devcluster.pki import make_pki
from llm_operator.kube import connection as module
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.connection import Connection, NoClusterError, load
from llm_operator.kube.lease import leadership
from llm_operator.kubeconfig import Access
from llm_operator.telemetry.metrics import Metrics

JSON = dict[str, Any]
NAME = "api.example"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def authority(folder: Path) -> ssl.SSLContext:
    """A CA in a folder, and the server's side of a certificate that it signed for NAME."""
    make_pki(folder, [f"DNS:{NAME}"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "api.crt", folder / "api.key")
    return context


class Server:
    """Answers every request with an object, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.port = 0
        self.valid: str | None = None
        """The only token that is taken; None: any."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        self.asked.append((request.path, given))
        if self.valid is not None and given != f"Bearer {self.valid}":
            return web.json_response({"reason": "Unauthorized"}, status=401)
        if "/leases" in request.path and request.method == "GET":
            return web.json_response({"kind": "Status", "code": 404, "reason": "NotFound"}, status=404)
        meta = {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "1"}
        return web.json_response(
            {"metadata": meta, "spec": (await request.json())["spec"] if request.can_read_body else {}}
        )

    async def listen(self, tls: ssl.SSLContext | None) -> Callable[[], Any]:
        runner = web.ServerRunner(web.Server(self.answer), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=tls).start()
        self.port = runner.addresses[0][1]
        return runner.cleanup


def kubeconfig(path: Path, monkeypatch: pytest.MonkeyPatch, user: JSON, **cluster: Any) -> None:
    body = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    path.write_text(json.dumps(body))
    monkeypatch.setenv("KUBECONFIG", str(path))


def plugin(folder: Path, script: str) -> JSON:
    path = folder / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin"}}


async def until(connection: Connection, said: str) -> None:
    async with asyncio.timeout(30):
        while connection.authorization() != said:  # noqa: ASYNC110 - a thread reads
            await asyncio.sleep(0.01)


async def read(connection: Connection) -> None:
    async with ApiClient(connection, Metrics()) as client:
        await client.get("Service", "b", "a")


async def test_a_rotated_authority_and_server_are_trusted_at_the_next_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = authority(tmp_path / "one"), authority(tmp_path / "two")
    trusted = tmp_path / "ca.crt"
    trusted.write_bytes((tmp_path / "one" / "ca.crt").read_bytes())
    server = Server()
    close = await server.listen(first)
    place = {"server": f"https://127.0.0.1:{server.port}", "tls-server-name": NAME}
    kubeconfig(tmp_path / "config", monkeypatch, {"token": "t"}, **place, **{"certificate-authority": str(trusted)})
    connection = load()
    async with ApiClient(connection, Metrics()) as client:
        await client.get("Service", "b", "a")
        await close()
        close = await server.listen(second)
        with pytest.raises(OSError, match="certificate verify failed"):
            await client.get("Service", "b", "a")
        trusted.write_bytes((tmp_path / "two" / "ca.crt").read_bytes())
        async with asyncio.timeout(30):
            while True:
                try:
                    await client.get("Service", "b", "a")
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    break
        # What the authority of before has signed is trusted no more.
        await close()
        close = await server.listen(first)
        with pytest.raises(OSError, match="certificate verify failed"):
            await client.get("Service", "b", "a")
    await close()


async def test_the_lease_goes_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    close = await server.listen(authority(tmp_path / "one"))
    place = {"server": f"https://127.0.0.1:{server.port}", "tls-server-name": NAME}
    trusted = {"certificate-authority": str(tmp_path / "one" / "ca.crt")}
    kubeconfig(tmp_path / "config", monkeypatch, {"token": "t"}, **place, **trusted)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    election = leadership(load(), "llm-operator", "default", "me")
    await asyncio.wait_for(election.acquire(), 30)
    await election.release()
    assert {given for _, given in server.asked} == {"Bearer t"}
    await close()


async def test_the_kubeconfigs_proxy_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Server()
    close = await proxy.listen(None)
    place = {"server": "http://nowhere.invalid", "proxy-url": f"http://127.0.0.1:{proxy.port}"}
    kubeconfig(tmp_path / "config", monkeypatch, {}, **place)
    await read(load())
    assert [path for path, _ in proxy.asked] == ["/api/v1/namespaces/b/services/a"]
    await close()


async def test_a_token_is_read_again_after_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    kubeconfig(tmp_path / "config", monkeypatch, {"tokenFile": "token"}, server="http://127.0.0.1:9")
    connection, now = load(), time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    token.write_text("second\n")
    await until(connection, "Bearer second")


async def test_a_rotated_tokens_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    kubeconfig(tmp_path / "config", monkeypatch, {"tokenFile": "token"}, server="http://127.0.0.1:9")
    connection = load()
    assert connection.authorization() == "Bearer one"
    token.write_text("second\n")
    await until(connection, "Bearer second")
    token.unlink()
    assert connection.authorization() == "Bearer second"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    started = Server()
    close = await started.listen(None)
    yield started
    await close()


async def test_a_plugin_that_hangs_holds_up_nobody(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = json.dumps({"status": {"token": "t", "expirationTimestamp": "2026-01-01T00:00:00Z"}})
    script = f"echo x >> tries; test -e hang && exec sleep 600; echo '{said}'"
    kubeconfig(tmp_path / "config", monkeypatch, plugin(tmp_path, script), server=f"http://127.0.0.1:{server.port}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "PLUGIN_SECONDS", 1.0)
    connection = load()
    (tmp_path / "hang").touch()
    before, asked = (tmp_path / "tries").read_text(), 0
    async with asyncio.timeout(60):
        # One try after the other is ended, and requests go on meanwhile.
        while len((tmp_path / "tries").read_text()) < len(before) + 6:
            await read(connection)
            asked += 1
            await asyncio.sleep(0.05)
    assert asked > 10
    assert {given for _, given in server.asked} == {"Bearer t"}


async def test_a_refused_token_is_asked_for_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'echo x >> count; echo "{\\"status\\": {\\"token\\": \\"t$(wc -l < count)\\"}}"'
    kubeconfig(tmp_path / "config", monkeypatch, plugin(tmp_path, script), server=f"http://127.0.0.1:{server.port}")
    monkeypatch.chdir(tmp_path)
    connection = load()
    server.valid = "t2"
    with pytest.raises(ApiError, match="401"):
        await read(connection)
    await until(connection, "Bearer t2")
    await read(connection)
    assert connection.authorization() == "Bearer t2"


async def test_credentials_that_end_are_renewed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 200.0, 300.0])

    def given() -> Access:
        ends = next(times)
        return Access("http://a", "default", None, {"Authorization": f"Bearer {ends:.0f}"}, expires=ends)

    now = 0.0
    monkeypatch.setattr(time, "time", lambda: now)
    connection = Connection(given)
    assert connection.authorization() == "Bearer 100"
    now = 100 - module.BEFORE_EXPIRY_SECONDS - 1
    assert connection.authorization() == "Bearer 100"
    now += 1
    await until(connection, "Bearer 200")
    assert connection.authorization() == "Bearer 200"


@pytest.mark.parametrize(
    ("user", "cluster", "said"),
    [
        ({"as": "somebody"}, {}, "impersonates"),
        ({"exec": {"command": "./none"}}, {}, "cannot be run"),
        ({}, {"proxy-url": "socks5://a"}, "proxies that speak HTTP"),
    ],
)
def test_what_cannot_be_used_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: JSON, cluster: JSON, said: str
) -> None:
    kubeconfig(tmp_path / "config", monkeypatch, user, server="http://127.0.0.1:9", **cluster)
    with pytest.raises(NoClusterError, match=said):
        load()
