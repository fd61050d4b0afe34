"""A proxy on loopback in front of an API server that answers some requests with something else."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

from devcluster.control_plane import ControlPlane

Stream = Callable[[bytes], bytes | None]
"""What becomes of one line of a watch; None: dropped. Raises ConnectionResetError to cut it."""


@dataclass
class Lie:
    """What requests that match are answered with, instead of or around the truth."""

    matches: Callable[[web.Request], bool]
    answer: Callable[[web.Request], web.Response] | None = None
    """Without asking the API server."""
    lines: Stream | None = None
    """Of a watch."""
    hang: bool = False
    """Never answer."""
    times: int | None = None
    """How often; None: as long as it stands."""
    told: int = 0


def is_watch(request: web.Request) -> bool:
    return request.query.get("watch") == "true"


@dataclass
class LyingProxy:
    """Serves http://127.0.0.1:<port>; `kubeconfig` points to it."""

    plane: ControlPlane
    folder: Path
    impersonate: str = ""
    """User that the audit log names for what comes through here; an administrator in all else."""
    lies: list[Lie] = field(default_factory=list)

    @property
    def watches(self) -> int:
        """Connections of watches that are open now; a handler outlives its own until the next line is for it."""
        return sum(1 for one in tuple(self._transports) if one is not None and not one.is_closing())

    def __enter__(self) -> Self:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        self.kubeconfig = self.folder / "lying.kubeconfig"
        config = yaml.safe_load(self.plane.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        cluster.pop("certificate-authority-data", None)
        cluster.pop("certificate-authority", None)
        cluster["server"] = f"http://127.0.0.1:{self.port}"
        self.kubeconfig.write_text(yaml.safe_dump(config))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def lie(self, **how: Any) -> Lie:
        """From now on."""
        told = Lie(**how)
        self.lies.append(told)
        return told

    def truth(self) -> None:
        """No lies any more."""
        self.lies.clear()

    def cut_watches(self) -> None:
        """Close the connections of all watches."""
        self._loop.call_soon_threadsafe(lambda: [one.abort() for one in self._transports if one])

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._transports: set[Any] = set()
        config = yaml.safe_load(self.plane.kubeconfig.read_text())
        server = config["clusters"][0]["cluster"]["server"]
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connector = aiohttp.TCPConnector(limit=0, ssl=context)
        async with aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
        ) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(session, server, request)

            app = web.Application(client_max_size=8 << 20)
            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            self._ready.set()
            await self._end.wait()
            await runner.cleanup()

    async def _handle(self, session: aiohttp.ClientSession, server: str, request: web.Request) -> web.StreamResponse:
        lie = next((one for one in self.lies if one.matches(request) and one.told != one.times), None)
        if lie is not None:
            lie.told += 1
            if lie.hang:
                await asyncio.sleep(3600)
            if lie.answer is not None:
                return lie.answer(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host",)}
        if self.impersonate:
            headers |= {"Impersonate-User": self.impersonate, "Impersonate-Group": "system:masters"}
        body = await request.read()
        async with session.request(
            request.method, server + request.raw_path, headers=headers, data=body or None
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() in KEPT}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            if is_watch(request):
                await self._copy_watch(request, answer, response, lie.lines if lie else None)
            else:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            return response

    async def _copy_watch(
        self, request: web.Request, answer: aiohttp.ClientResponse, response: web.StreamResponse, lines: Stream | None
    ) -> None:
        transport = request.transport
        self._transports.add(transport)
        try:
            rest = b""
            async for chunk in answer.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    told = line if lines is None else lines(line)
                    if told is not None:
                        await response.write(told + b"\n")
        except (ConnectionResetError, aiohttp.ClientError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._transports.discard(transport)


KEPT = {"content-type", "content-encoding", "retry-after"}
