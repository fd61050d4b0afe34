"""Which quantized weights vLLM reads, and what it makes of spec.model.format.

Sources: vLLM 0.20.2, 0.26.0 and 0.33.0, config/model.py (_verify_quantization), config/vllm.py (capabilities),
model_executor/model_loader/weight_utils.py (get_quant_config) and model_executor/layers/quantization.
"""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.engines.vllm.command import FORCES_SLOW_KERNEL_UNTIL, QUANTIZATION
from llm_operator.memory.capability import below, card
from llm_operator.memory.formats import NOT_SAID, contradicted, overruled
from llm_operator.memory.types import PlanRequest
from llm_operator.memory.versions import release
from llm_operator.models import CheckpointQuantization, Role

BITSANDBYTES_UNTIL = (0, 27)
"""The last release whose parser knows `--load-format bitsandbytes`; 0.33.0 has no such method."""
MODELOPT_FP8_ON_OLDER_CARDS = (0, 33)
"""0.26.0 wants compute capability 8.9 for it, 0.33.0 wants 8.0; what lies between was not read."""
UNIFIED = (0, 26)
"""From auto_gptq.py and auto_awq.py on: symmetric GPTQ of 4 and 8 bits, AWQ of 4 bits."""
BESIDE = {"awq": "quant_config.json beside it", "gptq": "quantize_config.json beside it"}
"""Where older checkpoints say how they are quantized (get_config_filenames); a plan does not read these files."""
OWN_WORD = ("modelopt", "auto-round")
"""Methods that vLLM settles by config.json whatever `--quantization` says (override_quantization_method)."""
ONLINE_FP8 = CheckpointQuantization("fp8", 8, skipped=frozenset({Role.HEAD}))


def passed(request: PlanRequest) -> str | None:
    """Return what `--quantization` says; None if the command line has none."""
    until = FORCES_SLOW_KERNEL_UNTIL.get(request.weight_format)
    if until is not None and release(request.version) < until:
        return None
    return QUANTIZATION.get(request.weight_format)


def while_loading(request: PlanRequest) -> CheckpointQuantization | None:
    """Return FP8 of one scale a matrix for `--quantization fp8` over 16-bit weights."""
    if request.shape.quantization is None and passed(request) == "fp8" and request.weight_quantization is None:
        return ONLINE_FP8
    return None


def unknowns(request: PlanRequest) -> Iterator[str]:
    """Yield why nothing can be computed of what it makes of 16-bit weights."""
    asked = passed(request)
    if request.shape.quantization is not None or request.weight_quantization is not None:
        return
    if asked == "mxfp4":
        yield f"how vLLM {request.version} holds 16-bit weights that it quantizes to MXFP4 is not known"
    elif asked == "fp8" and request.shape.tower is not None:
        yield "which parts of an image encoder vLLM quantizes to FP8 while it loads them is not known"


def refusals(request: PlanRequest, how: CheckpointQuantization | None) -> Iterator[str]:
    """Yield why it does not start with these weights, or not with this model.format. how: of the served weights."""
    yield from _format_refusals(request)
    if how is None:
        return
    version, named = release(request.version), how.named.lower().replace("_", "-")
    if named == "bitsandbytes" and version[:2] > BITSANDBYTES_UNTIL:
        yield (
            f"vLLM {request.version} no longer reads bitsandbytes weights, 0.27 was the last that did: use an older"
            " engine.version, or weights of another quantization"
        )
    if named == "fbgemm-fp8" and not request.deprecated_weights:
        yield (
            "vLLM refuses fbgemm_fp8 weights as deprecated: add --allow-deprecated-quantization to engine.extraArgs, or"
            " take a repository with FP8 weights of compressed-tensors"
        )
    if version >= UNIFIED and named == "gptq" and (how.bits, how.symmetric) not in ((4, True), (8, True)):
        kind = "symmetric" if how.symmetric else "asymmetric"
        yield f"vLLM {request.version} reads symmetric GPTQ of 4 or 8 bits only; this one is {kind}, of {how.bits} bits"
    if version >= UNIFIED and named == "awq" and how.bits != 4:
        yield f"vLLM {request.version} reads AWQ of 4 bits only; this one has {how.bits}"
    if named == "mxfp4" and below(request, 8, 0):
        yield f"MXFP4 weights need compute capability 8.0 in vLLM; this is {card(request)}"
    if named == "modelopt" and how.method == "fp8":
        least = (8, 0) if version >= MODELOPT_FP8_ON_OLDER_CARDS else (8, 9)
        if below(request, *least):
            needs = f"compute capability {least[0]}.{least[1]}"
            yield f"ModelOpt's FP8 weights need {needs} in vLLM; this is {card(request)}"


def _format_refusals(request: PlanRequest) -> Iterator[str]:
    asked, own = passed(request), request.shape.quantization
    if asked is None or request.weight_quantization is not None:
        return
    if own is None:
        if asked in BESIDE:
            yield contradicted(request, "vLLM", f"does not start unless {BESIDE[asked]} describes the weights")
        elif asked == "compressed-tensors":
            yield contradicted(request, "vLLM")
    elif not _agrees(request, own, asked) and not _settles(request, own):
        yield contradicted(request, "vLLM")


def _agrees(request: PlanRequest, own: CheckpointQuantization, asked: str) -> bool:
    return asked == (own.named or own.method).lower()


def _settles(request: PlanRequest, own: CheckpointQuantization) -> bool:
    """Return whether config.json decides whatever the command line says."""
    named = own.named.lower().replace("_", "-")
    return named.startswith(OWN_WORD) or (named == "mxfp4" and request.shape.architecture == "GptOssForCausalLM")


def notes(request: PlanRequest) -> Iterator[str]:
    """Yield what it does otherwise than model.format says."""
    asked, own = passed(request), request.shape.quantization
    if request.loaded_as is not None:
        yield "config.json has no quantization_config: vLLM quantizes the 16-bit weights to FP8 while it loads them"
    elif request.weight_format == "Auto" or request.weight_quantization is not None:
        return
    elif own is None:
        if request.weight_format not in NOT_SAID:
            yield overruled(request, "vLLM")
    elif not _agrees(request, own, asked or QUANTIZATION.get(request.weight_format, "")):
        yield overruled(request, "vLLM")
