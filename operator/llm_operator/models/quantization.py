"""quantization_config of a checkpoint: what is quantized, to how many bits, in which groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from llm_operator.models.errors import InvalidModelConfigError, UnknownQuantizationError
from llm_operator.models.fields import Fields, Json
from llm_operator.models.shape import CheckpointQuantization, Role
from llm_operator.models.skipping import Matcher, matcher

ATTENTION = frozenset(
    {Role.QUERY, Role.KEY_VALUE, Role.ATTENTION_OUTPUT, Role.LATENT_DOWN, Role.LATENT_QUERY, Role.LATENT_KEY_VALUE}
)
FEED_FORWARD = frozenset({Role.GATE_UP, Role.DOWN})
EXPERTS = frozenset({Role.EXPERT_GATE_UP, Role.EXPERT_DOWN})
EVERYTHING = ATTENTION | FEED_FORWARD | EXPERTS | {Role.HEAD, Role.MIXER_IN, Role.MIXER_OUT, Role.REPLICATED}
MOST_GROUPS = 16
AUTO_ROUND = ("auto-round", "intel/auto-round", "inc")

METHODS = "awq, gptq, auto-round, fp8, mxfp4, compressed-tensors, modelopt (FP8, NVFP4), quark and bitsandbytes"
# What modelopt calls its algorithms: (method, bits, group, bits of a scale).
MODELOPT = {
    "FP8": ("fp8", 8, None, 16),
    "FP8_PB_WO": ("fp8", 8, None, 16),
    "NVFP4": ("nvfp4", 4, 16, 8),
    "NVFP4_AWQ": ("nvfp4", 4, 16, 8),
    "W4A8_AWQ": ("awq", 4, 128, 16),
    "W4A16_AWQ": ("awq", 4, 128, 16),
}
QUARK = {"fp8_e4m3": ("fp8", 8), "int8": ("int8", 8), "int4": ("int4", 4), "uint4": ("int4", 4), "fp4": ("mxfp4", 4)}


def parse_quantization(value: dict[str, Json], architecture: str) -> CheckpointQuantization:
    """Read quantization_config.

    Raises InvalidModelConfigError for a broken one, UnknownQuantizationError for one whose bytes are not known.
    """
    fields = Fields(value, architecture)
    method = _method(fields)
    readers: dict[str, Callable[[Fields], CheckpointQuantization]] = {
        **dict.fromkeys(("awq", "awq-marlin", "auto-awq"), _awq),
        **dict.fromkeys(("gptq", "gptq-marlin", "auto-gptq"), _gptq),
        **dict.fromkeys(AUTO_ROUND, _auto_round),
        **dict.fromkeys(("fp8", "fbgemm-fp8"), _fp8),
        **dict.fromkeys(("modelopt", "modelopt-fp4", "modelopt-mixed"), _modelopt),
        "mxfp4": _mxfp4,
        "compressed-tensors": _compressed_tensors,
        "quark": _quark,
        "bitsandbytes": _bitsandbytes,
    }
    if method not in readers:
        raise UnknownQuantizationError(f"{method or 'no quant_method'} (known: {METHODS})")
    return replace(readers[method](fields), named=fields.string("quant_method", ""))


def _awq(fields: Fields) -> CheckpointQuantization:
    return _integer_groups(fields, "awq")


def _gptq(fields: Fields) -> CheckpointQuantization:
    return _integer_groups(fields, "gptq")


def _auto_round(fields: Fields) -> CheckpointQuantization:
    return replace(_integer_groups(fields, "gptq"), version=fields.string("packing_format", "auto_round"))


def _mxfp4(_: Fields) -> CheckpointQuantization:
    return CheckpointQuantization("mxfp4", 4, 32, scale_bits=8, skipped=EVERYTHING - EXPERTS)


def _fp8(fields: Fields) -> CheckpointQuantization:
    block = fields.integers("weight_block_size")
    if block and (len(block) != 2 or min(block) < 1):
        raise InvalidModelConfigError(f"config.json: weight_block_size is {list(block)}; expected two sizes")
    return CheckpointQuantization(
        "fp8", 8, block=(block[0], block[1]) if block else None, skipped=frozenset({Role.HEAD})
    )


def _modelopt(fields: Fields) -> CheckpointQuantization:
    """modelopt, whose fields stand in `quantization` (hf_quant_config.json) or beside quant_method."""
    inner = Fields(fields.optional_object("quantization") or dict(fields.values), fields.architecture)
    algorithm = inner.string("quant_algo", "").upper()
    if algorithm not in MODELOPT:
        raise UnknownQuantizationError(f"modelopt with quant_algo {algorithm or 'of nothing'} (known: {METHODS})")
    method, bits, group, scale = MODELOPT[algorithm]
    group = inner.integer("group_size", group) if group is not None else None
    return CheckpointQuantization(
        method,
        bits,
        group,
        scale_bits=scale,
        version="gemm" if method == "awq" else None,
        skipped=frozenset({Role.HEAD}),
        kv_cache_bits=_kv_cache_bits(inner),
    )


def _kv_cache_bits(fields: Fields) -> int | None:
    """Return the bits of the KV cache that the checkpoint has scales for (vLLM 0.33.0, utils/torch_utils.py)."""
    scheme = fields.values.get("kv_cache_scheme") or fields.values.get("kv_cache_quant_algo")
    if isinstance(scheme, dict):
        return Fields(scheme, fields.architecture).optional_integer("num_bits")
    return 8 if isinstance(scheme, str) and scheme.lower().startswith("fp8") else None


def _quark(fields: Fields) -> CheckpointQuantization:
    """Quark: one global weight scheme; layers with their own are not read."""
    if fields.optional_object("layer_quant_config"):
        raise UnknownQuantizationError("quark with a layer_quant_config")
    weight = fields.nested("global_quant_config").values.get("weight")
    if isinstance(weight, list):
        weight = weight[0] if len(weight) == 1 else None
    if not isinstance(weight, dict):
        raise UnknownQuantizationError("quark with several weight schemes")
    found = Fields(weight, fields.architecture)
    kind = found.string("dtype", "")
    if kind not in QUARK:
        raise UnknownQuantizationError(f"quark with weights of {kind or 'no dtype'}")
    method, bits = QUARK[kind]
    group = found.optional_integer("group_size") if found.string("qscheme", "") == "per_group" else None
    if method == "mxfp4" and group != 32:
        raise UnknownQuantizationError(f"quark's fp4 in groups of {group}")
    return CheckpointQuantization(
        method,
        bits,
        group,
        symmetric=found.boolean("symmetric", True),
        scale_bits=8 if method == "mxfp4" else 16,
        skipped=frozenset({Role.HEAD}),
    )


def _bitsandbytes(fields: Fields) -> CheckpointQuantization:
    """bitsandbytes: 4 bits with a 32-bit scale for 64 weights, or 8 bits with one for each row."""
    if fields.boolean("load_in_8bit", False) or fields.boolean("_load_in_8bit", False):
        return CheckpointQuantization("int8", 8, skipped=frozenset({Role.HEAD}))
    return CheckpointQuantization("bitsandbytes", 4, 64, scale_bits=32, skipped=frozenset({Role.HEAD}))


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
    """Return the scheme of compressed-tensors: the one for most modules if there are several."""
    return compressed_groups(fields)[0][1]


def compressed_groups(fields: Fields) -> tuple[tuple[tuple[str, ...], CheckpointQuantization], ...]:
    """Return (targets, scheme) of each of config_groups; the one that targets every Linear comes first."""
    groups = fields.optional_object("config_groups")
    if not 1 <= len(groups) <= MOST_GROUPS:
        raise UnknownQuantizationError(f"compressed-tensors with {len(groups)} config_groups")
    found = []
    for name, group in groups.items():
        if not isinstance(group, dict):
            raise InvalidModelConfigError(f"config.json: config_groups.{name} is not an object")
        of = Fields(group, fields.architecture)
        if of.values.get("weights") is None:
            continue
        found.append((of.strings("targets"), _compressed_scheme(of.nested("weights"), fields)))
    if not found:
        raise UnknownQuantizationError("compressed-tensors without weights in its config_groups")
    return tuple(sorted(found, key=lambda pair: "Linear" not in pair[0]))


def _compressed_scheme(weights: Fields, fields: Fields) -> CheckpointQuantization:
    bits = weights.integer("num_bits")
    floating = weights.string("type", "int") == "float"
    group = weights.optional_integer("group_size") if weights.values.get("group_size") != -1 else None
    kv = _kv_cache_bits(fields)
    if bits not in (4, 8):
        raise UnknownQuantizationError(f"compressed-tensors with weights of {bits} bits")
    if bits == 4 and floating:
        if group not in (16, 32):
            raise UnknownQuantizationError(f"compressed-tensors with floating weights of 4 bits in groups of {group}")
        method = "nvfp4" if group == 16 else "mxfp4"
        return CheckpointQuantization(method, 4, group, scale_bits=8, version="float", kv_cache_bits=kv)
    block = weights.integers("block_structure")
    return CheckpointQuantization(
        "compressed-tensors",
        bits,
        group,
        block=(block[0], block[1]) if len(block) == 2 else None,
        symmetric=weights.boolean("symmetric", True),
        version=weights.string("type", "int"),
        kv_cache_bits=kv,
    )


def _method(fields: Fields) -> str:
    return fields.string("quant_method", "").lower().replace("_", "-")


def matcher_of(value: dict[str, Json], architecture: str) -> Matcher:
    """Return which modules quantization_config leaves in 16 bit. Raises as `parse_quantization`."""
    fields = Fields(value, architecture)
    inner = Fields(fields.optional_object("quantization"), architecture)
    names = [
        name
        for source in (fields, inner)
        for field in (
            "modules_to_not_convert",
            "ignored_layers",
            "ignore",
            "exclude_modules",
            "exclude",
            "llm_int8_skip_modules",
        )
        for name in source.strings(field)
    ]
    method = _method(fields)
    names += _whole_blocks(fields, method)
    parts = method.startswith(("awq", "gptq", "auto-", "bitsandbytes"))
    return matcher(names, parts=parts, wildcards=method.startswith(("modelopt", "quark")))


def _whole_blocks(fields: Fields, method: str) -> list[str]:
    """Return auto-round's modules that extra_config leaves in 16 bit."""
    if method not in AUTO_ROUND:
        return []
    return [
        name
        for name, entry in fields.optional_object("extra_config").items()
        if isinstance(entry, dict) and entry.get("bits") == 16
    ]


def others_of(value: dict[str, Json], architecture: str) -> tuple[tuple[Matcher, CheckpointQuantization], ...]:
    """Return the schemes beside the main one, each with the modules it is for. Raises as `parse_quantization`."""
    fields = Fields(value, architecture)
    if _method(fields) != "compressed-tensors":
        return ()
    return tuple((matcher(targets, parts=False), scheme) for targets, scheme in compressed_groups(fields)[1:])


def targets_of(value: dict[str, Json], architecture: str) -> Matcher | None:
    """Return the modules that the main scheme is for; None if it is for every matrix."""
    fields = Fields(value, architecture)
    if _method(fields) != "compressed-tensors":
        return None
    targets = compressed_groups(fields)[0][0]
    return None if not targets or "Linear" in targets else matcher(targets, parts=False)
