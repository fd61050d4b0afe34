"""What quantizing a checkpoint takes before it is served, and what stands against it: `lmdeploy lite auto_awq`.

Sources: LMDeploy 0.18.0, lmdeploy/lite (apis/calibrate.py, quantization/{awq,calibration}.py, quantization/modules);
memory measured on an H100 and an H200 (docs/planner.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from llm_operator.memory.types import GIB, MIB, WeightQuantization, gib
from llm_operator.memory.weights import SERVED_BYTES, quantized_bytes
from llm_operator.models import CheckpointQuantization, ModelShape, Role, Tensor

QUANTIZABLE = frozenset(
    {
        "ChatGLMModel",
        "ChatGLMForConditionalGeneration",
        "InternLM2ForCausalLM",
        "InternLM3ForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "Phi3ForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
    }
)
"""What auto_awq of 0.18.0 calibrates, of the families that `models` reads; ChatGLM has two names for its class."""
QUANTIZABLE_WITHOUT_DATA = frozenset({"Qwen3MoeForCausalLM"})
"""What it quantizes with `--calib-samples 0` only: quantization/awq.py has no map of their layers."""
BITS = 4
GROUP_SIZES = (32, 64, 128)
"""Groups that any engine has kernels for; TurboMind has them for 128 alone."""

LEAST_SAMPLES, LEAST_LENGTH = 16, 512
"""Below this the Job goes on without data (modeltools/ladder.py), and so do offers."""

HOST_MARGIN = GIB
"""Python, torch and CUDA beside the model. 20.4 GB were measured for 15.5 GB, which became 5.1 GB."""
HEADER_BYTES_PER_TENSOR = 128
"""Of a safetensors file: 114 were measured."""

CUDA_CONTEXT = 700 * MIB
"""Context and libraries: 695 MiB on an H100."""
WORKSPACE = 58 * MIB
"""33 MiB that cuBLAS keeps from the first product on, and what torch's allocator loses at the ends of segments."""
# Copies of the hidden states of all samples. In a layer: what the model began with, the layer's input, its outputs so
# far. At the final norm: the first two, the norm's output, what the observer's isnan().sum() makes of it, a mask of 1
# byte and a sum's operand of 8 bytes for each 2-byte element, and a gap of half a copy that torch cannot give back:
# with 4.92 GB the tool died where 4.82 were allocated, with 5.15 it worked.
_COPIES_IN_LAYER = 3.0
_COPIES_AT_NORM = 8.0
# The same of one batch inside the feed-forward network (its product and the observed projection) and beside it.
_INNER_COPIES, _OUTER_COPIES = 5.5, 2.0
_REDUCTION_BYTES = 32 << 10
"""Per feature inside the feed-forward network, whatever the number of tokens: what torch's `max` over the tokens works
in, where the observer calls it. An H100 requested 344 MiB with 11,008 features, after 512 tokens as after 1,024."""
# Copies of the widest matrices behind one norm, while they are smoothed or a ratio is searched.
_SMOOTHING_COPIES = 4.0
_PACKING_BYTES = 16.0
"""Per weight of the matrix that is packed: codes of 4 bytes, transposed, beside scaled copies."""
_EXPERT_ROLES = (Role.EXPERT_GATE_UP, Role.EXPERT_DOWN)
_GATES = (Role.GATE_UP, Role.EXPERT_GATE_UP)
_DOWN = (Role.DOWN, Role.EXPERT_DOWN)


@dataclass(frozen=True, slots=True)
class QuantizationNeeds:
    """Memory that quantizing takes, in bytes.

    gpu_bytes: of the one GPU, whatever its count; context included. host_bytes: memory of the container: the whole
    16-bit model, the packed one beside it, and the process.
    """

    gpu_bytes: int
    host_bytes: int


def quantization_needs(shape: ModelShape, recipe: WeightQuantization) -> QuantizationNeeds:
    """Return what quantizing a 16-bit checkpoint of this shape takes.

    How much must be free on the disk is the tool's affair, which reads the files' headers (modeltools/recipe.py).
    """
    return QuantizationNeeds(
        gpu_bytes=_gpu_bytes(shape, recipe),
        host_bytes=shape.parameters * SERVED_BYTES + quantized_file_bytes(shape, recipe) + HOST_MARGIN,
    )


