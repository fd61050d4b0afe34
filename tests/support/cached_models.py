"""Jobs of the model tools as the API server returns them, for `kubectl llm cache`."""

from __future__ import annotations

import json
from typing import Any

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.resource import LLMDeployment
from llm_operator.live.claims import ClaimFacts
from llm_operator.pipeline.artifacts import ANNOTATION_RESULT
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job import model_job
from llm_operator.pipeline.request import JobRequest
from llm_operator.pipeline.volume_job import remove_job
from llm_operator.settings import ToolSettings

JSON = dict[str, Any]

TOOLS = ToolSettings(image="tools:1", quantize_image="lmdeploy:1")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIRECTORY = f"models/hf--org--model/{COMMIT}"
FETCHED = {"ok": True, "directory": DIRECTORY, "bytes": 5 << 30, "revision": COMMIT}
QUANTIZED = {"ok": True, "directory": f"{DIRECTORY}--awq-w4-g128-01234567", "bytes": 3 << 29, "revision": COMMIT}
GATED = {"ok": False, "reason": "ModelGated", "message": "accept the licence", "retry": False}
ENDED = "2026-01-01T00:00:00Z"


def body(name: str = "demo", namespace: str = "team", **spec: Any) -> JSON:
    """An object that keeps its model on the claim `models`."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
        "spec": {
            "model": {"huggingFace": {"repository": "org/model"}},
            "cache": {"claimName": "models"},
            "engine": {"type": "LMDeploy"},
            **spec,
        },
    }


def bare_job(of: JSON, stage: str = "fetch", claim: str = "models") -> JSON:
    """The Job as the operator writes it for an object's stage."""
    resource = LLMDeployment.parse(of)
    artifact = next(artifact for artifact in artifacts_of(resource) if artifact.stage == stage)
    facts = ClaimFacts(claim, "00000000-0000-4000-8000-000000000001", single_node=False, labelled=True)
    return model_job(JobRequest(resource, artifact, TOOLS, facts, None, DIRECTORY, f"{DIRECTORY}--x"))


def ended_status(condition: str) -> JSON:
    """status of a Job that ended, as the API server demands it."""
    first = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[condition]
    entry = {"status": "True", "reason": "PodFailurePolicy", "message": "told so", "lastTransitionTime": ENDED}
    conditions = [{**entry, "type": first}, {**entry, "type": condition}]
    done = {"completionTime": ENDED} if condition == "Complete" else {}
    return {"startTime": "2025-12-31T00:00:00Z", "conditions": conditions, **done}


def job(
    of: JSON, stage: str = "fetch", result: JSON | None = None, condition: str | None = None, **annotations: str
) -> JSON:
    """The live Job; annotations by name with underscores. One with a result has ended."""
    raw = bare_job(of, stage)
    raw["metadata"] |= {"uid": f"uid-{raw['metadata']['name']}", "resourceVersion": "7"}
    if result is not None:
        raw["metadata"]["annotations"][ANNOTATION_RESULT] = json.dumps(result)
        condition = condition or ("Complete" if result["ok"] else "Failed")
    for name, text in annotations.items():
        raw["metadata"]["annotations"][f"llm-operator.dev/{name.replace('_', '-')}"] = text
    raw["status"] = ended_status(condition) if condition else {"active": 1}
    return raw


def removal(of: JSON, stage: str = "fetch", condition: str | None = None) -> JSON:
    """The live Job that removes what another one made."""
    made = bare_job(of, stage)["metadata"]
    facts = ClaimFacts("models", "claim-uid", single_node=False, labelled=True)
    raw = remove_job(made["namespace"], facts, DIRECTORY, TOOLS, {})
    raw["metadata"] |= {"uid": "uid-removal", "resourceVersion": "8"}
    raw["status"] = ended_status(condition) if condition else {"active": 1}
    return raw
