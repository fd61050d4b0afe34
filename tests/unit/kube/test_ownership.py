"""Whose an object is that has the name of one of ours: its controller decides, and nothing that can be copied."""

from __future__ import annotations

from typing import Any

import pytest

from llm_operator.kube.ownership import ForeignError, check_ours

JSON = dict[str, Any]
OURS: JSON = {"apiVersion": "llm-operator.dev/v1alpha1", "kind": "LLMDeployment", "name": "demo", "uid": "1"}
EARLIER: JSON = {**OURS, "uid": "0", "controller": True}
THEIRS: JSON = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "2", "controller": True}
CONTROLLED: JSON = {**OURS, "controller": True}
LABELS = {"app.kubernetes.io/managed-by": "llm-operator"}
KINDS = ("Deployment", "Service", "Job", "PersistentVolumeClaim", "ControllerRevision", "NetworkPolicy")


def made(kind: str, *owners: JSON) -> JSON:
    return {"kind": kind, "metadata": {"name": "demo", "labels": LABELS, "ownerReferences": list(owners)}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "owners",
    [[], [THEIRS], [EARLIER], [OURS, THEIRS], [THEIRS, OURS], [{**THEIRS, "controller": None}]],
    ids=["none", "another", "an earlier life", "ours and another", "another and ours", "another, not its controller"],
)
def test_what_another_controls_or_nobody_owns_is_not_ours(kind: str, owners: list[JSON]) -> None:
    with pytest.raises(ForeignError, match="rename this object"):
        check_ours(made(kind, CONTROLLED), made(kind, *owners))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("owners", [[CONTROLLED], [OURS], [CONTROLLED, {**THEIRS, "controller": False}]])
def test_what_our_object_owns_is_ours(kind: str, owners: list[JSON]) -> None:
    check_ours(made(kind, CONTROLLED), made(kind, *owners))


def test_what_has_no_owner_by_design_is_ours_by_its_label() -> None:
    check_ours(made("PersistentVolumeClaim"), made("PersistentVolumeClaim"))
    check_ours(made("PersistentVolumeClaim"), made("PersistentVolumeClaim", {**THEIRS, "controller": False}))
    with pytest.raises(ForeignError):
        check_ours(made("PersistentVolumeClaim"), made("PersistentVolumeClaim", THEIRS))
    with pytest.raises(ForeignError):
        check_ours(made("PersistentVolumeClaim"), {"kind": "PersistentVolumeClaim", "metadata": {"name": "demo"}})