def quantization_problems(
    shape: ModelShape, recipe: WeightQuantization, gpu_memory_bytes: int | None
) -> tuple[str, ...]:
    """Return what stands against a recipe for a checkpoint of this shape; empty if nothing does.

    gpu_memory_bytes: total memory of the GPU that does it; None: not known, and nothing is refused for it.
    """
    against = tuple(_problems(shape, recipe))
    return against or tuple(_too_small(shape, recipe, gpu_memory_bytes))


def _problems(shape: ModelShape, recipe: WeightQuantization) -> Iterator[str]:
    if shape.quantization is not None:
        yield f"the checkpoint is already quantized ({shape.quantization.method}): weightQuantization needs 16 bit"
    if recipe.method.upper() != "AWQ" or recipe.bits != BITS:
        yield f"weightQuantization {recipe.method} with {recipe.bits} bits is not served; expected AWQ with {BITS} bits"
    if recipe.group_size not in GROUP_SIZES:
        yield f"no engine serves AWQ in groups of {recipe.group_size} weights; expected 128, or 32 or 64 for vLLM"
    if shape.architecture in QUANTIZABLE_WITHOUT_DATA:
        if recipe.samples:
            yield (
                f"lmdeploy lite auto_awq quantizes {shape.architecture} without calibration data only: set"
                " weightQuantization.calibration.dataset to None"
            )
    elif shape.architecture not in QUANTIZABLE:
        known = ", ".join(sorted(QUANTIZABLE | QUANTIZABLE_WITHOUT_DATA))
        yield f"lmdeploy lite auto_awq does not know {shape.architecture}; it knows {known}"
    for name, size in _widths(shape).items():
        if size % recipe.group_size:
            yield f"AWQ needs widths that are multiples of its group of {recipe.group_size}; {name} is {size}"


def _widths(shape: ModelShape) -> dict[str, int]:
    """Inputs of the matrices that are quantized, by the field of config.json that they come from."""
    widths: dict[str, int] = {}
    for piece in _packed(shape):
        name = "hidden_size"
        if piece.role is Role.ATTENTION_OUTPUT:
            name = "attention heads * head_dim"
        elif piece.role in _DOWN:
            name = "intermediate_size" if piece.role is Role.DOWN else "moe_intermediate_size"
        # A shared expert may be narrower than a dense layer: the one that does not fit is reported.
        widths[name if widths.get(name, piece.columns) == piece.columns else f"{name} of an expert"] = piece.columns
    return widths


def _too_small(shape: ModelShape, recipe: WeightQuantization, gpu_memory_bytes: int | None) -> Iterator[str]:
    if gpu_memory_bytes is None:
        return
    needed = quantization_needs(shape, recipe).gpu_bytes
    if needed <= gpu_memory_bytes:
        return
    what = "packing its largest matrix" if not recipe.samples else _calibration(recipe)
    text = f"quantizing takes about {gib(needed)} on one GPU, for {what}; it has {gib(gpu_memory_bytes)}"
    smaller = _smaller(shape, recipe, gpu_memory_bytes)
    if smaller is None:
        yield text
    elif smaller.samples:
        yield f"{text}; {_calibration(smaller)} would fit"
    else:
        yield f"{text}; without calibration data (dataset: None) it would fit"


def _calibration(recipe: WeightQuantization) -> str:
    batch = f" in batches of {recipe.batch_size}" if recipe.batch_size > 1 else ""
    return f"{recipe.samples} samples of {recipe.sequence_length} tokens{batch}"


