"""A claim that was made before is used if it is at least what the spec asks for, and reported if it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_operator.live.claims import ClaimFacts
from llm_operator.pipeline.claims import needed_claims
from llm_operator.reconcile.decide import decide
from tests.support.build import plan
from tests.support.model_jobs import TOOLS, cached, seen
from tests.unit.pipeline.decided import conditions

CACHE: dict[str, Any] = {"size": "20Gi"}


def made(of: Any, **fields: Any) -> ClaimFacts:
    (name,) = needed_claims(of)
    known = ClaimFacts(name, "claim-uid", single_node=True, managed=True, owner_uid=of.metadata.uid)
    return replace(known, **{"storage_class": "slow", "size": "20Gi", **fields})


@pytest.mark.parametrize(
    ("cache", "claim", "words"),
    [
        ({}, {"size": "10Gi"}, "spec.cache.size is 20Gi"),
        ({}, {"size": "20479Mi"}, "spec.cache.size is 20Gi"),
        ({"accessMode": "ReadWriteMany"}, {}, "spec.cache.accessMode is ReadWriteMany"),
        ({"storageClassName": "fast"}, {}, "its StorageClass is slow"),
        ({"storageClassName": "fast"}, {"storage_class": None}, "its StorageClass is not set"),
        ({"retentionPolicy": "Retain"}, {}, "metadata.ownerReferences"),
    ],
)
def test_what_is_less_than_asked_for_is_reported(cache: dict[str, Any], claim: dict[str, Any], words: str) -> None:
    of = cached(cache={**CACHE, **cache})
    observed = seen(**{needed_claims(of)[0]: made(of, **claim)})
    decision = decide(of, observed, plan(of), TOOLS)
    assert decision.applies == ()
    assert decision.preparation is not None
    assert decision.preparation.claim_missing, "it is looked at again: somebody may change the claim"
    assert decision.preparation.trouble is not None
    assert words in decision.preparation.trouble.message
    found = conditions(of, observed)
    assert found["Stalled"] == ("True", "ClaimDiffers")


@pytest.mark.parametrize(
    ("cache", "claim"),
    [
        ({}, {}),
        ({}, {"size": "20480Mi"}),
        ({}, {"size": "40Gi"}),
        ({}, {"size": ""}),
        ({}, {"size": "?"}),
        ({}, {"single_node": False}),
        ({}, {"owner_uid": None}),
        ({"storageClassName": "slow"}, {}),
        ({"retentionPolicy": "Delete"}, {}),
        ({"retentionPolicy": "Retain"}, {"owner_uid": None}),
    ],
)
def test_what_is_enough_is_used(cache: dict[str, Any], claim: dict[str, Any]) -> None:
    of = cached(cache={**CACHE, **cache})
    observed = seen(**{needed_claims(of)[0]: made(of, **claim)})
    assert [apply.body["kind"] for apply in decide(of, observed, plan(of), TOOLS).applies] == ["Job"]


@pytest.mark.parametrize("owner", ["StatefulSet 'demo'", "LLMDeployment 'another'"])
def test_a_claim_that_somebody_else_controls_is_not_one_that_goes(owner: str) -> None:
    of = cached(cache=CACHE)
    observed = seen(**{needed_claims(of)[0]: made(of, owner_uid="another-uid", owner=owner)})
    assert conditions(of, observed)["Stalled"] == ("True", "NameConflict")
    assert decide(of, observed, plan(of), TOOLS).applies == ()


def test_a_claim_of_an_earlier_life_goes() -> None:
    of = cached(cache=CACHE)
    name = of.metadata.name
    observed = seen(**{needed_claims(of)[0]: made(of, owner_uid="another-uid", owner=f"LLMDeployment {name!r}")})
    assert conditions(of, observed)["Ready"] == ("False", "ClaimTerminating")
