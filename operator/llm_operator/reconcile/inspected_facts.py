"""What a Job of the model tools found in a model's files, as the planner's facts. Pure."""

from __future__ import annotations

import functools

from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.facts import Fact, Known, Pending, Unknowable
from llm_operator.pipeline.inspection import Looked
from llm_operator.pipeline.result import unpacked_config
from llm_operator.reconcile.model_facts import ModelFacts, described, facts_of


def known_facts(spec: LLMDeploymentSpec, hub: Fact[ModelFacts], looked: Looked) -> Fact[ModelFacts]:
    """The hub's word if it has one, else what was found in the files.

    A model on a claim or in an image is waited for until the Job has looked; one on a hub is not, because the Job that
    fetches it looks last.
    """
    if isinstance(hub, Known) or (isinstance(hub, Pending) and not hub.failed):
        return hub
    state, result = looked
    if result is not None and result.ok and result.packed_config is not None:
        return _facts(result.packed_config, result.weight_bytes, result.revision)
    if spec.model.hugging_face is not None or spec.model.model_scope is not None:
        return hub
    if state == "Running":
        return Pending("ReadingModel", "reading config.json of the model by a Job")
    if state == "Blocked" and isinstance(hub, Unknowable):
        # A claim that is being bound, or a node that comes: whether it is for a moment, no one knows.
        return Pending(hub.reason, hub.message, failed=True)
    return hub if result is None or result.ok else Unknowable(result.reason, result.message)


@functools.lru_cache(maxsize=512)
def _facts(packed: str, weight_bytes: int | None, revision: str | None) -> Known[ModelFacts] | Unknowable:
    """By the packed text, which is short: 512 configs as they are would be half a gigabyte."""
    config = unpacked_config(packed)
    if config is None:
        return Unknowable("ModelUnsupported", "config.json as the Job reported it cannot be read")
    return facts_of(lambda: (described(config), weight_bytes), revision=revision)