def _smaller(shape: ModelShape, recipe: WeightQuantization, gpu_memory_bytes: int) -> WeightQuantization | None:
    """The largest calibration that fits: fewer samples, then shorter ones, then none."""
    tried = replace(recipe, batch_size=1)
    while tried.samples:
        if quantization_needs(shape, tried).gpu_bytes <= gpu_memory_bytes:
            return tried
        if tried.samples > LEAST_SAMPLES:
            tried = replace(tried, samples=max(tried.samples // 2, LEAST_SAMPLES))
        elif tried.sequence_length > LEAST_LENGTH:
            tried = replace(tried, sequence_length=max(tried.sequence_length // 2, LEAST_LENGTH))
        else:
            tried = replace(tried, samples=0, search_scale=False)
    fits = quantization_needs(shape, tried).gpu_bytes <= gpu_memory_bytes
    return tried if recipe.samples and fits else None


def _packed(shape: ModelShape) -> Iterator[Tensor]:
    """Matrices that become 4-bit ones: those of the layers, not the head."""
    return (piece for piece in shape.tensors if piece.linear and piece.role is not Role.HEAD)


def quantized_file_bytes(shape: ModelShape, recipe: WeightQuantization) -> int:
    """Return the size of the weight files that the recipe makes of a 16-bit checkpoint, in bytes."""
    how = CheckpointQuantization(recipe.method.lower(), recipe.bits, recipe.group_size, symmetric=False)
    packed = set(_packed(shape))
    total = 0.0
    tensors = 0
    for piece in shape.tensors:
        if piece in packed:
            total += quantized_bytes(piece.rows, piece.columns, how, wide_zeros=False) * piece.count
            tensors += 3 * piece.count
        else:
            total += piece.parameters * SERVED_BYTES
            tensors += piece.count
    return int(total) + HEADER_BYTES_PER_TENSOR * tensors


def _gpu_bytes(shape: ModelShape, recipe: WeightQuantization) -> int:
    """Return the largest of what the stages take, each with what stays on the GPU meanwhile."""
    packing = _PACKING_BYTES * max((piece.rows * piece.columns for piece in _packed(shape)), default=0)
    if not recipe.samples:
        return CUDA_CONTEXT + WORKSPACE + int(packing)
    resident = _resident_bytes(shape)
    hidden = recipe.samples * recipe.sequence_length * shape.hidden_size * SERVED_BYTES
    layer = _layer_bytes(shape)
    smoothing = _SMOOTHING_COPIES * _widest_bytes(shape)
    in_layer = layer + _COPIES_IN_LAYER * hidden + _batch_bytes(shape, recipe)
    reduction = _REDUCTION_BYTES * _inner_features(shape)
    stages = (
        in_layer + max(reduction, smoothing if recipe.search_scale else 0),
        _COPIES_AT_NORM * hidden,
        layer + smoothing,
        packing,
    )
    return CUDA_CONTEXT + WORKSPACE + resident + int(max(stages))


def _resident_bytes(shape: ModelShape) -> int:
    """Everything but layers and head is moved to the GPU and stays there: embedding and final norm."""
    embedding = sum(piece.parameters for piece in shape.tensors if piece.role is Role.EMBEDDING)
    return (embedding + shape.hidden_size) * SERVED_BYTES


def _layer_bytes(shape: ModelShape) -> float:
    """One decoder layer in 16 bit; of layers with and without experts the larger ones."""
    experts = shape.experts
    total = 0.0
    for piece in _packed(shape):
        in_experts = experts is not None and piece.role in _EXPERT_ROLES
        layers = experts.layers if experts is not None and in_experts else shape.layers
        total += piece.parameters * SERVED_BYTES / max(layers, 1)
    return total


def _widest_bytes(shape: ModelShape) -> int:
    """The matrices behind one norm, which are put side by side: gate and up, or query, key and value."""
    per_expert = {piece.role: piece.rows * piece.columns for piece in _packed(shape)}
    gates = sum(2 * size for role, size in per_expert.items() if role is Role.GATE_UP)
    if shape.experts is not None:
        gates = max(gates, 2 * shape.experts.count * per_expert.get(Role.EXPERT_GATE_UP, 0))
    attention = per_expert.get(Role.QUERY, 0) + 2 * per_expert.get(Role.KEY_VALUE, 0)
    return max(gates, attention) * SERVED_BYTES


def _batch_bytes(shape: ModelShape, recipe: WeightQuantization) -> float:
    """Activations of one batch inside a layer."""
    tokens = recipe.sequence_length * min(recipe.batch_size, recipe.samples)
    return tokens * (_INNER_COPIES * _inner_features(shape) + _OUTER_COPIES * shape.hidden_size) * SERVED_BYTES


def _inner_features(shape: ModelShape) -> int:
    return max((piece.rows for piece in _packed(shape) if piece.role in _GATES), default=0)
