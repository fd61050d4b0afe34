"""What all Jobs of the model tools have in common. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from llm_operator import __version__
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.common import (
    JSON,
    LABEL_VERSION,
    PART_OF,
)
from llm_operator.manifests.tools import (
    CONTAINER,
)

ROOT = "/models"

FINAL_EXIT_CODES = (2, 3)
"""The model tools end with 3 where another try would change nothing, and argparse with 2."""

RECOMMENDED: Mapping[str, str] = {
    "app.kubernetes.io/name": "llm-model-tools",
    "app.kubernetes.io/component": "model-tools",
    "app.kubernetes.io/part-of": PART_OF,
    LABEL_VERSION: __version__,
}
"""Labels of all Jobs. Many objects share a Job, so none is its instance."""


def failure_rules() -> list[JSON]:
    """When a Job of the tools has failed."""
    final = {"containerName": CONTAINER, "operator": "In", "values": list(FINAL_EXIT_CODES)}
    return [
        {"action": "FailJob", "onExitCodes": final},
        # A drained node or a preempted pod is not a failure of the Job.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def tool_pod(containers: list[JSON], volumes: list[JSON], security: JSON) -> JSON:
    """What every pod of the tools has in common."""
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security,
        "containers": containers,
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
    }


def claim_owner(claim: ClaimFacts) -> JSON:
    """The owner reference of a Job that fills a claim."""
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.name, "uid": claim.uid}


def mount(name: str, path: str, *, read_only: bool = False) -> JSON:
    """A mount of a volume in a container."""
    return {"name": name, "mountPath": path, "readOnly": read_only}
