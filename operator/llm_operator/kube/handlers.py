"""kopf as the informer: every handler puts what it receives into the cache and a key into the queue, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from llm_operator.api import GROUP
from llm_operator.kube.api_session import ApiSession
from llm_operator.kube.intake import Intake
from llm_operator.kube.workqueue import Queues
from llm_operator.manifests.kinds import WATCHED


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
    for row in WATCHED:
        if row.selector:
            chosen.watching.label_selectors[row.group, row.plural] = row.selector
    return chosen


def register(registry: kopf.OperatorRegistry, server: str, session: ApiSession, intake: Intake, queues: Queues) -> None:
    """Declare the watches and the login."""

    @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator,unused-ignore]
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=server, aiohttp_session=session.open())

    for row in WATCHED:
        watch = kopf.on.event(row.group, row.version, row.plural, registry=registry, id=f"watch-{row.plural}")
        watch(_handler(row.name, intake, queues))


def _handler(kind: str, intake: Intake, queues: Queues) -> Callable[..., None]:
    async def handle(event: Any, **_: Any) -> None:
        raw = {**event["object"], "kind": kind}
        key = intake.remove(raw) if event["type"] == "DELETED" else intake.update(raw)
        if key is not None:
            # A deletion is news, no matter who requested it.
            queues.add(key, None if event["type"] == "DELETED" else (kind, raw["metadata"]["resourceVersion"]))

    return handle  # type: ignore[return-value]
