"""The Job that makes one artifact: fetch, inspect, quantize or convert. Pure."""

from __future__ import annotations

from dataclasses import replace

from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.common import (
    JSON,
    LABEL_MANAGED_BY,
    LABEL_VERSION,
    MANAGER,
    carried_annotations,
    compact_json,
    owner_reference,
)
from llm_operator.manifests.model_source import digest_of
from llm_operator.manifests.model_volume import claim_labels, same_node
from llm_operator.manifests.overlay import merged
from llm_operator.manifests.pod import node_selector, tolerations
from llm_operator.manifests.tools import CONTAINER, LABEL_STAGE, pod_security
from llm_operator.manifests.trust import bundles_of, with_trust
from llm_operator.pipeline.artifacts import (
    ANNOTATION_JOB_TEMPLATE,
    ANNOTATION_LEFTOVER,
    ANNOTATION_MADE_FOR,
    ANNOTATION_SOURCE,
    LABEL_ARTIFACT,
)
from llm_operator.pipeline.request import JobRequest
from llm_operator.pipeline.stage_pod import convert_parts, fetch_parts, inspect_parts, quantize_parts
from llm_operator.pipeline.tool_pod import RECOMMENDED, claim_owner, failure_rules, tool_pod

BACKOFF_LIMIT = 4

INSPECT_SECONDS = 120


def model_job(request: JobRequest) -> JSON:
    """The Job for one artifact."""
    resource, artifact = request.resource, request.artifact
    carried = carried_annotations(resource)
    annotations = {
        **carried,
        ANNOTATION_SOURCE: compact_json(artifact.about),
        ANNOTATION_MADE_FOR: resource.metadata.name,
        ANNOTATION_JOB_TEMPLATE: template_digest(request),
    }
    if request.leftover:
        annotations[ANNOTATION_LEFTOVER] = request.leftover
    # The claim owns what fills it: many objects share the Job, and it ends with the volume.
    owner = claim_owner(request.claim) if request.claim and request.claim.uid else owner_reference(resource)
    job: JSON = {
        "backoffLimit": BACKOFF_LIMIT,
        "podFailurePolicy": {
            "rules": failure_rules(),
        },
        "template": job_template(request),
    }
    if artifact.stage == "inspect":
        # What cannot be inspected is served without a plan rather than not at all.
        job["activeDeadlineSeconds"] = INSPECT_SECONDS
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": artifact.job_name,
            "namespace": resource.metadata.namespace,
            "labels": _labels(request),
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": job,
    }


def job_template(request: JobRequest) -> JSON:
    """The pod template of the Job for one artifact."""
    builders = {"inspect": inspect_parts, "fetch": fetch_parts, "quantize": quantize_parts, "convert": convert_parts}
    resource, parts = request.resource, builders[request.artifact.stage](request)
    claims = _claims(request)
    spec: JSON = {
        **tool_pod(parts.containers, parts.volumes, pod_security(request.tools, writes=_may_give(request))),
        # Where the engine will run: a volume may be bound to the zone or node of its first pod.
        "tolerations": tolerations(resource.spec),
        "nodeSelector": node_selector(resource.spec),
    }
    if parts.init:
        spec["initContainers"] = parts.init
    if resource.spec.image_pull_secrets:
        spec["imagePullSecrets"] = [secret.to_json() for secret in resource.spec.image_pull_secrets]
    if claims and claims[0].single_node:
        spec["affinity"] = same_node(claims[0].name)
    bundles = bundles_of(resource.spec, request.tools)
    spec = with_trust(spec, bundles, (CONTAINER,), request.tools.image, request.tools.pull_policy)
    carried = carried_annotations(resource)
    pods = {"labels": _labels(request), **({"annotations": carried} if carried else {})}
    template: JSON = merged({"metadata": pods, "spec": spec}, resource.spec.tools.pod_template)
    return template


def template_digest(request: JobRequest) -> str:
    """Changes with everything that a Job's pods are made with: placement, images, pull secrets, overlay, settings.

    Not with the operator's version alone, nor with the memory that a plan requires, which comes and goes with facts.
    """
    template = job_template(replace(request, memory_bytes=None))
    labels = {name: value for name, value in template["metadata"]["labels"].items() if name != LABEL_VERSION}
    return digest_of({**template, "metadata": {**template["metadata"], "labels": labels}})


def _labels(request: JobRequest) -> JSON:
    labels = {
        **request.resource.carried.labels,
        LABEL_MANAGED_BY: MANAGER,
        LABEL_STAGE: request.artifact.stage,
        LABEL_ARTIFACT: request.artifact.digest,
        **RECOMMENDED,
    }
    return labels | claim_labels(*(claim.name for claim in _claims(request)))


def _claims(request: JobRequest) -> list[ClaimFacts]:
    return [claim for claim in (request.claim, request.source_claim) if claim is not None]


def _may_give(request: JobRequest) -> bool:
    """Whether the claim's files may be given to the Job's group: the operator's own, or one whose label says so."""
    return request.artifact.stage != "inspect" and request.claim is not None and request.claim.cache
