"""config.json of a repository to the shape of its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from llm_operator.models.decoder import Decoder
from llm_operator.models.errors import (
    InvalidModelConfigError,
    MissingFieldError,
    UnknownArchitectureError,
)
from llm_operator.models.families import (
    chatglm,
    gemma,
    gemma2,
    gemma3,
    glm,
    glm4,
    glm4_moe,
    gpt_oss,
    internlm,
    llama,
    mistral,
    mixtral,
    phi3,
    qwen2,
    qwen2_moe,
    qwen3,
    qwen3_moe,
)
from llm_operator.models.fields import Fields, Json, load_json, with_synonyms
from llm_operator.models.kinds import refuse_architecture, refuse_other_files, refuse_other_kinds
from llm_operator.models.known import gemma as gemma_known
from llm_operator.models.known import hybrids, nemotron, special
from llm_operator.models.known.by_files import BY_FILES
from llm_operator.models.known.general import decoder as reader_of
from llm_operator.models.known.multimodal import MULTIMODAL
from llm_operator.models.known.newest import NEWEST
from llm_operator.models.known.older import OLDER
from llm_operator.models.known.recent import RECENT
from llm_operator.models.known.rows import ROWS
from llm_operator.models.latent import deepseek
from llm_operator.models.quantization import matcher_of, others_of, parse_quantization, targets_of
from llm_operator.models.shape import ModelShape, Tensor
from llm_operator.models.skipping import assign, keep

FAMILIES: Mapping[str, tuple[str, Callable[[Fields], Decoder]]] = MappingProxyType(
    {
        "LlamaForCausalLM": ("Llama", llama),
        "InternLM2ForCausalLM": ("InternLM", internlm),
        "InternLM3ForCausalLM": ("InternLM", internlm),
        "MistralForCausalLM": ("Mistral", mistral),
        "MixtralForCausalLM": ("Mixtral", mixtral),
        "Qwen2ForCausalLM": ("Qwen2", qwen2),
        "Qwen2MoeForCausalLM": ("Qwen2Moe", qwen2_moe),
        "Qwen3ForCausalLM": ("Qwen3", qwen3),
        "Qwen3MoeForCausalLM": ("Qwen3Moe", qwen3_moe),
        "GemmaForCausalLM": ("Gemma", gemma),
        "Gemma2ForCausalLM": ("Gemma2", gemma2),
        "Gemma3ForCausalLM": ("Gemma3", gemma3),
        "Phi3ForCausalLM": ("Phi3", phi3),
        "DeepseekV2ForCausalLM": ("DeepSeek", deepseek),
        "DeepseekV3ForCausalLM": ("DeepSeek", deepseek),
        "DeepseekV32ForCausalLM": ("DeepSeek", deepseek),
        "Glm4MoeLiteForCausalLM": ("DeepSeek", deepseek),
        "GlmMoeDsaForCausalLM": ("GLM5", deepseek),
        "KimiK2ForCausalLM": ("DeepSeek", deepseek),
        "Mistral4ForCausalLM": ("Mistral", deepseek),
        "MistralLarge3ForCausalLM": ("Mistral", deepseek),
        "GlmForCausalLM": ("GLM4", glm),
        "Glm4ForCausalLM": ("GLM4", glm4),
        "ChatGLMModel": ("GLM4", chatglm),
        "ChatGLMForConditionalGeneration": ("GLM4", chatglm),
        "Glm4MoeForCausalLM": ("GLM4Moe", glm4_moe),
        "GptOssForCausalLM": ("GptOss", gpt_oss),
        **MULTIMODAL,
        **BY_FILES,
        **OLDER,
        **RECENT,
        **NEWEST,
        "Gemma3nForCausalLM": ("Gemma3n", gemma_known.gemma3n),
        "Gemma4ForCausalLM": ("Gemma4", gemma_known.gemma4),
        "DeciLMForCausalLM": ("DeciLM", special.decilm),
        "FalconForCausalLM": ("Falcon", special.falcon),
        "HunYuanMoEV1ForCausalLM": ("HunYuan", special.hunyuan_moe),
        "Llama4ForCausalLM": ("Llama4", special.llama4),
        "MiMoV2FlashForCausalLM": ("MiMo", special.mimo_v2),
        "BambaForCausalLM": ("Bamba", hybrids.bamba),
        "FalconH1ForCausalLM": ("FalconH1", hybrids.falcon_h1),
        "GraniteMoeHybridForCausalLM": ("Granite", hybrids.granite_hybrid),
        "JambaForCausalLM": ("Jamba", hybrids.jamba),
        "KimiLinearForCausalLM": ("KimiLinear", hybrids.kimi_linear),
        "Lfm2ForCausalLM": ("LFM2", hybrids.lfm2),
        "Lfm2MoeForCausalLM": ("LFM2", hybrids.lfm2),
        "MiniMaxForCausalLM": ("MiniMax", hybrids.minimax),
        "MiniMaxText01ForCausalLM": ("MiniMax", hybrids.minimax),
        "MiniMaxM1ForCausalLM": ("MiniMax", hybrids.minimax),
        "NemotronHForCausalLM": ("NemotronH", nemotron.nemotron_h),
        "OlmoHybridForCausalLM": ("Olmo", hybrids.olmo_hybrid),
        "Qwen3NextForCausalLM": ("Qwen3Next", hybrids.qwen3_next),
        "Qwen3_5ForCausalLM": ("Qwen3_5", hybrids.qwen3_5),
        "Qwen3_5MoeForCausalLM": ("Qwen3_5", hybrids.qwen3_5_moe),
        "MiMoV2ForCausalLM": ("MiMo", special.mimo_v2),
        "Zamba2ForCausalLM": ("Zamba2", hybrids.zamba2),
        "ExaoneMoEForCausalLM": ("Exaone", reader_of(ROWS["ExaoneMoeForCausalLM"][1])),  # as K-EXAONE spells it
        **{architecture: (family, reader_of(traits)) for architecture, (family, traits) in ROWS.items()},
    }
)

QUANTIZATION_BESIDE = "hf_quant_config.json"
# Nested configs of the language model, as different models spell them.
TEXTS = ("text_config", "llm_config", "language_config")
DTYPES = ("bfloat16", "float16", "float32")
# Rope types whose max_position_embeddings already counts the stretched context.
STRETCHED = frozenset({"default", "llama3", "longrope", "su", "mrope", "proportional", "axial"})
YARN = frozenset({"yarn", "deepseek_yarn"})
STRETCHING = YARN | {"linear", "dynamic", "xdrope"}


def known_architectures() -> tuple[str, ...]:
    """Return the architectures whose shape is known, as config.json spells them."""
    return tuple(FAMILIES)


def parse_config_text(content: str | bytes, beside: str | bytes | None = None) -> ModelShape:
    """Read the content of config.json. Raises ModelConfigError, as `parse_config` and for unreadable JSON.

    beside: the content of hf_quant_config.json. ModelOpt up to 0.29 says there how the weights are quantized, and vLLM
    reads it if config.json says nothing (0.33.0, transformers_utils/config.py). LMDeploy does not.
    """
    values = load_json(content, "config.json")
    if beside is not None and not _quantization(Fields(values, "model")):
        told = load_json(beside, QUANTIZATION_BESIDE)
        if isinstance(told.get("quantization"), dict):
            values = {**values, "quantization_config": {"quant_method": "modelopt", **told}}
    return parse_config(values)


def parse_config(values: Mapping[str, Json]) -> ModelShape:
    """Return the shape of the model that config.json describes.

    Raises UnsupportedModelKindError for what generates no text, UnknownArchitectureError, MissingFieldError, and
    InvalidModelConfigError for contradictions, wrong types and absurd sizes.
    """
    architecture = _architecture(values)
    family, read = FAMILIES[architecture]
    fields = Fields(with_synonyms(values), architecture)
    decoder = read(fields)
    core = decoder.core
    text = _text(fields)
    quantization = _quantization(fields)
    found = parse_quantization(quantization, architecture) if quantization else None
    tensors = tuple(piece for piece in decoder.tensors if piece.count)
    if found is not None:
        tensors = _quantized(tensors, quantization, architecture, decoder)
        linear = [piece for piece in tensors if piece.linear]
        whole = {piece.role for piece in linear} - {piece.role for piece in linear if not piece.kept}
        found = replace(found, skipped=found.skipped | whole)
    return ModelShape(
        architecture=architecture,
        family=family,
        layers=core.layers,
        hidden_size=core.hidden,
        intermediate_size=core.intermediate,
        vocabulary_size=core.vocabulary,
        heads=core.heads,
        kv_heads=core.kv_heads,
        head_dim=core.head_dim,
        tied_embeddings=core.tied,
        dtype=_dtype(fields, text),
        context_length=_context(core.context, text, family),
        tensors=tensors,
        attention=decoder.cache,
        experts=decoder.experts,
        quantization=found,
        rotary_dim=core.head_dim if decoder.rotary_dim is None else decoder.rotary_dim,
        rotary_tables=decoder.rotary_tables,
        rotary_sections="mrope_section" in _rope(text),
        states=decoder.states,
        compressed=decoder.compressed,
        streams=decoder.streams,
        tower=decoder.tower,
        unplanned=decoder.unplanned,
        unserved=decoder.unserved,
        tower_by_files=decoder.tower_by_files,
        own_code=_own_code(fields),
    )


def _text(fields: Fields) -> Fields:
    """Return the fields of the language model: a nested config's, or the file's own."""
    named = next((name for name in TEXTS if fields.values.get(name) is not None), "")
    return Fields(fields.optional_object(named) or dict(fields.values), fields.architecture)


def _quantization(fields: Fields) -> dict[str, Json]:
    """Return how the checkpoint is quantized, wherever the file says it; empty if it says nothing.

    Both engines look into the nested configs as well (vLLM 0.33.0, transformers_utils/model_arch_config_convertor.py;
    LMDeploy 0.18.0, archs.py, search_nested_config). compression_config is compressed-tensors' older name.
    """
    thinker = fields.optional_object("thinker_config")
    outer = (fields, *(Fields(part, fields.architecture) for part in (thinker,) if part))
    places = [*outer, *(Fields(of.optional_object(name), of.architecture) for of in outer for name in TEXTS)]
    found = (of.optional_object(name) for of in places for name in ("quantization_config", "compression_config"))
    return next((quantization for quantization in found if quantization), {})


def _own_code(fields: Fields) -> str:
    """Return the model_type of a file that names a configuration class of its repository; empty: it names none."""
    return fields.string("model_type", "") if "AutoConfig" in fields.optional_object("auto_map") else ""


def _quantized(
    tensors: tuple[Tensor, ...], quantization: dict[str, Json], architecture: str, decoder: Decoder
) -> tuple[Tensor, ...]:
    """Return the tensors with what the checkpoint leaves in 16 bit, or quantizes otherwise than the rest, marked."""
    layers, experts = decoder.core.layers, decoder.experts
    tensors = keep(tensors, matcher_of(quantization, architecture), layers, experts)
    main, others = targets_of(quantization, architecture), others_of(quantization, architecture)
    for named, how in others:
        tensors = assign(tensors, named, layers, experts, how)
    if main is None:
        return tensors

    def untargeted(name: str) -> bool:
        return not main(name) and not any(named(name) for named, _ in others)

    return keep(tensors, untargeted, layers, experts)


def _architecture(values: Mapping[str, Json]) -> str:
    refuse_other_kinds(values)
    names = Fields(values, "model").strings("architectures", most=16)
    if not names:
        refuse_other_files(values)
        raise MissingFieldError("model", ["architectures"])
    name = names[0][:120]
    if name in FAMILIES:
        return name
    refuse_architecture(values, name, FAMILIES)
    raise UnknownArchitectureError(name)


def _dtype(fields: Fields, text: Fields) -> str:
    for source in (fields, text):
        for name in ("dtype", "torch_dtype"):
            value = source.string(name, "").removeprefix("torch.")
            if value:
                if value not in DTYPES:
                    raise InvalidModelConfigError(
                        f"config.json: {name} is {value!r}; expected one of {', '.join(DTYPES)}"
                    )
                return value
    return "bfloat16"


def _rope(text: Fields) -> dict[str, Json]:
    return text.optional_object("rope_scaling") or text.optional_object("rope_parameters")


def _context(positions: int, text: Fields, family: str) -> int:
    """Return the longest context as vLLM 0.33.0 derives it (config/model.py, _get_and_verify_max_len).

    Raises InvalidModelConfigError for an unknown rope type and for a stretch without a positive factor.
    """
    scaling = _rope(text)
    if any(isinstance(part, dict) for part in scaling.values()):  # one entry per kind of layer: nothing is stretched
        return positions
    rope = Fields(scaling, text.architecture)
    kind = rope.string("rope_type", rope.string("type", "default"))
    if kind in STRETCHED:
        return positions
    if kind not in STRETCHING:
        known = ", ".join(sorted(STRETCHED | STRETCHING))
        raise InvalidModelConfigError(f"config.json: rope_scaling has type {kind[:40]!r}; expected one of {known}")
    rope.require("factor")
    factor = rope.number("factor", 1.0)
    if factor <= 0:
        raise InvalidModelConfigError(f"config.json: rope_scaling has factor {factor}; expected more than 0")
    if factor <= 1 or family == "Gemma3":  # Gemma 3's max_position_embeddings counts the factor already
        return positions
    base = rope.integer("original_max_position_embeddings", positions) if kind in YARN else positions
    return min(max(int(base * factor), positions), 1 << 30)
