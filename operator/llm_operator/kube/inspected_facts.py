"""What a Job of the model tools told of a model's files, as the planner's facts."""

from __future__ import annotations

import dataclasses
import functools

from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.kube.hub import ModelFacts, facts_of
from llm_operator.models import parse_config_text
from llm_operator.reconcile.jobs import Result, unpacked_config
from llm_operator.reconcile.prepare import Looked


def known_facts(spec: LLMDeploymentSpec, hub: ModelFacts, looked: Looked) -> ModelFacts:
    """The hub's word where it has one, else what was found in the files.

    A model on a claim or in an image is waited for until the Job has looked; one on a hub is not, because the Job that
    fetches it looks last.
    """
    if hub.pending or hub.shape is not None:
        return hub
    state, result = looked
    if result is not None and result.ok and result.packed_config is not None:
        return dataclasses.replace(_facts(result.packed_config, result.weight_bytes), revision=result.revision)
    if spec.model.hugging_face is not None or spec.model.model_scope is not None:
        return hub
    if state == "Running":
        return ModelFacts(pending=True, reason="ReadingModel", message="reading config.json of the model by a Job")
    return hub if result is None or result.ok else _failed(result)


def _failed(result: Result) -> ModelFacts:
    return ModelFacts(reason=result.reason, message=result.message)


@functools.lru_cache(maxsize=512)
def _facts(packed: str, weight_bytes: int | None) -> ModelFacts:
    """By the packed text, which is short: 512 configs as they are would be half a gigabyte."""
    config = unpacked_config(packed)
    if config is None:
        return ModelFacts(reason="ModelUnsupported", message="config.json as the Job reported it cannot be read")
    return facts_of(lambda: (parse_config_text(config), weight_bytes))
