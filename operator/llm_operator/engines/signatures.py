"""What any engine prints when it dies, each with its meaning and its remedy; a folder has what one engine prints.

Measured on an H200 with LMDeploy 0.18.0 and vLLM 0.26.0, read in the code of the two engines, of PyTorch, Triton,
FlashInfer, NCCL and the hub's client, or seen in public reports. On one line the first that matches wins, and what an
engine alone prints comes first.
"""

from __future__ import annotations

from llm_operator.engines.signature import CAUSE, CODE, REFUSAL, SYMPTOM, WRAPPER, Signature
from llm_operator.engines.signatures_gpu import DEVICES, MEMORY
from llm_operator.engines.signatures_host import COMMAND_LINE, CONTAINER, IMAGE
from llm_operator.engines.signatures_model import ENDS, MODEL, REFUSALS

COMMON: tuple[Signature, ...] = (*MEMORY, *DEVICES, *COMMAND_LINE, *MODEL, *IMAGE, *CONTAINER, *REFUSALS, *ENDS)

__all__ = ["CAUSE", "CODE", "COMMON", "REFUSAL", "SYMPTOM", "WRAPPER", "Signature"]
