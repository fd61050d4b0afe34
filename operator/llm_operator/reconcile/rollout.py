"""A rollout that the Deployment controller does not begin, and how it is set going. Pure.

The controller scales before it rolls. It takes a Deployment for scaled while the annotation of a ReplicaSet that has
pods names another number than spec.replicas, and it writes the annotation together with the ReplicaSet's size only. If
the size is right already, neither is ever written, and no template is rolled out again: the old pods go on serving.
With maxSurge 0 this is left when replicas are lowered by one between the two first steps of a rollout, where the old
ReplicaSet has one pod less already and the new one has none (kubernetes/kubernetes#102551, seen with 1.36.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_operator.foreign import natural_number
from llm_operator.live.children import Child
from llm_operator.manifests.common import JSON
from llm_operator.reconcile.observed import Observed

ANNOTATION_DESIRED = "deployment.kubernetes.io/desired-replicas"
"""Of a ReplicaSet: spec.replicas of its Deployment when the controller scaled it last."""
SURGE: JSON = {"maxSurge": 1, "maxUnavailable": 0}
"""With one replica less, this is what maxSurge 0 and maxUnavailable 1 are otherwise: one pod is replaced at a time."""
MOST_LOOKED_AT = 4
ENDED = ("Failed", "Succeeded")


def may_stand(observed: Observed) -> tuple[str, ...]:
    """Names of the ReplicaSets that tell whether the rollout stands; empty if it goes on, is done or is paused."""
    child = observed.workload
    if child is None or child.deleting or child.paused or _unseen(child) or not _replicas(child):
        return ()
    if child.status.get("updatedReplicas", 0):
        return ()
    living = (pod for pod in observed.pods if not pod.deleting and pod.phase not in ENDED)
    return tuple(sorted({pod.controller[1] for pod in living if pod.controller[0] == "ReplicaSet"}))[:MOST_LOOKED_AT]


def stands(child: Child, replica_set: Mapping[str, Any]) -> bool:
    """Whether the controller takes a Deployment for scaled, for good, because of this ReplicaSet.

    Args:
        child: a Deployment whose present spec the controller has seen.
        replica_set: as the API server sent it.
    """
    meta, spec = replica_set.get("metadata") or {}, replica_set.get("spec") or {}
    owners = meta.get("ownerReferences") or ()
    if not any(owner.get("uid") == child.uid and owner.get("controller") for owner in owners):
        return False
    desired = str((meta.get("annotations") or {}).get(ANNOTATION_DESIRED, ""))
    replicas = _replicas(child)
    # The controller ignores an annotation that is not a number.
    return spec.get("replicas") == replicas and natural_number(desired) is not None and desired != str(replicas)


def set_going(body: JSON, observed: Observed) -> JSON:
    """The Deployment to be written: while its rollout stands, with one replica less, which the controller carries out.

    The same pods run and end as in any rollout. The number of the spec is written once the controller has seen the
    lower one and a pod of the new template has come: both seen at once would be no change.

    Args:
        body: the Deployment as it is to be in the end.
        observed: what is there.
    """
    child = observed.workload
    wanted: int = body["spec"]["replicas"]
    if child is None or not wanted or not (observed.rollout_stands or _is_lowered(child, wanted)):
        return body
    strategy = {**body["spec"]["strategy"], "rollingUpdate": SURGE}
    return {**body, "spec": {**body["spec"], "replicas": wanted - 1, "strategy": strategy}}


def _is_lowered(child: Child, wanted: int) -> bool:
    """Whether the lower number was written and has not worked yet."""
    spec = child.body()["spec"]
    if (spec.get("strategy") or {}).get("rollingUpdate") != SURGE or _replicas(child) != wanted - 1 or child.paused:
        return False
    return _unseen(child) or (wanted > 1 and not child.status.get("updatedReplicas", 0))


def _unseen(child: Child) -> bool:
    return child.generation > child.status.get("observedGeneration", 0)


def _replicas(child: Child) -> int:
    found = child.body()["spec"].get("replicas", 0)
    return found if isinstance(found, int) else 0
