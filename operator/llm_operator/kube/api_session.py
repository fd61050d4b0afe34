"""The HTTP sessions of the watches: whatever a request is answered with, they see a good answer or a broken connection.

kopf 1.45.2 ends its watches at the first answer that it does not expect, and not always itself: a 401 while a token is
rotated once left all of them deaf in a process that called itself healthy; an ERROR event of an etcd election, a list
token that expired or the HTML page of a proxy ended the process. So every answer is checked here, before anything else
reads it, and a bad one is requested again, at a pace that spares the API server, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from llm_operator.foreign import natural_number
from llm_operator.kube.answers import (
    BadAnswerError,
    check_discovery,
    code_of,
    event_of_line,
    is_identified,
    is_understood,
    lines_of,
    needed_resources,
    read_json_object,
    told,
)
from llm_operator.kube.checked_answer import GONE, CheckedAnswer, Event, Events, only
from llm_operator.kube.connection import Connection
from llm_operator.kube.reading import UNREACHABLE, TooLongError
from llm_operator.manifests.kinds import KINDS, WATCHED
from llm_operator.telemetry.metrics import Metrics

JSON = dict[str, Any]
log = logging.getLogger("llm_operator.watches")

ATTEMPT_SECONDS = 30.0
"""For one answer; of a watch, until it begins."""
BACKOFF_SECONDS = 0.2
BACKOFF_LIMIT_SECONDS = 3.0
BRIEF_SECONDS = 5.0
"""A watch that ends sooner counts as a failure: it would be opened again without a pause."""
REMIND_SECONDS = 60.0


@dataclass
class Stream:
    """How one list-and-watch of a kind in a namespace stands."""

    kind: str
    path: str
    namespace: str | None = None
    """None: all, or no matter."""
    listed: set[tuple[str, str]] = field(default_factory=set)
    """Namespace and name of what the list under way has contained so far."""
    trying: int = 0
    """Requests that are under way or wait for the next attempt."""
    response: aiohttp.ClientResponse | None = None
    """The watch that is open."""
    opened: bool = False
    """It was open at least once."""
    anew: bool = False
    """The next watch is to begin with a list: after an etcd restore nothing is newer than what was seen last."""
    start: str = ""
    """The version of a list that the cache holds already: the first watch begins there."""
    lists: int = 0
    page: int = 0
    """Objects of a page of the list under way, if its pages were too long; 0: as many as were requested."""
    failures: int = 0
    """In a row."""
    failing_since: float = 0.0
    reason: str = ""
    reminded: float = field(default=0.0, repr=False)

    @property
    def alive(self) -> bool:
        """Somebody watches, or tries to."""
        return self.trying > 0 or self.watching

    @property
    def watching(self) -> bool:
        """A watch is open."""
        return self.response is not None and not self.response.closed

    def paged(self, url: URL) -> URL:
        """The address of a request; of a list, with as many objects as a page may have."""
        return url.update_query(limit=self.page) if self.page and "limit" in url.query else url

    def shrinks(self, url: URL) -> bool:
        """Whether a page that was too long can be requested with fewer objects; the next request does."""
        limit = natural_number(url.query.get("limit", ""))
        if limit is None or limit <= 1:
            return False
        self.page = max(1, limit // 8)
        return True


class ApiSession:
    """Makes the sessions, and knows how each watch stands."""

    def __init__(
        self,
        connection: Connection,
        namespaces: Sequence[str | None],
        metrics: Metrics,
        known: Callable[[str, JSON], bool] = lambda *_: False,
        relisted: Callable[[], None] = lambda: None,
        vanished: Callable[[str, str | None, Set[tuple[str, str]], str], None] = lambda *_: None,
    ) -> None:
        """Prepare for the watches of all kinds.

        Args:
            connection: to the API server.
            namespaces: what is watched; [None] for everything.
            metrics: counts interruptions.
            known: whether the cache holds this very version of an object of a kind: lists and watches hand on the
                others only.
            relisted: called when a watch had to begin anew with a list: what vanished meanwhile, no event says.
            vanished: called with a kind, a namespace, everything that was listed of it, and the list's version: what
                the cache holds beyond that is gone. Even the first list of a watch is later than the one that filled
                the cache.
        """
        self._connection = connection
        self._metrics = metrics
        self._known = known
        self._relisted = relisted
        self._vanished = vanished
        paths = [(row.name, namespace, row.path(namespace)) for row in WATCHED for namespace in namespaces]
        self.streams = {path: Stream(kind, path, namespace) for kind, namespace, path in paths}
        for row in WATCHED:
            metrics.watch_interruptions.labels(kind=row.name)
        self._discovery: dict[str, Stream] = {}
        self._sessions: list[aiohttp.ClientSession] = []

    def open(self) -> aiohttp.ClientSession:
        """A session for one run of the watches."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._connection.ssl_context()),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._connection.proxy,
            response_class=CheckedAnswer,
            middlewares=(self._ask,),
        )
        self._sessions.append(session)
        return session

    async def close(self) -> None:
        """End a run: kopf closes its session only if it ends in good order."""
        while self._sessions:
            await self._sessions.pop().close()

    def begin_at(self, versions: Mapping[str, str]) -> None:
        """The cache was filled from lists: by path, the version of each. The first watches begin there."""
        for path, version in versions.items():
            self.streams[path].start = version

    def take_start(self, path: str) -> str:
        """The version at which a watch may begin without a list; empty: it must list. Each is given once."""
        stream = self.streams.get(path)
        if stream is None or not stream.start:
            return ""
        start, stream.start = stream.start, ""
        stream.lists += 1
        return start

    def reopen(self, kind: str) -> None:
        """Close the watches of a kind: they begin with a list again, perhaps of another API server."""
        for stream in self.streams.values():
            if stream.kind == kind:
                stream.anew = True
                if stream.response is not None:
                    stream.response.close()

    def discovery(self) -> Collection[Stream]:
        """How the requests stand by which kopf learns that there are LLMDeployments."""
        return self._discovery.values()

    def new_run(self) -> None:
        """The watches start anew: no request of an earlier run counts."""
        self._discovery = {}
        self.streams = {
            path: Stream(old.kind, path, old.namespace, opened=old.opened, lists=old.lists, start=old.start)
            for path, old in self.streams.items()
        }

    async def _ask(self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """The middleware: ask until the answer is good."""
        url = request.url
        stream = self.streams.get(url.path)
        if stream is None:
            stream = self._discovery.setdefault(url.path, Stream("discovery", url.path))
        watch = url.query.get("watch") == "true"
        stream.trying += 1
        try:
            while True:
                if stream.failures:
                    await asyncio.sleep(_backoff(stream.failures))
                answer = None
                url = request.url = stream.paged(url)
                try:
                    async with asyncio.timeout(ATTEMPT_SECONDS):
                        answer = await self._sent(stream, request, send)
                        if watch:
                            return await self._watch(stream, answer)
                        return await self._value(stream, url, answer)
                except (BadAnswerError, TooLongError, *UNREACHABLE) as error:
                    if answer is not None:
                        answer.close()
                    if isinstance(error, aiohttp.ClientPayloadError) and error.args == (EXPIRED,):
                        raise
                    if not (isinstance(error, TooLongError) and stream.shrinks(url)):
                        await self._refused(stream, error)
        finally:
            stream.trying = max(0, stream.trying - 1)

    async def _refused(self, stream: Stream, error: Exception) -> None:
        """Note what went wrong, and wait as long as the API server requests."""
        self._failed(stream, str(error) or f"no answer within {ATTEMPT_SECONDS:.0f} s")
        if isinstance(error, BadAnswerError) and error.retry_after:
            await asyncio.sleep(error.retry_after)

    async def _sent(
        self, stream: Stream, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        authorization = self._connection.authorization()
        if authorization:
            request.headers["Authorization"] = authorization
        row = KINDS.get(stream.kind)
        if row is not None and row.metadata_only:
            request.headers["Accept"] = row.accept(of_list=request.url.query.get("watch") != "true")
        answer = await send(request)
        if answer.status == 401:
            self._connection.refused()
        return answer

    async def _value(self, stream: Stream, url: URL, answer: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
        """A list or a part of the API's discovery."""
        path = url.path
        if answer.status == 404 and stream.kind == "discovery" and path not in needed_resources():
            return answer  # a version that is gone: kopf goes on without it
        if answer.status == 410:
            answer.close()
            self._failed(stream, "the list's continuation has expired")
            raise aiohttp.ClientPayloadError(EXPIRED)  # at which the list begins anew
        body = await read_json_object(answer, several=url.query.get("limit", "1") != "1")
        if stream.kind == "discovery":
            check_discovery(path, body)
        else:
            if "continue" not in url.query:
                stream.listed.clear()
                stream.lists += 1
                if stream.lists > 1:
                    self._relisted()
            body = self._news(stream, body)
            if not body["metadata"].get("continue"):
                stream.page = 0
                self._vanished(stream.kind, stream.namespace, stream.listed, body["metadata"]["resourceVersion"])
        assert isinstance(answer, CheckedAnswer)  # noqa: S101 - the session's response_class
        answer.checked = body
        self._succeeded(stream, keep_failures=stream.kind != "discovery")
        return answer

    def _news(self, stream: Stream, body: JSON) -> JSON:
        """A page of a list without what the cache holds already."""
        items, meta = KINDS[stream.kind].items(body), body.get("metadata")
        if (
            not isinstance(items, list)
            or not isinstance(meta, dict)
            or not isinstance(meta.get("resourceVersion"), str)
        ):
            raise BadAnswerError("an answer that is not a list")
        fresh = []
        for item in items:
            if not is_identified(item):
                self._left_out(stream)
                continue
            stream.listed.add((item["metadata"].get("namespace", ""), item["metadata"]["name"]))
            if not self._known(stream.kind, item):
                fresh.append(item)
        return {**body, "items": fresh}

    async def _watch(self, stream: Stream, answer: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
        expired = answer.status == 410
        if not expired:
            if answer.status != 200:
                await read_json_object(answer)  # raises and says what it was
            if "json" not in answer.content_type:
                answer.close()
                raise BadAnswerError(f"{answer.content_type} in place of a watch")
        if stream.anew:
            stream.anew = False
            expired = True
            answer.close()
        content = answer.content
        lines = only((GONE, b"")) if expired else self._events(stream, answer, content)
        answer.status = 200
        answer.content = Events(content, lines)  # type: ignore[assignment]
        if not expired:
            stream.response, stream.opened = answer, True
            self._succeeded(stream, keep_failures=True)
        return answer

    async def _events(
        self, stream: Stream, answer: aiohttp.ClientResponse, content: aiohttp.StreamReader
    ) -> AsyncGenerator[Event]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        problem: str | None = None  # as long as it is the reader that ends it
        try:
            async with aclosing(lines_of(content)) as lines:
                async for text in lines:
                    event, line = event_of_line(text)
                    if event.get("type") == "ERROR":
                        problem = EXPIRED if code_of(event) == 410 else f"ERROR event: {told(event.get('object'))}"
                        yield GONE, b""
                        return
                    if self._understands(stream, event):
                        yield self._as_news(stream, event, line)
            problem = ENDED
        except aiohttp.SocketTimeoutError:
            # No bookmark either: the connection is dead, and no one said so.
            problem = ENDED
        except (BadAnswerError, TooLongError) as error:
            problem = str(error)
            raise aiohttp.ClientPayloadError(problem) from error
        except aiohttp.ClientError as error:
            problem = str(error) or type(error).__name__
            raise
        finally:
            answer.close()
            if stream.response is answer:
                stream.response = None
            brief = loop.time() - began < BRIEF_SECONDS
            if not brief:
                stream.failures = 0
            if problem is not None and (brief or problem not in (ENDED, EXPIRED)):
                self._failed(stream, problem)

    def _understands(self, stream: Stream, event: JSON) -> bool:
        if not is_understood(event):
            self._left_out(stream)
            return False
        if event["type"] != "BOOKMARK":
            stream.failures = 0
        return True

    def _as_news(self, stream: Stream, event: JSON, line: bytes) -> Event:
        """An event; of a version that the cache holds from an answer, only how far the watch is."""
        if event["type"] not in ("ADDED", "MODIFIED") or not self._known(stream.kind, event["object"]):
            return event, line
        meta = {"resourceVersion": event["object"]["metadata"]["resourceVersion"]}
        return {"type": "BOOKMARK", "object": {"metadata": meta}}, b""

    def _left_out(self, stream: Stream) -> None:
        self._metrics.unreadable.labels(kind=stream.kind).inc()

    def _failed(self, stream: Stream, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        stream.reason = reason[:300]
        if stream.failures == 0:
            stream.failing_since = now
        stream.failures += 1
        if stream.kind != "discovery":
            self._metrics.watch_interruptions.labels(kind=stream.kind).inc()
        if stream.failures == 1 or now - stream.reminded > REMIND_SECONDS:
            stream.reminded = now
            log.warning("the watch of %s was interrupted and goes on: %s", stream.path, stream.reason)

    def _succeeded(self, stream: Stream, *, keep_failures: bool) -> None:
        stream.reason = ""
        if not keep_failures:
            stream.failures = 0


EXPIRED = "what it began with has expired"
ENDED = "it ended"


def _backoff(failures: int) -> float:
    return float(min(BACKOFF_SECONDS * 2 ** min(failures - 1, 16), BACKOFF_LIMIT_SECONDS))
