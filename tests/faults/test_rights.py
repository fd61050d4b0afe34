"""One verb of one kind is taken from the operator's ClusterRole, something needs it, and it is given back.

The object must say WriteRefused or ReadRefused and name what was refused, for few requests; once the right is back, all
must be as before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from llm_operator.api import KIND
from llm_operator.manifests.kinds import KINDS, Verb
from llm_operator.manifests.revision import REVISION
from tests.faults.conftest import Effort, Result
from tests.faults.scenarios import create, delete, drift, patch, ready
from tests.faults.twins import comparable
from tests.faults.world import Case, World
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200), pytest.mark.long]

JSON = dict[str, Any]
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
REFUSALS = ("WriteRefused", "ReadRefused")
SPEC: JSON = {"replicas": 2, "webUI": {}}
ARGUMENTS = ("--no-leader-elect", "--no-gpu-inventory", "--network-policies")
MOST_REQUESTS = 20.0
"""A second, of an operator with one object that is refused."""
WATCHED_SECONDS = 5.0
FOREIGN_LABEL = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}
Act = Callable[[Case], None]


@dataclass(frozen=True)
class Loss:
    """A right that is taken.

    Attributes:
        kind: whose.
        verb: that is refused.
        act: needs it.
        undo: makes the object what it was before, once the right is back.
        name: of our object whose status reports it.
    """

    kind: str
    verb: Verb
    act: Act
    undo: Act | None = None
    name: str = "demo"


def without(rules: list[JSON], kind: str, verb: str) -> list[JSON]:
    """A role's rules without one verb of one kind."""
    row, left = KINDS[kind], []
    for rule in rules:
        if row.group not in rule.get("apiGroups", ()) or row.plural not in rule.get("resources", ()):
            left.append(rule)
            continue
        others = [one for one in rule["resources"] if one != row.plural]
        verbs = [one for one in rule["verbs"] if one != verb]
        left += [{**rule, "resources": others}] if others else []
        left += [{**rule, "resources": [row.plural], "verbs": verbs}] if verbs else []
    assert left != rules, f"nothing grants {verb} of {kind}"
    return left


def label(kind: str) -> Act:
    """Edit a label of a child, which the operator sets right."""

    def act(case: Case) -> None:
        for name in case.space.names(kind):
            case.space.patch(name, FOREIGN_LABEL, kind)

    return act


def lose(kind: str) -> Act:
    """Delete every child of a kind, which the operator makes again."""

    def act(case: Case) -> None:
        for name in case.space.names(kind):
            case.space.delete(kind, name)

    return act


def cached(case: Case) -> None:
    """One more object, with a separate cache."""
    model = {"huggingFace": {"repository": "org/model"}}
    create("cached", model=model, cache={"size": "1Gi"})(case)


UNCACHED = delete("cached")
LOSSES = (
    *(Loss(kind, "create", lose(kind)) for kind in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy")),
    *(Loss(kind, "patch", label(kind)) for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy")),
    Loss("Deployment", "patch", drift),
    Loss("Deployment", "delete", patch({"webUI": None}), patch({"webUI": {}})),
    Loss("Service", "delete", patch({"webUI": None}), patch({"webUI": {}})),
    Loss("PodDisruptionBudget", "delete", patch({"replicas": 1}), patch({"replicas": 2})),
    Loss("NetworkPolicy", "delete", patch({"webUI": None}), patch({"webUI": {}})),
    Loss(REVISION, "create", patch({"contextLength": 2048}), patch({"contextLength": None})),
    Loss("Job", "create", cached, UNCACHED, "cached"),
    Loss("PersistentVolumeClaim", "create", cached, UNCACHED, "cached"),
    Loss("PersistentVolumeClaim", "get", cached, UNCACHED, "cached"),
)


def refusals(case: Case, name: str) -> list[str]:
    """What an object's conditions say of refused requests."""
    status = (case.space.get(KIND, name) or {}).get("status") or {}
    entries = status.get("conditions") or ()
    return [f"{entry['reason']}: {entry['message']}" for entry in entries if entry["reason"] in REFUSALS]


def test_each_verb_is_taken_and_given_back(
    world: World, effort: Effort, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    deadline, highest = effort.deadline(), 0.0
    with (
        measured("one verb of one kind taken and given back", "verbs") as result,
        Case(world, "verbs", arguments=ARGUMENTS) as case,
    ):
        create(**SPEC)(case)
        expected = comparable(case.rest(ready()))
        for loss in LOSSES:
            if time.monotonic() > deadline:
                break
            result.count += 1
            wrong, rate = taken(world, case, loss, expected)
            highest = max(highest, rate)
            if wrong:
                result.failures.append(f"{loss.verb} of {loss.kind}: {wrong}")
                print(result.failures[-1], flush=True)
        result.note = f"of {len(LOSSES)}; at most {highest:.0f} requests/s"
        result.failures += [text for text in (case.complaints(),) if text]


def taken(world: World, case: Case, loss: Loss, expected: JSON) -> tuple[str, float]:
    """Take one right and give it back; what went wrong, and requests a second meanwhile."""
    names = {body["metadata"]["name"] for body in world.rights() if body["kind"] == "ClusterRole"}
    row = KINDS[loss.kind]
    roles = [
        role
        for role in world.plane.request("GET", ROLES)["items"]
        if role["metadata"]["name"] in names
        and any(
            row.plural in rule.get("resources", ()) and loss.verb in rule["verbs"] for rule in role.get("rules") or ()
        )
    ]
    wrong, rate = "", 0.0
    try:
        for role in roles:
            set_rules(world, role, without(role["rules"], loss.kind, loss.verb))
        loss.act(case)
        try:
            eventually(
                lambda: any(row.plural in text for text in refusals(case, loss.name)), why="a refusal", seconds=45
            )
        except AssertionError:
            body = case.space.get(KIND, loss.name) or {}
            wrong = f"said nowhere: {body.get('status')}\n{case.log.read_text()[-2000:]}"
        before = sum(case.proxy.requests.values())
        time.sleep(WATCHED_SECONDS)
        rate = (sum(case.proxy.requests.values()) - before) / WATCHED_SECONDS
    finally:
        for role in roles:
            set_rules(world, role, role["rules"])
    if rate > MOST_REQUESTS:
        wrong += f"{rate:.0f} requests a second"
    if loss.undo is not None:
        # First what the act needs is to be done, or its undoing would hide that it never is.
        try:
            eventually(lambda: not refusals(case, loss.name), why="healed", seconds=150)
        except AssertionError:
            wrong += f"not healed: {refusals(case, loss.name)}"
        loss.undo(case)
    return wrong + case.settle(expected, reduced=comparable, seconds=150), rate


def set_rules(world: World, role: JSON, rules: list[JSON]) -> None:
    """Write a role's rules, and wait until the API server goes by them."""
    path = f"{ROLES}/{role['metadata']['name']}"
    world.plane.request("PATCH", path, {"rules": rules}, "application/merge-patch+json")
    time.sleep(1)
