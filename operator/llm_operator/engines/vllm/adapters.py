"""The room that vLLM sets aside for LoRA adapters at its start: slots for every module that may have one."""

from __future__ import annotations

from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import common
from llm_operator.engines.arguments import whole_number
from llm_operator.memory.types import MIB, Adapters, Overhead, PlanRequest
from llm_operator.memory.weights import even_share
from llm_operator.models import Role

DEFAULT_SLOTS = 1
DEFAULT_RANK = 16
"""Defaults of --max-loras and --max-lora-rank (vLLM 0.20 to 0.33, vllm/config/lora.py)."""
SOURCE = "vLLM 0.26.0, lora/layers; two starts measured on an H200"

_WITHOUT = frozenset({Role.REPLICATED, Role.TOWER_IN, Role.TOWER_OUT, Role.ROUTER, Role.EMBEDDING, Role.HEAD})


def adapters_given(spec: LLMDeploymentSpec) -> Adapters | None:
    """The room that the user's extra arguments make for adapters; None without --enable-lora."""
    if not common.given(spec, "--enable-lora"):
        return None
    slots = whole_number(common.value_given(spec, "--max-loras") or "")
    rank = whole_number(common.value_given(spec, "--max-lora-rank") or "")
    return Adapters(slots or DEFAULT_SLOTS, rank or DEFAULT_RANK)


def adapter_slots(request: PlanRequest, tensor: int) -> tuple[Overhead, ...]:
    """Return what the slots take on one rank, 16 bit.

    Each slot has both factors of each matrix: rank x inputs and outputs x rank, split as the matrix is; the vocabulary
    has both, whole, for the embedding and for the logits. Llama 3.1 8B took 104 MiB for one slot of rank 16, 1,455 for
    four of rank 64.
    """
    found = request.adapters
    if found is None:
        return ()
    elements = 2 * (request.shape.vocabulary_size + request.shape.hidden_size)
    for piece in request.shape.tensors:
        if piece.role not in _WITHOUT and piece.columns > 1:
            elements += piece.count * sum(even_share(piece, request, tensor))
    taken = 2 * found.slots * found.rank * elements
    return (Overhead("LoRA slots", taken + 16 * MIB, taken * 11 // 10 + 64 * MIB, SOURCE),)
