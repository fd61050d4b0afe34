"""What any engine prints when it dies, each with its meaning and its remedy; a folder has what one engine prints.

Measured on an H200 with LMDeploy 0.18.0 and vLLM 0.26.0, read in the code of the two engines, of PyTorch, Triton,
FlashInfer, NCCL and the hub's client, or seen in public reports. On one line the first that matches wins, and what an
engine alone prints comes first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from llm_operator.engines.signature import CAUSE, CODE, CONSEQUENCE, REFUSAL, SYMPTOM, WRAPPER, Signature
from llm_operator.engines.signatures_gpu import DEVICES, MEMORY
from llm_operator.engines.signatures_host import COMMAND_LINE, CONTAINER, IMAGE
from llm_operator.engines.signatures_model import ENDS, MODEL, REFUSALS, VOCABULARY
from llm_operator.engines.signatures_python import PYTHON, SYSTEM


def _starting(signatures: Iterable[Signature]) -> tuple[Signature, ...]:
    return tuple(dataclasses.replace(signature, starting=True) for signature in signatures)


COMMON: tuple[Signature, ...] = (
    *MEMORY,
    *DEVICES,
    *VOCABULARY,
    *_starting((*COMMAND_LINE, *MODEL)),
    *IMAGE,
    *CONTAINER,
    *SYSTEM,
    *_starting((*PYTHON, *REFUSALS)),
    *ENDS,
)

__all__ = ["CAUSE", "CODE", "COMMON", "CONSEQUENCE", "REFUSAL", "SYMPTOM", "WRAPPER", "Signature"]
