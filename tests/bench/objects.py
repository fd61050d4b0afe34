"""The objects that both sides of a benchmark write."""

from __future__ import annotations

import json
from typing import Any

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.resource import LLMDeployment
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.health import health
from llm_operator.reconcile.model_facts import not_inspected
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.planned import unknown_outcome
from llm_operator.reconcile.situation import Situation
from llm_operator.reconcile.status import status_of

UID = "00000000-0000-4000-8000-000000000000"


OVERLAY: dict[str, Any] = {
    "metadata": {"labels": {"cost-center": "research"}, "annotations": {"karpenter.sh/do-not-disrupt": "true"}},
    "spec": {
        "hostAliases": [{"ip": "10.0.0.10", "hostnames": ["hub.internal"]}],
        "volumes": [{"name": "settings", "configMap": {"name": "settings", "optional": True}}],
        "containers": [
            {
                "name": "engine",
                "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "volumeMounts": [{"name": "settings", "mountPath": "/etc/settings", "readOnly": True}],
                "livenessProbe": {"failureThreshold": 12},
            },
            {"name": "log-shipper", "image": "registry.example/log-shipper:1"},
        ],
    },
}
"""What a platform adds to every pod."""


def manifest(name: str, namespace: str, overlay: bool = False) -> dict[str, Any]:
    """A usual object; its model is on a claim, so that no hub is asked."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {
                "persistentVolumeClaim": {"claimName": "models", "path": "internlm2_5-7b-chat"},
                "trustRemoteCode": True,
            },
            "engine": {"type": "LMDeploy", "backend": "TurboMind"},
            "parallelism": {"tensor": 2},
            "kvCache": {"quantization": "Int4", "memoryPercent": 40},
            "contextLength": 32768,
            "resources": {"requests": {"cpu": "8", "memory": "64Gi"}, "limits": {"memory": "64Gi"}},
            **({"podTemplate": OVERLAY} if overlay else {}),
        },
    }


def rendered(name: str, namespace: str, overlay: bool = False) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the operator writes for one object: children and first status, with a placeholder for the uid."""
    raw = manifest(name, namespace, overlay)
    raw["metadata"] |= {"uid": UID, "generation": 1, "resourceVersion": "1"}
    resource = LLMDeployment.parse(raw)
    unknown = not_inspected(resource.spec)
    plan = unknown_outcome(resource.spec, unknown.reason, unknown.message)
    decision = decide(resource, Observed(), plan)
    situation = Situation(resource, Observed(), decision, plan, policed=False, health=health(()))
    status = status_of(situation, "2026-01-01T00:00:00Z")
    return [apply.body for apply in decision.applies], status.to_json()


def compact(body: object) -> bytes:
    """JSON without spaces, as the operator sends it."""
    return json.dumps(body, separators=(",", ":")).encode()
