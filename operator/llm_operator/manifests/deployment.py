"""The Deployment that runs the engine."""

from __future__ import annotations

from llm_operator.api.resource import LLMDeployment
from llm_operator.engines import EngineRun, guard
from llm_operator.manifests.common import (
    ANNOTATION_ENGINE,
    ANNOTATION_GUARD,
    ANNOTATION_MODEL,
    ANNOTATION_PROPAGATES,
    ANNOTATION_REVISION,
    JSON,
    LABEL_INPUTS,
    LABEL_VERSION,
    carried_annotations,
    compact_json,
    inputs_hash,
    labels,
    metadata,
    selector_labels,
)
from llm_operator.manifests.model_source import source_claim
from llm_operator.manifests.model_volume import Prepared, claim_labels
from llm_operator.manifests.overlay import merged
from llm_operator.manifests.pod import asks_for_root, pod_spec
from llm_operator.settings import ToolSettings

# Beyond the engine's own startup budget: scheduling, pulling an image of 10 GB, attaching a volume.
PROGRESS_MARGIN_SECONDS = 1800


NOTHING_PREPARED = Prepared()
NO_TOOLS = ToolSettings()


def pod_template(
    resource: LLMDeployment, run: EngineRun, prepared: Prepared = NOTHING_PREPARED, tools: ToolSettings = NO_TOOLS
) -> JSON:
    """The pod template for one set of inputs, named by their hash."""
    engine = {"type": resource.spec.engine.type, "version": run.version, "backend": run.backend}
    annotations = {ANNOTATION_ENGINE: compact_json(engine), ANNOTATION_GUARD: guard.source()}
    if prepared != NOTHING_PREPARED:
        annotations[ANNOTATION_MODEL] = compact_json(prepared.to_json())
    if resource.propagation:
        annotations |= carried_annotations(resource)
        annotations[ANNOTATION_PROPAGATES] = compact_json(resource.propagation.to_json())
    claim = claim_labels(*(claim for claim, _ in prepared.claims), source_claim(resource))
    own = {LABEL_INPUTS: inputs_hash(resource), LABEL_VERSION: run.version}
    template = {
        "metadata": {
            "labels": {**labels(resource), **own, **claim},
            "annotations": annotations,
        },
        "spec": pod_spec(resource, run, prepared, tools),
    }
    overlay = resource.spec.pod_template
    if asks_for_root(overlay):
        del template["spec"]["securityContext"]["runAsNonRoot"]
    return merged(template, overlay)


def deployment(resource: LLMDeployment, template: JSON, revision: str | None = None) -> JSON:
    """The Deployment around a pod template.

    Args:
        resource: the object.
        template: the pod template.
        revision: name of the revision that holds the template; None for a trial, which keeps nothing.
    """
    meta = metadata(resource)
    if revision is not None:
        meta["annotations"] = {**meta.get("annotations", {}), ANNOTATION_REVISION: revision}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "replicas": resource.spec.replicas,
            "selector": {"matchLabels": selector_labels(resource)},
            # A surge needs a free GPU that no one may have; replacing in place always ends.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": resource.spec.startup_timeout_seconds + PROGRESS_MARGIN_SECONDS,
            "template": template,
        },
    }
