"""LMDeploy 0.9.2.post1's own command line and converter on a machine without a GPU, for tests only.

Replaced is what needs CUDA: its compiled library, which `convert` does not call, the way to the card, and the question
whether the card knows bfloat16.
"""

import sys
from typing import Any
from unittest.mock import MagicMock

import torch

sys.modules["_turbomind"] = MagicMock(name="_turbomind")
torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]

from lmdeploy import utils  # noqa: E402
from lmdeploy.cli import run  # noqa: E402


def _yes(*_: Any) -> bool:
    return True


utils.is_bf16_supported = _yes


def facts(workspace: str) -> dict[str, Any]:
    """What the server of that version finds in a workspace before it asks for the card."""
    from lmdeploy.archs import autoget_backend, get_model_arch, get_task  # noqa: PLC0415
    from lmdeploy.serve.async_engine import get_names_from_model  # noqa: PLC0415
    from lmdeploy.tokenizer import Tokenizer  # noqa: PLC0415
    from lmdeploy.turbomind.deploy.config import TurbomindModelConfig  # noqa: PLC0415, F401
    from lmdeploy.turbomind.utils import get_model_source  # noqa: PLC0415

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


if __name__ == "__main__":
    if sys.argv[1] == "--facts":
        import json

        print("\n" + json.dumps(facts(sys.argv[2])))
        sys.exit(0)
    sys.argv = ["lmdeploy", *sys.argv[1:]]
    sys.exit(int(run() or 0))
