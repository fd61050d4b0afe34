"""What the hubs say about models, read beside the reconciler, kept for a while and read again."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.facts import Fact, Known, Pending
from llm_operator.kube import tasks
from llm_operator.kube.hub import unreachable
from llm_operator.kube.hub_readers import HubReaders
from llm_operator.reconcile.model_facts import Model, ModelFacts, model_of, not_inspected

KNOWN_SECONDS = 3600.0
"""A branch moves: what it says is requested again."""
UNKNOWABLE_SECONDS = 300.0
"""A repository may be published, a gate be opened, a revision be pushed."""
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 300.0


class Ask(Protocol):
    """Asks the hub; HubReaders.facts does."""

    def __call__(self, repository: str, revision: str | None, *, first: bool) -> Awaitable[Fact[ModelFacts]]:
        """The facts of a model; never raises."""


@dataclass(slots=True)
class _Entry:
    fact: Fact[ModelFacts]
    failures: int = 0
    asked: bool = False


class ModelFactsCache:
    """Facts by repository and revision, of the models that somebody wants."""

    def __init__(
        self,
        changed: Callable[[Model], None],
        wanted: Callable[[Model], bool] = lambda _: True,
        ask: Ask | None = None,
    ) -> None:
        """An empty cache.

        Args:
            changed: called when a fact is another one than before.
            wanted: whether an object still needs a model; it is forgotten otherwise.
            ask: asks the hub; by default in separate processes.
        """
        self._ask = ask or HubReaders().facts
        self._changed = changed
        self._wanted = wanted
        self._entries: dict[Model, _Entry] = {}

    def known(self, spec: LLMDeploymentSpec) -> Fact[ModelFacts]:
        """The facts known now."""
        model = model_of(spec)
        if model is None:
            return not_inspected(spec)
        entry = self._entries.get(model)
        return entry.fact if entry is not None else _not_read(model)

    def want(self, model: Model) -> None:
        """Fetch the facts of a model, if that has not begun."""
        if model not in self._entries:
            self._entries[model] = _Entry(_not_read(model))
            self._fetch_soon(model)

    def _fetch_soon(self, model: Model) -> None:
        def failed(error: BaseException) -> None:
            self._learn(model, unreachable(type(error).__name__))

        tasks.once(self._fetch(model), "facts", f"facts-{model[0]}", failed)

    async def _fetch(self, model: Model) -> None:
        repository, revision = model
        entry = self._entries[model]
        first, entry.asked = not entry.asked, True
        self._learn(model, await self._ask(repository, revision or None, first=first))

    def _learn(self, model: Model, fact: Fact[ModelFacts]) -> None:
        """Take in an answer, and ask again when it is old."""
        entry = self._entries.get(model)
        if entry is None:
            return
        if isinstance(fact, Pending):
            wait = min(FIRST_RETRY_SECONDS * 2.0 ** min(entry.failures, 16), LAST_RETRY_SECONDS)
            entry.failures += 1
        else:
            wait = KNOWN_SECONDS if isinstance(fact, Known) else UNKNOWABLE_SECONDS
            entry.failures = 0
        if isinstance(fact, Known):
            fact = dataclasses.replace(fact, at=time.monotonic())
        before = entry.fact
        # What is known stays known while the hub is away.
        if not (isinstance(fact, Pending) and isinstance(before, Known)):
            entry.fact = fact
        if _value(entry.fact) != _value(before):
            self._changed(model)
        asyncio.get_running_loop().call_later(wait, self._again, model)

    def _again(self, model: Model) -> None:
        if self._wanted(model):
            self._fetch_soon(model)
        else:
            self._entries.pop(model, None)


def _value(fact: Fact[ModelFacts]) -> object:
    return fact.value if isinstance(fact, Known) else fact


def _not_read(model: Model) -> Pending:
    return Pending("ReadingModel", f"reading config.json of {model[0]}")
