"""Every spec that the API server takes is kept with its Deployment, or refused with what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_operator.manifests.common import ANNOTATION_TEMPLATE, compact_json
from llm_operator.manifests.kept_template import PLAIN_BYTES, UNPACKED_BYTES, read_template, template_text
from llm_operator.reconcile.decide import applied_template, decide, kept_template
from llm_operator.reconcile.observed import Observed, child_from
from tests.support.build import live, plan, resource
from tests.support.variables import noise, variables

JSON = dict[str, Any]


def test_what_is_short_is_kept_as_text() -> None:
    template = {"spec": {"a": "b" * 1000}}
    assert template_text(template) == compact_json(template)
    assert read_template(template_text(template)) == template


def test_the_longest_variables_are_kept_and_read_back() -> None:
    """B16: 64 variables of 4,096 characters were refused with a riddle."""
    of = resource(engine={"type": "VLLM", "env": variables("some words, again and again; " * 141)})
    decision = decide(of, Observed(), plan(of))
    body = next(apply.body for apply in decision.applies if apply.body["kind"] == "Deployment")
    text = body["metadata"]["annotations"][ANNOTATION_TEMPLATE]
    assert len(compact_json(body["spec"]["template"])) > PLAIN_BYTES > len(text)
    child = live(body)
    assert applied_template(child) == decision.template
    assert kept_template(of, child) == decision.template
    again = decide(of, Observed(children={("Deployment", "engine"): child}), plan(of))
    assert [apply.body["kind"] for apply in again.applies] == ["Service"], "nothing is written anew"


def test_what_cannot_be_kept_is_refused_with_what_to_do() -> None:
    of = resource(engine={"type": "VLLM", "env": noise()})
    decision = decide(of, Observed(), plan(of))
    assert [refusal.reason for refusal in decision.refusals] == ["SpecTooLarge"]
    assert "shorten spec.engine.env" in decision.refusals[0].message
    assert decision.applies == ()


def test_a_template_as_text_of_an_older_operator_is_kept() -> None:
    of = resource(engine={"type": "VLLM", "env": variables("x" * 2500)})
    body = next(apply.body for apply in decide(of, Observed(), plan(of)).applies if apply.body["kind"] == "Deployment")
    older = compact_json(body["spec"]["template"])
    assert PLAIN_BYTES < len(older) < 256 << 10
    meta = {**body["metadata"], "annotations": {**body["metadata"]["annotations"], ANNOTATION_TEMPLATE: older}}
    child = child_from({**body, "metadata": {**meta, "uid": "u", "resourceVersion": "1", "generation": 1}})
    assert kept_template(of, child) == json.loads(older)


@pytest.mark.parametrize(
    "text",
    ["", "gzip:", "gzip:?", "gzip:AAAA", "{", template_text({"a": "b" * PLAIN_BYTES})[:-40], "\x00"],
)
def test_a_damaged_annotation_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whichever kind
        read_template(text)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = template_text({"a": "b" * (UNPACKED_BYTES * 8)})
    assert len(bomb) < UNPACKED_BYTES
    with pytest.raises(ValueError):  # noqa: PT011
        read_template(bomb)
