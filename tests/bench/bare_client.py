"""The bare asyncio client, and how fast it writes what the operator writes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import aiohttp

from llm_operator.api import API_VERSION, KIND
from llm_operator.manifests.kinds import KINDS
from tests.bench.objects import UID, compact, manifest, rendered

IN_FLIGHT = 16


class BareClient:
    """The least that a client must do: the same requests with the same bytes, already encoded."""

    def __init__(self, url: str, token: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._session = session

    async def send(self, method: str, path: str, body: bytes | None = None, content: str = "application/json") -> Any:
        """One request; its answer."""
        headers = {**self._headers, "Content-Type": content}
        async with self._session.request(method, self._url + path, data=body, headers=headers) as response:
            text = await response.read()
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: {response.status} {text[:300]!r}")
            return json.loads(text)

    async def watch(self, path: str) -> AsyncIterator[Any]:
        """What is there, and then every change."""
        forever = aiohttp.ClientTimeout(total=None)
        async with self._session.get(
            f"{self._url}{path}?watch=true", headers=self._headers, timeout=forever
        ) as response:
            async for line in response.content:
                yield json.loads(line)

    async def create(self, path: str, body: bytes) -> Any:
        """What is not there yet is created: it costs the server less than an apply."""
        return await self.send("POST", f"{path}?fieldManager=llm-operator", body)

    async def apply(self, path: str, body: bytes) -> Any:
        """Server-side apply."""
        return await self.send(
            "PATCH", f"{path}?fieldManager=llm-operator&force=true", body, "application/apply-patch+yaml"
        )


async def in_flight(work: Sequence[Callable[[], Awaitable[Any]]], limit: int = IN_FLIGHT) -> None:
    """Run everything, so many at a time."""
    pending = iter(work)

    async def worker() -> None:
        for job in pending:
            await job()

    await asyncio.gather(*(worker() for _ in range(limit)))


async def bare_rate(client: BareClient, namespace: str, count: int, overlay: bool = False) -> tuple[float, float]:
    """Objects per second of the bare client (create, children, status), and its CPU seconds."""
    jobs = []
    for index in range(count):
        name = f"llm-{index}"
        children, status = rendered(name, namespace, overlay)
        bodies = [(KINDS[body["kind"]].path(namespace), compact(body)) for body in children]
        whole = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace},
            "status": status,
        }
        create = compact(manifest(name, namespace, overlay))

        async def job(
            name: str = name,
            bodies: list[tuple[str, bytes]] = bodies,
            status: bytes = compact(whole),
            create: bytes = create,
        ) -> None:
            made = await client.send("POST", KINDS[KIND].path(namespace), create)
            uid = made["metadata"]["uid"].encode()
            for path, body in bodies:
                await client.create(path, body.replace(UID.encode(), uid))
            await client.apply(f"{KINDS[KIND].path(namespace)}/{name}/status", status)

        jobs.append(job)
    start, cpu = time.perf_counter(), time.process_time()
    await in_flight(jobs)
    return count / (time.perf_counter() - start), time.process_time() - cpu
