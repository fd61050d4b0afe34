"""What LMDeploy's backends make of spec.model.format and of code of the model's repository.

Sources: LMDeploy 0.10.2 to 0.18.0, turbomind/converter.py (deploy/converter.py before 0.14) and weight_format.py,
pytorch/config.py (_patch_quantization_config, QuantizationConfig.from_config), archs.py and tokenizer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.engines.lmdeploy.command import MODEL_FORMAT, REMOTE_CODE_FLAG_SINCE
from llm_operator.memory.formats import NOT_SAID, code_needed, contradicted, needs_code, overruled
from llm_operator.memory.types import PlanRequest
from llm_operator.memory.versions import release
from llm_operator.models import CheckpointQuantization, Role

BY_TENSOR = (0, 14)
"""Since then TurboMind reads the format of each tensor by its name, so that 16-bit weights load under any word."""
ONLINE_FP8 = CheckpointQuantization("fp8", 8, block=(128, 128), skipped=frozenset({Role.HEAD}))
OWN_TOKENIZER = frozenset({"baichuan", "chatglm", "internlm", "internlm2", "internlm3", "qwen"})
"""Models whose tokenizer is code of the repository, without which AutoTokenizer raises (tokenizer.py)."""


def _said(request: PlanRequest) -> str | None:
    """Return what `--model-format` says of a quantization; None if there is nothing to hold against config.json."""
    return None if request.weight_quantization is not None else MODEL_FORMAT.get(request.weight_format)


def _disagrees(request: PlanRequest, word: str) -> bool:
    own = request.shape.quantization
    return own is not None and (own.named or own.method) != word


def turbomind_refusals(request: PlanRequest) -> Iterator[str]:
    """Yield why TurboMind does not start with this model.format."""
    word = _said(request)
    if word is None:
        return
    in_vain = request.shape.quantization is None and release(request.version) < BY_TENSOR and word != "fp8"
    if in_vain or _disagrees(request, word):
        yield contradicted(request, "TurboMind")


def turbomind_unknowns(request: PlanRequest) -> Iterator[str]:
    """Yield what is not known: releases before 0.14 quantize the 16-bit weights of some models to FP8."""
    before = release(request.version) < BY_TENSOR
    if before and request.shape.quantization is None and _said(request) == "fp8":
        yield f"how TurboMind {request.version} holds 16-bit weights with model.format FP8 is not known"


def turbomind_notes(request: PlanRequest) -> Iterator[str]:
    """Yield that 16-bit weights are served as they are."""
    yield from _unheard(request, "TurboMind", everything=request.shape.quantization is None)


def pytorch_refusals(request: PlanRequest) -> Iterator[str]:
    """Yield why the PyTorch backend does not start with this model.format: it can quantize to FP8 alone."""
    word = _said(request)
    if word not in (None, "fp8") and request.shape.quantization is None:
        yield contradicted(request, "LMDeploy's PyTorch backend", "cannot quantize weights to it while loading")


def pytorch_unknowns(request: PlanRequest) -> Iterator[str]:
    """Yield what is not known of weights that it quantizes while loading."""
    if request.loaded_as is not None and request.shape.tower is not None:
        yield "which parts of an image encoder LMDeploy quantizes to FP8 while it loads them is not known"


def pytorch_while_loading(request: PlanRequest) -> CheckpointQuantization | None:
    """Return FP8 in blocks of 128 x 128 for 16-bit weights with model.format FP8."""
    return ONLINE_FP8 if request.shape.quantization is None and _said(request) == "fp8" else None


def pytorch_notes(request: PlanRequest) -> Iterator[str]:
    """Yield that it goes by config.json, or quantizes while loading."""
    if request.loaded_as is not None:
        yield (
            "config.json has no quantization_config: LMDeploy's PyTorch backend quantizes the 16-bit weights to FP8"
            " while it loads them"
        )
    word = _said(request)
    yield from _unheard(
        request, "LMDeploy's PyTorch backend", everything=word is not None and _disagrees(request, word)
    )


def _unheard(request: PlanRequest, engine: str, *, everything: bool) -> Iterator[str]:
    """Yield that model.format changes nothing. everything: also where the command line carries it."""
    if request.weight_quantization is not None or request.weight_format == "Auto":
        return
    quantized_all_the_same = request.weight_format in NOT_SAID and request.shape.quantization is not None
    if quantized_all_the_same or (everything and request.weight_format not in NOT_SAID):
        yield overruled(request, engine)


def code_refusals(request: PlanRequest) -> Iterator[str]:
    """Yield that the tokenizer cannot be read without code of the repository."""
    if request.trust_remote_code is False and _asks_for_code(request) and request.shape.own_code in OWN_TOKENIZER:
        yield code_needed(request, f"LMDeploy {request.version}", "does not start without it")


def code_notes(request: PlanRequest) -> Iterator[str]:
    """Yield that code of the repository is needed, or may be: some tokenizers are in transformers."""
    if request.trust_remote_code or not _asks_for_code(request):
        return
    certain = request.shape.own_code in OWN_TOKENIZER
    yield code_needed(request, f"LMDeploy {request.version}", f"{'does' if certain else 'may'} not start without it")


def _asks_for_code(request: PlanRequest) -> bool:
    """Return whether the model contains code and this version asks whether it may run."""
    return release(request.version) >= REMOTE_CODE_FLAG_SINCE and needs_code(request, "transformers")
