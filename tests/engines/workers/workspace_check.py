"""workspace_check.py ORIGINAL WORKSPACE: what LMDeploy 0.9.2.post1 finds in a workspace, and what lies in it; as JSON.

Runs in the environment of `lmdeploy lite`, with that version and the image's stand-ins on the path.
"""

import json
import sys
from pathlib import Path
from typing import Any

import lmdeploy_convert_cpu  # noqa: F401 - replaces what needs CUDA
import torch
import yaml
from lmdeploy.archs import autoget_backend, get_model_arch, get_task
from lmdeploy.messages import TurbomindEngineConfig
from lmdeploy.serve.async_engine import get_names_from_model
from lmdeploy.tokenizer import Tokenizer
from lmdeploy.turbomind import TurboMind
from lmdeploy.turbomind.utils import get_model_source
from safetensors.torch import load_file
from workspace import Workspace


def server_facts(workspace: str) -> dict[str, Any]:
    """What the server finds."""
    architecture, config = get_model_arch(workspace)
    return {
        "task": get_task(workspace)[0],
        "backend": autoget_backend(workspace),
        "architecture": architecture,
        "tensor": config.model_config.attn_tp_size,
        "source": str(get_model_source(workspace)),
        "template": get_names_from_model(workspace)[1],
        "tokens": len(Tokenizer(workspace).encode("hello")),
    }


def loads_for(workspace: str, gpus: int) -> str:
    """The engine's refusal to load it for a number of GPUs; empty where it loads."""
    try:
        TurboMind.from_pretrained(workspace, None, engine_config=TurbomindEngineConfig(tp=gpus, max_batch_size=1))
    except AssertionError as refusal:
        return str(refusal)
    return ""


def differing(original: Path, workspace: Path) -> list[str]:
    """Names of the original's tensors that are not there, bit for bit, and of those that are there alone."""
    weights = workspace / "triton_models" / "weights"
    config = yaml.safe_load((weights / "config.yaml").read_text())["model_config"]
    found, wanted = Workspace(weights, config).state(), load_file(original / "model.safetensors")
    same = {name for name in found.keys() & wanted.keys() if torch.equal(found[name], wanted[name])}
    return sorted((found.keys() | wanted.keys()) - same)


if __name__ == "__main__":
    model, made = sys.argv[1:]
    told = {
        "server": server_facts(made),
        "refusals": {gpus: loads_for(made, gpus) for gpus in (1, 2)},
        "differing": differing(Path(model), Path(made)),
    }
    print("\n" + json.dumps(told))
