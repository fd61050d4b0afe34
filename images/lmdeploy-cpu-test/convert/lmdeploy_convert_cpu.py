"""LMDeploy 0.9.2.post1, the last one with `convert`, on a machine without a GPU. A stand-in for tests.

Real: the command line, the whole converter, the API server, and the Python side of TurboMind, which finds that a model
is a workspace and refuses one for another number of GPUs. Replaced: the compiled library (turbomind_cpu.py), the ways
to the card, and what is asked of it: how many there are, and whether they know bfloat16.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
import turbomind_cpu

GPUS = 8
"""As many as anybody asks for."""

sys.modules["_turbomind"] = turbomind_cpu
torch.Tensor.cuda = lambda self, *_, **__: self
torch.cuda.synchronize = lambda *_: None
torch.cuda.device_count = lambda: GPUS
torch._C._cuda_clearCublasWorkspaces = lambda: None

from lmdeploy import utils  # noqa: E402
from lmdeploy.cli import run  # noqa: E402


def _yes(*_: Any) -> bool:
    return True


# Before the converter is imported, which takes it by name.
utils.is_bf16_supported = _yes


def main() -> int:
    """LMDeploy's own main."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    sys.argv = ["lmdeploy", *sys.argv[1:]]
    return int(run() or 0)


if __name__ == "__main__":
    sys.exit(main())
