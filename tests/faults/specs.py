"""Random specs: valid ones, such as the API server refuses, and such as the operator refuses. Deterministic by seed."""

from __future__ import annotations

import random
from typing import Any

JSON = dict[str, Any]

CHOICES: dict[str, list[Any]] = {
    "replicas": [0, 1, 1, 2, 3],
    "contextLength": [1024, 2048, 4096],
    "maxConcurrentSequences": [1, 64],
    "drainTimeoutSeconds": [0, 30],
    "startupTimeoutSeconds": [60, 3600],
    "sharedMemory": ["1Gi", "2Gi"],
    "servedName": [],
    "nodeSelector": [{"type": "fake"}],
    "tolerations": [[{"key": "gpu", "operator": "Exists"}], [{"operator": "Exists", "effect": "NoSchedule"}]],
    "resources": [{"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}, "limits": {"memory": "4Gi"}}],
    "kvCache": [{"prefixCaching": False}, {"quantization": "None"}],
    "gpu": [{"memory": "48Gi"}, {"memory": "80Gi", "product": "NVIDIA-H100-80GB-HBM3"}],
    "imagePullSecrets": [[{"name": "a"}], [{"name": "a"}, {"name": "b"}]],
    "webUI": [{}],
    "podTemplate": [{"metadata": {"labels": {"team": "a"}}}, {"metadata": {"annotations": {"cost": "1"}}}],
    "planPolicy": ["Warn"],
}
ENGINES: list[JSON] = [
    {"type": "VLLM"},
    {"type": "LMDeploy"},
    {"type": "LMDeploy", "backend": "PyTorch"},
    {"type": "VLLM", "extraArgs": ["--seed", "7"]},
    {"type": "VLLM", "env": [{"name": "A", "value": "$(B)"}, {"name": "B", "value": "x"}]},
    {"type": "VLLM", "image": "registry.example/vllm:mine"},
]
REFUSED_BY_SERVER: list[JSON] = [
    {"replicas": -1},
    {"replicas": "two"},
    {"contextLength": 0},
    {"engine": {"type": "Ollama"}},
    {"engine": {"type": "VLLM", "backend": "TurboMind"}},
    {"model": {}},
    {"kvCache": {"memory": "1Gi", "memoryPercent": 4}},
    {"weightQuantization": {}, "cache": None},
    {"priorityClassName": "system-node-critical"},
    {"engine": {"type": "LMDeploy"}, "kvCache": {"quantization": "FP8"}},
]
REFUSED_BY_OPERATOR: list[JSON] = [
    {"engine": {"type": "VLLM", "extraArgs": ["--max-model-len", "9"]}},
    {"engine": {"type": "VLLM", "version": "9.9.9"}},
    {"engine": {"type": "LMDeploy", "extraArgs": ["--tp", "2"]}},
]


def valid(draw: random.Random) -> JSON:
    """A spec that is served."""
    repository = draw.choice(["org/model", "org/other", "org/third"])
    spec: JSON = {"model": {"huggingFace": {"repository": repository}}, "engine": draw.choice(ENGINES)}
    for name in draw.sample(sorted(CHOICES), draw.randint(0, 5)):
        if CHOICES[name]:
            spec[name] = draw.choice(CHOICES[name])
    if draw.random() < 0.3:
        spec["cache"] = {"claimName": "models"}
        if draw.random() < 0.3:
            spec["weightQuantization"] = {}
    return spec


def broken(draw: random.Random, spec: JSON, ways: list[JSON]) -> JSON:
    """The spec with one thing that is refused."""
    return {**spec, **draw.choice(ways)}
