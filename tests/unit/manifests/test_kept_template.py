"""Every spec that the API server takes is kept in a revision, or refused with what to do; annotations are read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from llm_operator.manifests.common import ANNOTATION_TEMPLATE, compact_json
from llm_operator.manifests.kept_template import UNPACKED_BYTES, read_template
from llm_operator.manifests.revision import CONTENT_BYTES, REVISION
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.rendered import applied_template, kept_rendering
from tests.support.build import applied, made_by_an_older_operator, once_written, plan, resource
from tests.support.older import PLAIN_BYTES, template_text
from tests.support.variables import noise, variables, wide

JSON = dict[str, Any]


@pytest.mark.parametrize("env", [noise(), wide(55)], ids=["noise", "wide"])
def test_the_longest_variables_are_kept_and_read_back(env: list[JSON]) -> None:
    """B16: 64 variables of 4,096 characters were refused with a riddle."""
    of = resource(engine={"type": "VLLM", "env": env})
    decision = decide(of, Observed(), plan(of))
    assert PLAIN_BYTES < len(compact_json(decision.template)) < CONTENT_BYTES
    seen = once_written(decision.applies)
    assert applied_template(of, seen) == decision.template
    kept = kept_rendering(of, seen)
    assert kept is not None
    assert kept.template == decision.template
    assert decide(of, seen, plan(of)).applies == (), "nothing is written anew"


def test_what_cannot_be_kept_is_refused_with_what_to_do() -> None:
    of = resource(engine={"type": "VLLM", "env": wide(63)})
    decision = decide(of, Observed(), plan(of))
    assert [refusal.reason for refusal in decision.refusals] == ["SpecTooLarge"]
    assert "shorten spec.engine.env" in decision.refusals[0].message
    assert decision.applies == ()


@pytest.mark.parametrize("text", ["x" * 1000, "x" * 2500], ids=["text", "packed"])
def test_a_template_of_an_older_operator_becomes_a_revision(text: str) -> None:
    of = resource(engine={"type": "VLLM", "env": variables(text)})
    older = made_by_an_older_operator(applied(of))
    told = older.children["Deployment", "engine"].body()["metadata"]["annotations"][ANNOTATION_TEMPLATE]
    assert told.startswith("gzip:") is (len(text) > 2000)
    revision, deployment = decide(of, older, plan(of)).applies
    assert revision.body["kind"] == REVISION
    assert revision.body["data"]["template"] == deployment.body["spec"]["template"] == read_template(told)
    assert ANNOTATION_TEMPLATE not in deployment.body["metadata"]["annotations"]


def test_a_template_as_long_text_of_a_still_older_operator_is_kept() -> None:
    of = resource(engine={"type": "VLLM", "env": variables("x" * 2500)})
    seen = applied(of)
    template = applied_template(of, seen)
    text = compact_json(template)
    assert PLAIN_BYTES < len(text) < 256 << 10
    older = made_by_an_older_operator(seen, **{ANNOTATION_TEMPLATE: text})
    kept = kept_rendering(of, replace(older))
    assert kept is not None
    assert kept.template == json.loads(text)


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
