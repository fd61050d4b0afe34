"""The watches of what belongs to LLMDeployments: each event goes into the cache, and its key into a queue.

They request through ApiSession, which checks every answer and requests a bad one again. What kopf does beyond that for
each event (a task and a queue by uid, copies, the choice of handlers) takes half a millisecond, and most events are
those of children.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import aiohttp

from llm_operator.api import KIND
from llm_operator.kube import tasks
from llm_operator.kube.api_session import ApiSession
from llm_operator.kube.checked_answer import CheckedAnswer, Events
from llm_operator.kube.handlers import take
from llm_operator.kube.intake import Intake
from llm_operator.kube.reading import UNREACHABLE
from llm_operator.kube.workqueue import Queues
from llm_operator.manifests.kinds import KINDS

LIST_CHUNK = 100
AGAIN_SECONDS = 0.1
"""Between two requests: a watch may end at any time, and is opened again where it ended."""
SILENT_SECONDS = 70.0
"""The API server sends a bookmark each minute: a watch that is silent for longer is dead."""
YIELD_AFTER = 50
"""Objects of a list after which other work has its turn: some milliseconds."""


async def watch_children(session: ApiSession, server: str, intake: Intake, queues: Queues) -> None:
    """Watch everything but the LLMDeployments; ends only with an error that no answer explains.

    Args:
        session: what is requested through.
        server: base URL of the API server.
        intake: takes what is reported.
        queues: get the keys that it concerns.
    """
    requests = session.open()
    watches = [
        tasks.watched(_ChildWatch(session, requests, server, path, stream.kind, intake, queues).run(), path)
        for path, stream in session.streams.items()
        if stream.kind != KIND
    ]
    try:
        done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        await tasks.stop(*watches)


class _ChildWatch:
    """The list and watch of one kind, in a namespace or all."""

    def __init__(
        self,
        session: ApiSession,
        requests: aiohttp.ClientSession,
        server: str,
        path: str,
        kind: str,
        intake: Intake,
        queues: Queues,
    ) -> None:
        self._requests = requests
        self._url = server + path
        self._kind = kind
        self._intake = intake
        self._queues = queues
        self._since = session.take_start(path)
        """The version that was seen last; empty: the next watch begins with a list."""

    async def run(self) -> None:
        """List and watch until it is cancelled."""
        while True:
            try:
                if not self._since:
                    self._since = await self._list()
                await self._watch()
            except UNREACHABLE:
                # ApiSession has logged it. A list begins anew, a watch goes on where it broke off.
                pass
            await asyncio.sleep(AGAIN_SECONDS)

    async def _list(self) -> str:
        """Take in what the cache does not hold; the version of the list.

        Raises:
            aiohttp.ClientError: it broke off, or the next page is no longer there.
        """
        page: dict[str, str] = {}
        while True:
            body = (await self._get({"limit": str(LIST_CHUNK), **page})).checked
            for number, raw in enumerate(body["items"]):
                if number % YIELD_AFTER == YIELD_AFTER - 1:
                    await asyncio.sleep(0)
                take(self._kind, None, raw, self._intake, self._queues)
            token, version = body["metadata"].get("continue"), body["metadata"]["resourceVersion"]
            if not token:
                return str(version)
            page = {"continue": str(token)}

    async def _watch(self) -> None:
        """Take in events until the watch ends."""
        answer = await self._get({"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": self._since})
        assert isinstance(answer.content, Events)  # noqa: S101 - what ApiSession makes of a watch
        async with answer, aclosing(answer.content.events) as events:
            async for event, _ in events:
                if event["type"] == "ERROR":
                    self._since = ""
                    return
                raw = event["object"]
                self._since = raw["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    take(self._kind, event["type"], raw, self._intake, self._queues)

    async def _get(self, parameters: dict[str, str]) -> CheckedAnswer:
        selector = KINDS[self._kind].selector
        answer = await self._requests.get(
            self._url,
            params={**parameters, **({"labelSelector": selector} if selector else {})},
            timeout=aiohttp.ClientTimeout(total=None, sock_read=SILENT_SECONDS),
        )
        assert isinstance(answer, CheckedAnswer)  # noqa: S101 - ApiSession's response_class
        return answer
