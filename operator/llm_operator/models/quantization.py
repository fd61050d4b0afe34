"""quantization_config of a checkpoint: what is quantized, to how many bits, in which groups."""

from __future__ import annotations

from collections.abc import Iterable

from llm_operator.models.errors import InvalidModelConfigError
from llm_operator.models.fields import Fields, Json
from llm_operator.models.shape import CheckpointQuantization, Role

ATTENTION = frozenset(
    {Role.QUERY, Role.KEY_VALUE, Role.ATTENTION_OUTPUT, Role.LATENT_DOWN, Role.LATENT_QUERY, Role.LATENT_KEY_VALUE}
)
FEED_FORWARD = frozenset({Role.GATE_UP, Role.DOWN})
EXPERTS = frozenset({Role.EXPERT_GATE_UP, Role.EXPERT_DOWN})
EVERYTHING = ATTENTION | FEED_FORWARD | EXPERTS | {Role.HEAD}

# Name parts of modules as checkpoints spell them, most telling first.
MODULES: tuple[tuple[tuple[str, ...], frozenset[Role]], ...] = (
    (("lm_head", "output_layer"), frozenset({Role.HEAD})),
    (("q_a_proj", "kv_a_proj"), frozenset({Role.LATENT_DOWN})),
    (("q_proj",), frozenset({Role.QUERY, Role.LATENT_QUERY})),
    (("k_proj", "v_proj"), frozenset({Role.KEY_VALUE})),
    (("o_proj",), frozenset({Role.ATTENTION_OUTPUT})),
    (("attn", "attention"), ATTENTION),
    (("experts",), EXPERTS),
    (("gate_proj", "up_proj"), frozenset({Role.GATE_UP})),
    (("down_proj",), frozenset({Role.DOWN})),
)

METHODS = "awq, gptq, fp8, mxfp4 and compressed-tensors"


def parse_quantization(value: dict[str, Json], architecture: str) -> CheckpointQuantization:
    """Read quantization_config.

    Raises InvalidModelConfigError for a broken one, and for a method whose bytes this project does not know.
    """
    fields = Fields(value, architecture)
    method = fields.string("quant_method", "").lower().replace("_", "-")
    if method in {"awq", "gptq", "awq-marlin", "gptq-marlin"}:
        return _integer_groups(fields, method.split("-")[0])
    if method in {"fp8", "fbgemm-fp8"}:
        block = fields.integers("weight_block_size")
        if block and (len(block) != 2 or min(block) < 1):
            raise InvalidModelConfigError(f"config.json: weight_block_size is {list(block)}; expected two sizes")
        skipped = _skipped(fields.strings("modules_to_not_convert") + fields.strings("ignored_layers"))
        return CheckpointQuantization(
            "fp8", 8, block=(block[0], block[1]) if block else None, skipped=skipped | {Role.HEAD}
        )
    if method == "mxfp4":
        skipped = _skipped(fields.strings("modules_to_not_convert"))
        return CheckpointQuantization("mxfp4", 4, 32, skipped=skipped | (EVERYTHING - EXPERTS))
    if method == "compressed-tensors":
        return _compressed_tensors(fields)
    shown = method or "no quant_method"
    raise InvalidModelConfigError(
        f"config.json: quantization_config has {shown}; the bytes of {METHODS} are known, others are not planned"
    )


def _integer_groups(fields: Fields, method: str) -> CheckpointQuantization:
    bits = fields.integer("bits", 4 if method == "awq" else None)
    if bits not in (2, 3, 4, 8):
        raise InvalidModelConfigError(f"config.json: quantization_config.bits is {bits}; expected 2, 3, 4 or 8")
    group = _group(fields)
    skipped = _skipped(fields.strings("modules_to_not_convert"))
    head = frozenset() if fields.boolean("lm_head", False) else frozenset({Role.HEAD})
    symmetric = fields.boolean("sym", True) if method == "gptq" else not fields.boolean("zero_point", True)
    return CheckpointQuantization(
        method,
        bits,
        group,
        symmetric=symmetric,
        desc_act=fields.boolean("desc_act", False),
        version=fields.string("version", "gemm").lower() if method == "awq" else None,
        skipped=skipped | head,
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
        raise InvalidModelConfigError(
            f"config.json: compressed-tensors with {len(groups)} config_groups; exactly one is understood"
        )
    name, group = next(iter(groups.items()))
    if not isinstance(group, dict):
        raise InvalidModelConfigError(f"config.json: config_groups.{name} is no object")
    weights = Fields(group, fields.architecture).nested("weights")
    bits = weights.integer("num_bits")
    if bits not in (4, 8):
        raise InvalidModelConfigError(f"config.json: num_bits of compressed-tensors is {bits}; expected 4 or 8")
    block = weights.integers("block_structure")
    return CheckpointQuantization(
        "compressed-tensors",
        bits,
        weights.optional_integer("group_size") if weights.values.get("group_size") != -1 else None,
        block=(block[0], block[1]) if len(block) == 2 else None,
        symmetric=weights.boolean("symmetric", True),
        version=weights.string("type", "int"),
        skipped=_skipped(fields.strings("ignore")),
    )


def _skipped(patterns: Iterable[str]) -> frozenset[Role]:
    roles: set[Role] = set()
    for pattern in patterns:
        name = pattern.lower()
        if "vision" in name or "visual" in name:
            continue
        roles |= next((found for parts, found in MODULES if any(part in name for part in parts)), frozenset())
    return frozenset(roles)
