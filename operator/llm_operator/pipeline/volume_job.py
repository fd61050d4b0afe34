"""The Jobs that verify and remove what lies on a claim. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.common import (
    JSON,
    LABEL_MANAGED_BY,
    MANAGER,
    compact_json,
)
from llm_operator.manifests.model_volume import claim_labels, claim_volume
from llm_operator.manifests.tools import (
    LABEL_STAGE,
    pod_security,
    restricted_container,
)
from llm_operator.pipeline.artifacts import (
    ANNOTATION_SOURCE,
    LABEL_ARTIFACT,
    removal_name,
    verification_name,
)
from llm_operator.pipeline.tool_pod import RECOMMENDED, ROOT, claim_owner, failure_rules, mount, tool_pod
from llm_operator.settings import ToolSettings

VERIFY_MIB_PER_SECOND = 100
"""A verification may wait; an engine that loads its weights from the same disk may not."""

LEAST_VERIFY_SECONDS = 3600
"""Also for a small model: the pod waits for room on its node."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a Job is to compare with its hashes.

    Attributes:
        claim: the claim.
        directory: path on it.
        bytes: of its files, as far as known.
    """

    claim: ClaimFacts
    directory: str
    bytes: int = 0


def verify_job(namespace: str, work: Verification, tools: ToolSettings, placement: Mapping[str, Any]) -> JSON:
    """The Job that compares one model on a claim with its hashes.

    It may write, to say on the claim that the directory is not what it was; it changes no file of the model.

    Args:
        namespace: the claim's.
        work: the claim, the directory and its size.
        tools: the operator's settings.
        placement: node selector, tolerations, affinity and pull secrets of the Job that made it.
    """
    arguments = [
        "verify",
        "--root",
        ROOT,
        "--directory",
        work.directory,
        "--mib-per-second",
        str(VERIFY_MIB_PER_SECOND),
    ]
    body = _volume_job(namespace, verification_name(work.claim.name, work.directory), work.claim, arguments, tools)
    body["metadata"]["annotations"] = {
        ANNOTATION_SOURCE: compact_json({"claimName": work.claim.name, "directory": work.directory})
    }
    body["spec"]["template"]["spec"] |= placement
    body["spec"]["activeDeadlineSeconds"] = LEAST_VERIFY_SECONDS + 2 * work.bytes // (VERIFY_MIB_PER_SECOND << 20)
    body["spec"]["podFailurePolicy"] = {"rules": failure_rules()}
    return body


def remove_job(
    namespace: str, claim: ClaimFacts, directory: str, tools: ToolSettings, placement: Mapping[str, Any]
) -> JSON:
    """The Job that removes one model, or partial output, from a claim.

    Args:
        namespace: the claim's.
        claim: the claim.
        directory: path on it; of partial output, the directory that is written before it is complete.
        tools: the operator's settings.
        placement: node selector, tolerations, affinity and pull secrets of the Job that made it.
    """
    arguments = ["remove", "--root", ROOT, "--directory", directory]
    body = _volume_job(namespace, removal_name(claim.name, directory), claim, arguments, tools)
    body["spec"]["template"]["spec"] |= placement
    return body


def _volume_job(namespace: str, name: str, claim: ClaimFacts, arguments: list[str], tools: ToolSettings) -> JSON:
    """A Job of the model tools that does something with what lies on a claim."""
    _, stage, digest = name.split("-")
    labels = {LABEL_MANAGED_BY: MANAGER, LABEL_STAGE: stage, LABEL_ARTIFACT: digest, **RECOMMENDED}
    labels |= claim_labels(claim.name)
    container = {
        **restricted_container(tools, arguments),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "volumeMounts": [mount("model", ROOT), mount("tmp", "/tmp")],  # noqa: S108
    }
    # The files are the Job's that made them, and so need no change of their owner.
    security = pod_security(tools, writes=False)
    pod = tool_pod([container], [claim_volume("model", claim.name, read_only=False)], security)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [claim_owner(claim)],
        },
        "spec": {"backoffLimit": 2, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
