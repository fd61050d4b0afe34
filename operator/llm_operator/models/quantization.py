"""quantization_config of a checkpoint: what is quantized, to how many bits, in which groups."""

from __future__ import annotations

from llm_operator.models.errors import InvalidModelConfigError, UnknownQuantizationError
from llm_operator.models.fields import Fields, Json
from llm_operator.models.shape import CheckpointQuantization, Role
from llm_operator.models.skipping import Matcher, matcher

ATTENTION = frozenset(
    {Role.QUERY, Role.KEY_VALUE, Role.ATTENTION_OUTPUT, Role.LATENT_DOWN, Role.LATENT_QUERY, Role.LATENT_KEY_VALUE}
)
FEED_FORWARD = frozenset({Role.GATE_UP, Role.DOWN})
EXPERTS = frozenset({Role.EXPERT_GATE_UP, Role.EXPERT_DOWN})
EVERYTHING = ATTENTION | FEED_FORWARD | EXPERTS | {Role.HEAD}

METHODS = "awq, gptq, fp8, mxfp4, compressed-tensors and modelopt's FP8"


def parse_quantization(value: dict[str, Json], architecture: str) -> CheckpointQuantization:
    """Read quantization_config.

    Raises InvalidModelConfigError for a broken one, UnknownQuantizationError for one whose bytes are not known.
    """
    fields = Fields(value, architecture)
    method = _method(fields)
    if method in {"awq", "gptq", "awq-marlin", "gptq-marlin"}:
        return _integer_groups(fields, method.split("-")[0])
    if method in {"fp8", "fbgemm-fp8"}:
        block = fields.integers("weight_block_size")
        if block and (len(block) != 2 or min(block) < 1):
            raise InvalidModelConfigError(f"config.json: weight_block_size is {list(block)}; expected two sizes")
        return CheckpointQuantization(
            "fp8", 8, block=(block[0], block[1]) if block else None, skipped=frozenset({Role.HEAD})
        )
    if method == "modelopt" and fields.string("quant_algo", "").upper() == "FP8":
        return CheckpointQuantization("fp8", 8, skipped=frozenset({Role.HEAD}))
    if method == "mxfp4":
        return CheckpointQuantization("mxfp4", 4, 32, skipped=EVERYTHING - EXPERTS)
    if method == "compressed-tensors":
        return _compressed_tensors(fields)
    shown = method or "no quant_method"
    raise UnknownQuantizationError(f"{shown} (known: {METHODS})")


def _integer_groups(fields: Fields, method: str) -> CheckpointQuantization:
    bits = fields.integer("bits", 4 if method == "awq" else None)
    if bits not in (2, 3, 4, 8):
        raise InvalidModelConfigError(f"config.json: quantization_config.bits is {bits}; expected 2, 3, 4 or 8")
    group = _group(fields)
    head = frozenset() if fields.boolean("lm_head", False) else frozenset({Role.HEAD})
    symmetric = fields.boolean("sym", True) if method == "gptq" else not fields.boolean("zero_point", True)
    return CheckpointQuantization(
        method,
        bits,
        group,
        symmetric=symmetric,
        desc_act=fields.boolean("desc_act", False),
        version=fields.string("version", "gemm").lower() if method == "awq" else None,
        skipped=head,
    )


def _group(fields: Fields) -> int | None:
    value = fields.values.get("group_size", fields.values.get("q_group_size"))
    if value is None or value == -1:
        return None
    name = "group_size" if "group_size" in fields.values else "q_group_size"
    return fields.integer(name)


def _compressed_tensors(fields: Fields) -> CheckpointQuantization:
    groups = fields.optional_object("config_groups")
    if len(groups) != 1:
        raise UnknownQuantizationError(f"compressed-tensors with {len(groups)} config_groups")
    name, group = next(iter(groups.items()))
    if not isinstance(group, dict):
        raise InvalidModelConfigError(f"config.json: config_groups.{name} is no object")
    weights = Fields(group, fields.architecture).nested("weights")
    bits = weights.integer("num_bits")
    if bits not in (4, 8):
        raise UnknownQuantizationError(f"compressed-tensors with weights of {bits} bits")
    if bits == 4 and weights.string("type", "int") == "float":
        raise UnknownQuantizationError("compressed-tensors with floating weights of 4 bits")
    block = weights.integers("block_structure")
    return CheckpointQuantization(
        "compressed-tensors",
        bits,
        weights.optional_integer("group_size") if weights.values.get("group_size") != -1 else None,
        block=(block[0], block[1]) if len(block) == 2 else None,
        symmetric=weights.boolean("symmetric", True),
        version=weights.string("type", "int"),
    )


def _method(fields: Fields) -> str:
    return fields.string("quant_method", "").lower().replace("_", "-")


def matcher_of(value: dict[str, Json], architecture: str) -> Matcher:
    """Return which modules quantization_config leaves in 16 bit. Raises as `parse_quantization`."""
    fields = Fields(value, architecture)
    names = [
        name
        for field in ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
        for name in fields.strings(field)
    ]
    method = _method(fields)
    return matcher(names, parts=method.startswith(("awq", "gptq")), wildcards=method == "modelopt")
