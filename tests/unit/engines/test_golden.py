"""One whole rendering per engine and backend, word by word: a change of it rolls every pod and must be meant."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from llm_operator.api import API_VERSION, KIND, LLMDeployment
from llm_operator.engines import KVAllocation, RenderRequest, render

GOLDEN = Path(__file__).parent / "golden"
MODEL = {"huggingFace": {"repository": "org/model", "revision": "main"}, "credentials": {"name": "hub", "key": "token"}}
CASES: dict[str, tuple[dict[str, Any], KVAllocation]] = {
    "lmdeploy-turbomind": (
        {"type": "LMDeploy", "backend": "TurboMind", "version": "0.18.0", "apiKey": {"name": "keys", "key": "api"}},
        KVAllocation(ratio_percent=80),
    ),
    "lmdeploy-pytorch": (
        {"type": "LMDeploy", "backend": "PyTorch", "version": "0.18.0", "extraArgs": ["--eager-mode"]},
        KVAllocation(ratio_percent=80),
    ),
    "lmdeploy-old": ({"type": "LMDeploy", "version": "0.9.2.post1", "conversion": "TurboMind"}, KVAllocation()),
    "vllm": (
        {"type": "VLLM", "version": "0.33.0", "apiKey": {"name": "keys", "key": "api"}, "extraArgs": ["--seed=1"]},
        KVAllocation(kv_cache_memory_bytes=20 << 30, max_sequences=256, max_batched_tokens=2048),
    ),
    "vllm-old": ({"type": "VLLM", "version": "0.20.2"}, KVAllocation(utilization_percent=90)),
}


@pytest.mark.parametrize("name", CASES)
def test_rendering_is_as_it_was(name: str) -> None:
    engine, kv = CASES[name]
    spec = {
        "model": {**MODEL, "trustRemoteCode": True, "format": "AWQ"},
        "engine": engine,
        "cache": {"claimName": "models"},
        "kvCache": {"quantization": "Int8", "prefixCaching": name != "vllm-old"},
        "parallelism": {"tensor": 2},
        "contextLength": 8192,
    }
    metadata = {"name": "demo", "namespace": "team"}
    parsed = LLMDeployment.parse({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})
    run = render(RenderRequest("demo", "team", parsed.spec, tensor=2, kv=kv))
    text = json.dumps(dataclasses.asdict(run), indent=1) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("LLM_OPERATOR_WRITE_GOLDEN") == "yes":
        path.write_text(text)
    assert text == path.read_text(), "meant? then LLM_OPERATOR_WRITE_GOLDEN=yes, and look at the difference"
