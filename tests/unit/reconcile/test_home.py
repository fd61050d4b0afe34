"""Objects beside the operator, whose token would be in reach of their pods."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_operator.__main__ import parser
from llm_operator.child_options import tool_settings
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.status import status_of
from llm_operator.settings import ToolSettings
from tests.support.build import NOW, plan, resource, serving, situation

SERVED: list[tuple[list[str], str]] = [
    ([], "llm-system"),
    (["--all-namespaces"], "llm-system"),
    (["--namespace=team"], "llm-system"),
    (["--namespace=team", "--namespace=llm-system"], "llm-system"),
    (["--namespace=llm-system"], ""),
    (["--namespace=llm-system", "--namespace=llm-system"], ""),
]


@pytest.mark.parametrize(("words", "home"), SERVED, ids=str)
def test_the_own_namespace_counts_unless_it_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch, words: list[str], home: str
) -> None:
    monkeypatch.setenv("POD_NAMESPACE", "llm-system")
    assert tool_settings(parser().parse_args(words)).home == home
    monkeypatch.delenv("POD_NAMESPACE")
    assert tool_settings(parser().parse_args(words)).home == ""


def test_an_object_beside_the_operator_is_refused() -> None:
    of = resource()
    decision = decide(of, Observed(), plan(of), ToolSettings(home="team"))
    assert [refusal.reason for refusal in decision.refusals] == ["OperatorsNamespace"]
    assert (decision.applies, decision.deletes) == ((), ())
    status = status_of(replace(situation(of, Observed()), decision=decision), NOW)
    ready = status.conditions[0]
    assert (ready.status, ready.reason) == ("False", "OperatorsNamespace")
    assert "metadata.namespace: the operator runs in namespace team" in ready.message


def test_objects_elsewhere_are_not() -> None:
    of = resource()
    assert decide(of, Observed(), plan(of), ToolSettings(home="llm-system")).refusals == ()


def test_what_runs_there_keeps_running() -> None:
    of = resource()
    decision = decide(of, serving(of), plan(of), ToolSettings(home="team"))
    assert (decision.refusals, decision.applies, decision.deletes) == ((), (), ())
