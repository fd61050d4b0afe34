"""kopf as the informer of LLMDeployments: the handler puts what it receives into the cache and a key into the queue.

What belongs to them is watched without it (kube/child_watches.py): kopf takes half a millisecond for each event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import kopf
from yarl import URL

from llm_operator.api import GROUP, KIND
from llm_operator.kube.api_session import ApiSession
from llm_operator.kube.intake import Intake
from llm_operator.kube.workqueue import Queues
from llm_operator.manifests.kinds import KINDS


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no last-handled state: no annotation is written, and half of the CPU per event is saved.

    Only right without create, update and resume handlers, of which there are none (kopf 1.45.2, _core/reactor).
    """

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """No essence."""
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """No last-handled state."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing."""


class NoProgress(kopf.ProgressStorage):
    """Keeps no progress of handlers, as there are none that are retried; the usual storage copies every object."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:
        """Nothing is known."""

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Keep nothing."""

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing is kept."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Write nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """The essence holds nothing of ours."""
        return essence


class _ListedBefore:
    """kopf's session: what the cache was filled from is not listed again, kopf goes on from there.

    Of a session, kopf 1.45.2 uses `request`, `headers`, `closed` and `close` (clients/api.py, clients/auth.py).
    """

    def __init__(self, session: ApiSession) -> None:
        self._session = session
        self._requests = session.open()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._requests, name)

    async def request(self, method: str, url: str, **options: Any) -> Any:
        """As ClientSession.request."""
        parsed = URL(url)
        if "watch" not in parsed.query:
            start = self._session.take_start(parsed.path)
            if start:
                return _Listed(start)
        return await self._requests.request(method, url, **options)


class _Listed:
    """The answer to a list of which everything is known."""

    status = 200

    def __init__(self, version: str) -> None:
        self._version = version

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def json(self) -> dict[str, Any]:
        """No items, and the version at which the watch begins."""
        return {"items": [], "metadata": {"resourceVersion": self._version}}


def known_lists(session: ApiSession) -> Any:
    """A session for kopf that lists nothing of which the cache holds everything."""
    return _ListedBefore(session)


def settings() -> kopf.OperatorSettings:
    """kopf's settings for an informer."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True  # a ClusterKopfPeering named `default` anywhere would pause us
    chosen.scanning.disabled = True  # no right to list CRDs and namespaces is needed
    chosen.posting.enabled = False
    chosen.persistence.diffbase_storage = NoDiffBase()
    chosen.persistence.progress_storage = NoProgress()
    chosen.persistence.finalizer = f"{GROUP}/kopf"
    chosen.queueing.idle_timeout = 0.5
    chosen.watching.chunk_size = 100
    chosen.watching.initial_streaming = False
    # ApiSession asks again, at its own pace and for as long as it takes.
    chosen.networking.request_timeout = None  # type: ignore[assignment,unused-ignore]
    chosen.networking.error_backoffs = ()
    # Watches are started anew: the first end of kopf must not have the process killed ten minutes later.
    chosen.process.ultimate_exiting_timeout = None
    return chosen


def register(registry: kopf.OperatorRegistry, server: str, session: ApiSession, intake: Intake, queues: Queues) -> None:
    """Declare the watch and the login."""

    @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator,unused-ignore]
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=server, aiohttp_session=known_lists(session))

    row = KINDS[KIND]
    watch = kopf.on.event(row.group, row.version, row.plural, registry=registry, id=f"watch-{row.plural}")
    watch(_handler(row.name, intake, queues))


def _handler(kind: str, intake: Intake, queues: Queues) -> Callable[..., None]:
    async def handle(event: Any, **_: Any) -> None:
        take(kind, event["type"], {**event["object"]}, intake, queues)

    return handle  # type: ignore[return-value]


def take(kind: str, event: str | None, raw: dict[str, Any], intake: Intake, queues: Queues) -> None:
    """Put what a watch reported into the cache, and the key that it concerns into its queue.

    Args:
        kind: of the object.
        event: ADDED, MODIFIED or DELETED; None: a list contained it.
        raw: the object, which is changed.
        intake: of the cache.
        queues: of keys.
    """
    raw["kind"] = kind
    key = intake.remove(raw) if event == "DELETED" else intake.update(raw)
    if key is not None:
        # A deletion is news, no matter who requested it.
        because = None if event == "DELETED" else (kind, raw["metadata"]["resourceVersion"])
        queues.add(key, because, news=event is not None)
