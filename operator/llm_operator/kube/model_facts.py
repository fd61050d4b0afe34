"""What the hubs say about models, read beside the reconciler and kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.kube import tasks
from llm_operator.kube.hub import FETCH_TIMEOUT_SECONDS, ModelFacts, fetch_facts

RETRY_SECONDS = 300.0
RETRIED = ("HubUnreachable", "HubError")
"""Reasons of facts that may be there later."""


class ModelFactsCache:
    """Facts by repository and revision; what failed is asked for again after a while."""

    def __init__(self, changed: Callable[[tuple[str, str]], None]) -> None:
        self._changed = changed
        self._facts: dict[tuple[str, str], ModelFacts] = {}

    def of(self, spec: LLMDeploymentSpec) -> ModelFacts:
        """The facts known now; a first question starts the fetch."""
        source = spec.model.hugging_face
        if source is None:
            kind = "persistentVolumeClaim" if spec.model.persistent_volume_claim else "modelScope"
            text = f"config.json of a model from {kind} is not read before the engine starts: its own defaults stand"
            return ModelFacts(reason="ModelNotInspected", message=text)
        key = (source.repository, source.revision or "")
        if key not in self._facts:
            text = f"reading config.json of {source.repository} from the hub"
            self._facts[key] = ModelFacts(pending=True, reason="ReadingModel", message=text)
            tasks.once(self._fetch(key), "facts", f"facts-{source.repository}")
        return self._facts[key]

    async def _fetch(self, key: tuple[str, str]) -> None:
        repository, revision = key
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                facts = await asyncio.to_thread(fetch_facts, repository, revision or None)
        except TimeoutError:
            facts = ModelFacts(
                reason="HubUnreachable", message=f"the hub did not answer within {FETCH_TIMEOUT_SECONDS:.0f} s"
            )
        self._facts[key] = facts
        self._changed(key)
        if facts.reason in RETRIED:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._forget, key)

    def _forget(self, key: tuple[str, str]) -> None:
        self._facts.pop(key, None)
        self._changed(key)
