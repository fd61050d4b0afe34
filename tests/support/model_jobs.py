"""Jobs of the model tools as the API server would return them, for the tests of the pure core."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from typing import Any

from llm_operator.api.resource import LLMDeployment
from llm_operator.live.claims import ClaimFacts
from llm_operator.live.pods import ContainerEnd, Pod
from llm_operator.manifests.model_volume import same_node
from llm_operator.manifests.pod import node_selector, tolerations
from llm_operator.pipeline.artifacts import Artifact
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job_view import JobView, job_from
from llm_operator.reconcile.observed import Observed
from llm_operator.settings import ToolSettings
from tests.support.build import pod, resource

TOOLS = ToolSettings(image="tools:1", quantize_image="lmdeploy:1")
HUB = {"huggingFace": {"repository": "org/model"}}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIRECTORY = f"models/hf--org--model/{COMMIT}"
CLAIM = ClaimFacts("models", "claim-uid", single_node=True, labelled=True)
CONFIG = {"architectures": ["LlamaForCausalLM"]}


PLACEMENT = {
    "affinity": same_node("models"),
    "nodeSelector": node_selector(resource().spec),
    "tolerations": tolerations(resource().spec),
}


def cached(**spec: Any) -> LLMDeployment:
    """An object whose model is fetched from a hub into a claim."""
    return resource(**{"model": HUB, "cache": {"claimName": "models"}, **spec})


def packed(config: object) -> str:
    return base64.b64encode(gzip.compress(json.dumps(config).encode())).decode()


def fetched(**more: Any) -> dict[str, Any]:
    return {"ok": True, "directory": DIRECTORY, "bytes": 5 << 30, "revision": COMMIT, **more}


def quantized(**more: Any) -> dict[str, Any]:
    recipe = {"method": "AWQ", "bits": 4, "samples": 64}
    quality = {"perplexityOriginal": "8.100", "perplexityQuantized": "8.300", "agreementPercent": 97}
    return {
        "ok": True,
        "directory": f"{DIRECTORY}--awq",
        "recipe": recipe,
        "quality": quality,
        "bytes": 1 << 30,
        **more,
    }


def job(artifact: Artifact, *pods: Pod, condition: str | None = None, **annotations: str) -> JobView:
    """A live Job: active, or with a condition such as Complete or Failed."""
    conditions = [{"type": condition, "status": "True", "reason": "Why", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    raw = {
        "metadata": {
            "name": artifact.job_name,
            "uid": f"uid-{artifact.job_name}",
            "resourceVersion": "1",
            "labels": {"llm-operator.dev/stage": artifact.stage, "llm-operator.dev/artifact": artifact.digest},
            "annotations": {f"llm-operator.dev/{name.replace('_', '-')}": text for name, text in annotations.items()},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "models", "uid": "claim-uid"}
            ],
        },
        "spec": {"template": {"spec": PLACEMENT}},
        "status": {"conditions": conditions if condition else []},
    }
    return replace(job_from(raw), pods=pods)


def done(artifact: Artifact, result: dict[str, Any]) -> JobView:
    return job(artifact, condition="Complete", result=json.dumps(result))


def failed(artifact: Artifact, reason: str, *, retry: bool = False, **more: Any) -> JobView:
    body = {"ok": False, "reason": reason, "message": "what was wrong", "retry": retry, **more}
    return job(artifact, condition="Failed", result=json.dumps(body))


def tool_pod(of: LLMDeployment, result: dict[str, Any] | str, exit_code: int = 0) -> Pod:
    text = result if isinstance(result, str) else json.dumps(result)
    return pod(of, end=ContainerEnd(exit_code, None, "Completed" if exit_code == 0 else "Error", text))


def seen(*jobs: JobView, **claims: ClaimFacts | None) -> Observed:
    return Observed(jobs={one.name: one for one in jobs}, claims=claims or {"models": CLAIM})


def stages(of: LLMDeployment) -> dict[str, Artifact]:
    return {artifact.stage: artifact for artifact in artifacts_of(of)}
