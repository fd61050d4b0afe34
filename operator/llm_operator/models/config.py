"""config.json of a repository to the shape of its model."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from llm_operator.models.errors import (
    InvalidModelConfigError,
    MissingFieldError,
    UnknownArchitectureError,
    UnsupportedModelKindError,
)
from llm_operator.models.families import (
    Decoder,
    chatglm,
    gemma,
    gemma2,
    gemma3,
    gemma3_multimodal,
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
from llm_operator.models.fields import Fields, Json, load_json
from llm_operator.models.latent import deepseek
from llm_operator.models.quantization import matcher_of, parse_quantization
from llm_operator.models.shape import ModelShape
from llm_operator.models.skipping import keep

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
        "Gemma3ForConditionalGeneration": ("Gemma3", gemma3_multimodal),
        "Phi3ForCausalLM": ("Phi3", phi3),
        "DeepseekV2ForCausalLM": ("DeepSeek", deepseek),
        "DeepseekV3ForCausalLM": ("DeepSeek", deepseek),
        "Glm4MoeLiteForCausalLM": ("DeepSeek", deepseek),
        "GlmForCausalLM": ("GLM4", glm),
        "Glm4ForCausalLM": ("GLM4", glm4),
        "ChatGLMModel": ("GLM4", chatglm),
        "ChatGLMForConditionalGeneration": ("GLM4", chatglm),
        "Glm4MoeForCausalLM": ("GLM4Moe", glm4_moe),
        "GptOssForCausalLM": ("GptOss", gpt_oss),
    }
)

DTYPES = ("bfloat16", "float16", "float32")
# Rope types whose max_position_embeddings already counts the stretched context.
STRETCHED = frozenset({"default", "llama3", "longrope", "su", "mrope", "proportional"})


def known_architectures() -> tuple[str, ...]:
    """Return the architectures whose shape is known, as config.json spells them."""
    return tuple(FAMILIES)


def parse_config_text(content: str | bytes) -> ModelShape:
    """Read the content of config.json. Raises ModelConfigError, as `parse_config` and for unreadable JSON."""
    return parse_config(load_json(content, "config.json"))


def parse_config(values: Mapping[str, Json]) -> ModelShape:
    """Return the shape of the model that config.json describes.

    Raises UnsupportedModelKindError for what generates no text, UnknownArchitectureError, MissingFieldError, and
    InvalidModelConfigError for contradictions, wrong types and absurd sizes.
    """
    architecture = _architecture(values)
    family, read = FAMILIES[architecture]
    fields = Fields(values, architecture)
    decoder = read(fields)
    core = decoder.core
    text = Fields(fields.optional_object("text_config") or dict(values), architecture)
    quantization = fields.optional_object("quantization_config") or text.optional_object("quantization_config")
    found = parse_quantization(quantization, architecture) if quantization else None
    tensors = tuple(decoder.tensors)
    if found is not None:
        tensors = keep(tensors, matcher_of(quantization, architecture), core.layers, decoder.experts)
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
        context_length=_context(core.context, text),
        tensors=tensors,
        attention=decoder.cache,
        experts=decoder.experts,
        quantization=found,
        rotary_dim=core.head_dim if decoder.rotary_dim is None else decoder.rotary_dim,
        rotary_tables=decoder.rotary_tables,
    )


def _architecture(values: Mapping[str, Json]) -> str:
    for marker, kind in (
        ("_diffusers_version", "a diffusion pipeline"),
        ("_class_name", "a diffusion pipeline"),
        ("peft_type", "an adapter"),
    ):
        if marker in values:
            raise UnsupportedModelKindError(kind, f"{marker} {str(values[marker])[:60]}")
    names = Fields(values, "model").strings("architectures", most=16)
    if not names:
        raise MissingFieldError("model", ["architectures"])
    name = names[0][:120]
    if name in FAMILIES:
        return name
    if values.get("is_encoder_decoder") is True:
        raise UnsupportedModelKindError("an encoder-decoder", name)
    heads = ("MaskedLM", "SequenceClassification", "TokenClassification", "QuestionAnswering", "RewardModel")
    encoders = ("Bert", "Roberta", "Deberta", "Electra", "MPNet", "CLIP", "Siglip", "ViT", "Whisper", "T5", "Wav2Vec")
    if name.endswith(heads) or (name.startswith(encoders) or name.endswith(("BertModel", "RobertaModel"))):
        raise UnsupportedModelKindError("an encoder or classifier", name)
    raise UnknownArchitectureError(name, difflib.get_close_matches(name, FAMILIES, n=3, cutoff=0.75))


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


def _context(positions: int, text: Fields) -> int:
    scaling = text.optional_object("rope_scaling") or text.optional_object("rope_parameters")
    if any(isinstance(part, dict) for part in scaling.values()):  # one entry per kind of layer: nothing is stretched
        return positions
    rope = Fields(scaling, text.architecture)
    kind = rope.string("rope_type", rope.string("type", "default"))
    factor = rope.number("factor", 1.0)
    if kind in STRETCHED or factor <= 1:
        return positions
    base = rope.integer("original_max_position_embeddings", positions) if kind == "yarn" else positions
    return min(max(int(base * factor), positions), 1 << 30)
