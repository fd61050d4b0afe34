"""The kinds of the API server that the operator works with: one row for each.

From this table follow the paths of every request, what is watched and relisted, how the cache keeps it, and the rights
that the chart grants: the client refuses a verb that is not in the row, and a test compares the rows with the chart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from llm_operator.api import GROUP, KIND, PLURAL, VERSION
from llm_operator.manifests.common import LABEL_MANAGED_BY, MANAGER

Verb = Literal["get", "list", "watch", "create", "patch", "update", "delete"]
Reduction = Literal["object", "child", "revision", "job", "pod"]
"""What the cache keeps: an LLMDeployment whole, a child's text and status, which revisions there are, a Job of the
model tools, a pod's state."""
Grant = Literal["workloads", "gpu-inventory", "leader", "metrics-authentication"]
"""A role of the chart (helm/llm-operator/templates/rbac.yaml)."""

OURS = f"{LABEL_MANAGED_BY}={MANAGER}"
"""Label selector of everything that the operator makes."""
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""What a request accepts to get the metadata of an object alone."""


@dataclass(frozen=True, slots=True)
class KindRow:
    """One kind: where it is, how it is watched, and what the operator does with it."""

    name: str
    group: str
    """Empty for the core group."""
    version: str
    plural: str
    verbs: tuple[Verb, ...]
    """Everything that the operator does with it. An apply needs `patch`, and `create` for a new object."""
    namespaced: bool = True
    reduced: Reduction | None = None
    """How the cache keeps it. Exactly what is kept is watched and relisted; None: it is read when it is needed."""
    selector: str = OURS
    """Label selector of its watch and its lists; empty for all objects of the kind."""
    metadata_only: bool = False
    """Only its metadata is watched and listed: what it holds is read by name, and only of the one that matters."""
    made_once: bool = False
    """It is what it was made for: a creation that finds one of that name takes it as it is."""
    subresources: Mapping[str, tuple[Verb, ...]] = field(default_factory=dict)
    """Verbs by subresource."""
    workload: bool = False
    """It runs pods of an engine or a chat page (reconcile/workload.py)."""
    grant: Grant = "workloads"
    """The role that grants the verbs."""

    @property
    def group_path(self) -> str:
        """Path of its group and version: `/api/v1`, `/apis/apps/v1`."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None = None) -> str:
        """Path of its objects: in one namespace, or with None in all of them."""
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace is not None else ""
        return f"{self.group_path}{inside}/{self.plural}"

    def accept(self, *, of_list: bool) -> str:
        """What a list or a watch of it accepts."""
        if not self.metadata_only:
            return "application/json"
        return METADATA.replace("PartialObjectMetadata", "PartialObjectMetadataList") if of_list else METADATA

    def items(self, page: Mapping[str, object]) -> object:
        """The objects of a page of a list, as it was answered: of metadata alone, an empty one has null for them."""
        items = page.get("items")
        empty = self.metadata_only and items is None and page.get("kind") == "PartialObjectMetadataList"
        return [] if empty else items

    def needs(self, verb: Verb, subresource: str = "") -> None:
        """Check that a request is one for which the chart grants the right.

        Raises:
            ValueError: the verb is not in the row.
        """
        if verb not in (self.subresources.get(subresource, ()) if subresource else self.verbs):
            what = f"{self.name}/{subresource}" if subresource else self.name
            raise ValueError(f"{verb} of {what} is not in the table of kinds, so the chart does not grant it")


_ALL: tuple[Verb, ...] = ("get", "list", "watch", "create", "patch", "delete")

_ROWS = (
    KindRow(
        KIND,
        GROUP,
        VERSION,
        PLURAL,
        ("list", "watch"),
        reduced="object",
        selector="",
        # finalizers: nothing is written. The admission plugin OwnerReferencesPermissionEnforcement requires the right
        # before what belongs to an object may hold up its foreground deletion.
        subresources={"status": ("patch",), "finalizers": ("update",)},
    ),
    KindRow("Deployment", "apps", "v1", "deployments", _ALL, reduced="child", workload=True),
    KindRow("Service", "", "v1", "services", _ALL, reduced="child"),
    KindRow("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", _ALL, reduced="child"),
    KindRow("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies", _ALL, reduced="child"),
    # patch: labels that somebody edited away.
    KindRow(
        "ControllerRevision",
        "apps",
        "v1",
        "controllerrevisions",
        _ALL,
        reduced="revision",
        metadata_only=True,
        made_once=True,
    ),
    KindRow("Job", "batch", "v1", "jobs", _ALL, reduced="job", made_once=True),
    # create: only as a dry run, to learn whether the pod of a template would be admitted.
    KindRow("Pod", "", "v1", "pods", ("list", "watch", "create"), reduced="pod", subresources={"log": ("get",)}),
    KindRow("ReplicaSet", "apps", "v1", "replicasets", ("get",)),
    KindRow("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims", ("get", "create"), made_once=True),
    # list: of one object that waits, to learn what for.
    KindRow("Event", "", "v1", "events", ("list", "create")),
    KindRow("Node", "", "v1", "nodes", ("list",), namespaced=False, grant="gpu-inventory"),
    KindRow("ConfigMap", "", "v1", "configmaps", ("get", "patch"), grant="leader"),
    # Of the leader's election (kube/lease.py).
    KindRow("Lease", "coordination.k8s.io", "v1", "leases", ("get", "create", "update"), grant="leader"),
    KindRow(
        "TokenReview",
        "authentication.k8s.io",
        "v1",
        "tokenreviews",
        ("create",),
        namespaced=False,
        grant="metrics-authentication",
    ),
    KindRow(
        "SubjectAccessReview",
        "authorization.k8s.io",
        "v1",
        "subjectaccessreviews",
        ("create",),
        namespaced=False,
        grant="metrics-authentication",
    ),
)

KINDS: Mapping[str, KindRow] = MappingProxyType({row.name: row for row in _ROWS})
"""Every row by the name of its kind."""
WATCHED: tuple[KindRow, ...] = tuple(row for row in _ROWS if row.reduced is not None)
"""What is watched: LLMDeployments first, then what belongs to them."""
CHILD_KINDS: tuple[str, ...] = tuple(row.name for row in _ROWS if row.reduced == "child")
"""What an LLMDeployment owns and the operator keeps as it should be."""
WORKLOAD_KINDS: tuple[str, ...] = tuple(row.name for row in _ROWS if row.workload)
"""Those of them that run pods."""
