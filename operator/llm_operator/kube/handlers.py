"""kopf as the informer: every handler puts what it is told into the cache and a key into the queue, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from llm_operator.api import GROUP, KIND, PLURAL, VERSION
from llm_operator.kube.connection import Connection
from llm_operator.kube.intake import Intake
from llm_operator.kube.relist import CHILD_SELECTOR
from llm_operator.kube.workqueue import WorkQueue

RESOURCES: dict[str, tuple[str, str, str]] = {
    KIND: (GROUP, VERSION, PLURAL),
    "Deployment": ("apps", "v1", "deployments"),
    "Service": ("", "v1", "services"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("networking.k8s.io", "v1", "networkpolicies"),
    "Job": ("batch", "v1", "jobs"),
    "Pod": ("", "v1", "pods"),
}
"""Group, version and plural of every watched kind."""


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
    chosen.watching.chunk_size = 500
    chosen.watching.initial_streaming = False
    chosen.networking.request_timeout = 30.0
    for kind, (group, _, plural) in RESOURCES.items():
        if kind != KIND:
            chosen.watching.label_selectors[group, plural] = CHILD_SELECTOR
    return chosen


def register(registry: kopf.OperatorRegistry, connection: Connection, intake: Intake, queue: WorkQueue) -> None:
    """Declare the watches and the login."""

    @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator,unused-ignore]
    def login(**_: Any) -> kopf.ConnectionInfo:
        return connection.for_kopf()

    for kind, (group, version, plural) in RESOURCES.items():
        kopf.on.event(group, version, plural, registry=registry, id=f"watch-{plural}")(_handler(kind, intake, queue))


def _handler(kind: str, intake: Intake, queue: WorkQueue) -> Callable[..., None]:
    async def handle(event: Any, **_: Any) -> None:
        raw = {**event["object"], "kind": kind}
        key = intake.remove(raw) if event["type"] == "DELETED" else intake.update(raw)
        if key is not None:
            # A deletion is news whoever asked for it.
            queue.add(key, None if event["type"] == "DELETED" else (kind, raw["metadata"]["resourceVersion"]))

    return handle  # type: ignore[return-value]
