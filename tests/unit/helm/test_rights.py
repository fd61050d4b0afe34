"""The rights that the chart grants: those that are used, and no more."""

from __future__ import annotations

import pytest

from llm_operator.manifests.kinds import KINDS, Grant
from tests.support.chart import (
    EVERYTHING,
    JSON,
    NAMESPACE,
    VALUE_SETS,
    Helm,
    of_kind,
    only,
)

Rights = dict[tuple[str, str], set[str]]
"""Verbs by group and resource."""
CLUSTER_ROLE = f"llm-llm-operator:{NAMESPACE}"

LEASES = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
LEADER_RULES = [
    {**LEASES, "resourceNames": ["llm-llm-operator"], "verbs": ["get", "update"]},
    {**LEASES, "verbs": ["create"]},
    {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": ["llm-llm-operator-learned"],
        "verbs": ["get", "patch"],
    },
]


def needed(grant: Grant) -> Rights:
    """What the operator does, by the table of kinds; the client refuses everything else."""
    rights: Rights = {}
    for row in KINDS.values():
        if row.grant == grant:
            for name, verbs in {"": row.verbs, **row.subresources}.items():
                rights[row.group, f"{row.plural}/{name}" if name else row.plural] = set(verbs)
    return rights


def roles(objects: list[JSON]) -> dict[tuple[str, str, str], list[JSON]]:
    """The rules of every role that is bound to the operator."""
    return {
        (entry["kind"], entry["metadata"].get("namespace", ""), entry["metadata"]["name"]): entry["rules"]
        for kind in ("ClusterRole", "Role")
        for entry in of_kind(objects, kind)
        if not entry["metadata"]["name"].endswith((":viewer", ":editor", ":metrics-reader"))
    }


def granted(objects: list[JSON]) -> dict[tuple[str, str, str], Rights]:
    rights: dict[tuple[str, str, str], Rights] = {}
    for role, rules in roles(objects).items():
        rights[role] = {}
        for rule in rules:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    rights[role].setdefault((group, resource), set()).update(rule["verbs"])
    return rights


def without(rights: Rights, *resources: str) -> Rights:
    return {key: verbs for key, verbs in rights.items() if key[1] not in resources}


def test_the_chart_grants_exactly_the_rights_in_the_table_of_kinds(helm: Helm) -> None:
    """That they suffice, too, is shown on an API server (tests/cluster/test_chart.py)."""
    assert granted(helm.template({"metrics": {"authentication": {"enabled": True}}})) == {
        ("ClusterRole", "", CLUSTER_ROLE): needed("workloads"),
        ("ClusterRole", "", f"{CLUSTER_ROLE}:gpu-inventory"): needed("gpu-inventory"),
        ("ClusterRole", "", f"{CLUSTER_ROLE}:metrics-authentication"): needed("metrics-authentication"),
        ("Role", NAMESPACE, "llm-llm-operator-leader"): needed("leader"),
    }


def test_namespaced_mode_grants_the_same_rights_in_each_namespace_and_none_beyond(helm: Helm) -> None:
    objects = helm.template(VALUE_SETS["namespaced"])
    assert granted(objects) == {
        ("Role", "team-a", CLUSTER_ROLE): needed("workloads"),
        ("Role", "team-b", CLUSTER_ROLE): needed("workloads"),
        ("Role", NAMESPACE, "llm-llm-operator-leader"): needed("leader"),
    }
    assert of_kind(objects, "ClusterRoleBinding") == []


def test_the_leaders_rights_are_on_objects_of_one_name(helm: Helm) -> None:
    assert roles(helm.template({}))["Role", NAMESPACE, "llm-llm-operator-leader"] == LEADER_RULES


def test_rights_on_logs_can_be_left_out(helm: Helm) -> None:
    rights = granted(helm.template({"rbac": {"podLogs": False}}))["ClusterRole", "", CLUSTER_ROLE]
    assert rights == without(needed("workloads"), "pods/log")


def test_rights_on_claims_go_with_the_model_tools(helm: Helm) -> None:
    rights = granted(helm.template({"modelTools": {"enabled": False}}))["ClusterRole", "", CLUSTER_ROLE]
    assert rights == without(needed("workloads"), "persistentvolumeclaims")


def test_every_binding_names_a_rendered_role_and_the_service_account(helm: Helm) -> None:
    for values in (EVERYTHING, VALUE_SETS["namespaced"]):
        objects = helm.template(values)
        known = {(kind, namespace, name) for kind, namespace, name in roles(objects)}
        account = only(objects, "ServiceAccount")["metadata"]
        bindings = of_kind(objects, "RoleBinding") + of_kind(objects, "ClusterRoleBinding")
        bound = {
            (entry["roleRef"]["kind"], entry["metadata"].get("namespace", ""), entry["roleRef"]["name"])
            for entry in bindings
        }
        assert bound == known
        for entry in bindings:
            assert entry["subjects"] == [
                {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
            ]


@pytest.mark.parametrize("name", VALUE_SETS)
def test_no_role_has_wildcards_secrets_or_escalation(helm: Helm, name: str) -> None:
    objects = helm.template(VALUE_SETS[name])
    for entry in of_kind(objects, "Role") + of_kind(objects, "ClusterRole"):
        for rule in entry["rules"]:
            said = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not said & {"*", "secrets", "rbac.authorization.k8s.io", "escalate", "bind", "impersonate"}


def test_viewers_and_editors_are_aggregated(helm: Helm) -> None:
    objects = {entry["metadata"]["name"].rsplit(":")[-1]: entry for entry in of_kind(helm.template({}), "ClusterRole")}
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    targets = {
        name: {label.removeprefix(prefix) for label in objects[name]["metadata"]["labels"] if label.startswith(prefix)}
        for name in ("viewer", "editor")
    }
    assert targets == {"viewer": {"view", "edit", "admin"}, "editor": {"edit", "admin"}}
    assert {verb for rule in objects["viewer"]["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
