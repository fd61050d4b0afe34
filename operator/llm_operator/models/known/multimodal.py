"""Models that see or hear: the decoder by its own reader, the tower beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from llm_operator.models import families
from llm_operator.models.decoder import Decoder
from llm_operator.models.errors import UnknownArchitectureError
from llm_operator.models.fields import Fields
from llm_operator.models.known import gemma, hybrids, special, towers
from llm_operator.models.known.general import decoder
from llm_operator.models.known.nested import nested
from llm_operator.models.known.rows import ROWS
from llm_operator.models.known.towers import Built
from llm_operator.models.latent import deepseek

Reader = Callable[[Fields], Decoder]
TowerReader = Callable[[Fields, int], Built]


def _glm4v(fields: Fields) -> Decoder:
    return families.glm4(Fields({"attention_bias": True, **fields.values}, fields.architecture), head_dim=None)


def _glm4v_moe(fields: Fields) -> Decoder:
    return families.glm4_moe(Fields({"attention_bias": True, **fields.values}, fields.architecture))


# By model_type of the text part, or by its architecture where it names one.
TEXTS: Mapping[str, Reader] = MappingProxyType(
    {
        "deepseek_v3": deepseek,
        "kimi_k2": deepseek,
        "gemma2": families.gemma2,
        "gemma3_text": families.gemma3,
        "glm4v_moe_text": _glm4v_moe,
        "glm4v_text": _glm4v,
        "gpt_oss": families.gpt_oss,
        "internlm2": families.internlm,
        "lfm2": hybrids.lfm2,
        "lfm2_moe": hybrids.lfm2,
        "llama": families.llama,
        "llama4_text": special.llama4,
        "mistral": families.mistral,
        "mistral4": deepseek,
        "ministral3": decoder(ROWS["Ministral3ForCausalLM"][1]),
        "nemotron_h": hybrids.nemotron_h,
        "phi3": families.phi3,
        "qwen2": families.qwen2,
        "qwen2_vl_text": families.qwen2,
        "qwen2_5_vl_text": families.qwen2,
        "qwen2_vl": families.qwen2,
        "qwen2_5_vl": families.qwen2,
        "qwen3": families.qwen3,
        "qwen3_moe": families.qwen3_moe,
        "qwen3_vl_text": families.qwen3,
        "qwen3_vl_moe_text": families.qwen3_moe,
        "qwen3_omni_moe_text": families.qwen3_moe,
        "qwen3_5_text": hybrids.qwen3_5,
        "qwen3_5_moe_text": hybrids.qwen3_5_moe,
    }
)
ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {
        "Qwen2ForCausalLM": "qwen2",
        "Qwen3ForCausalLM": "qwen3",
        "Qwen3MoeForCausalLM": "qwen3_moe",
        "LlamaForCausalLM": "llama",
        "InternLM2ForCausalLM": "internlm2",
        "Phi3ForCausalLM": "phi3",
        "GptOssForCausalLM": "gpt_oss",
        "DeepseekV3ForCausalLM": "deepseek_v3",
        "KimiK2ForCausalLM": "deepseek_v3",
        "MistralForCausalLM": "mistral",
        "NemotronHForCausalLM": "nemotron_h",
    }
)


def _text(fields: Fields, kind: str, *, tied_at_top: bool = True) -> Decoder:
    """Return the decoder of the text part; older files have its fields at the top.

    tied_at_top: tie_word_embeddings beside the text part decides, as for most.
    """
    name = next((name for name in ("text_config", "llm_config") if fields.values.get(name) is not None), "")
    text = (
        nested(fields, name, kind=kind) if name else Fields({"model_type": kind, **fields.values}, fields.architecture)
    )
    named = text.strings("architectures", most=16) if name else ()
    chosen = ARCHITECTURES.get(named[0], "") if named else ""
    model_type = chosen or text.string("model_type", kind)
    if model_type not in TEXTS:
        raise UnknownArchitectureError(f"{fields.architecture} with a text part of {model_type[:60]}")
    if tied_at_top and isinstance(fields.values.get("tie_word_embeddings"), bool) and name:
        text = Fields({**text.values, "tie_word_embeddings": fields.values["tie_word_embeddings"]}, text.architecture)
    return TEXTS[model_type](text)


def seeing(
    kind: str,
    tower: Callable[[Fields, Fields, int], Built],
    *,
    vision: str = "vision_config",
    tied_at_top: bool = True,
) -> Reader:
    """Return the reader of a model with a tower. kind: model_type of the text part where the file names none."""

    def read(fields: Fields) -> Decoder:
        text = _text(fields, kind, tied_at_top=tied_at_top)
        tensors, found = tower(nested(fields, vision), fields, text.core.hidden)
        return replace(text, tensors=text.tensors + tensors, tower=found)

    return read


def _llava(vision: Fields, parent: Fields, text: int) -> Built:
    if vision.string("model_type", "") == "pixtral":
        return towers.pixtral(vision, parent, text, merger=False)
    return towers.clip(vision, parent, text)


def _kimi(vision: Fields, _: Fields, text: int) -> Built:
    return towers.moonvit(vision, text)


def _plain(tower: TowerReader) -> Callable[[Fields, Fields, int], Built]:
    return lambda vision, _, text: tower(vision, text)


def omni(fields: Fields) -> Decoder:
    """Qwen3-Omni: what thinks, sees and hears; what speaks is no part of what the engines serve."""
    thinker = nested(fields, "thinker_config") if fields.values.get("thinker_config") is not None else fields
    text = seeing("qwen3_moe", _plain(towers.qwen3))(thinker)
    tensors, _ = towers.qwen_audio(nested(thinker, "audio_config", kind="qwen3_omni_moe_audio_encoder"))
    return replace(text, tensors=text.tensors + tensors)


def _mistral(vision: Fields, parent: Fields, text: int) -> Built:
    return towers.pixtral(vision, parent, text, merger=True)


MULTIMODAL: Mapping[str, tuple[str, Reader]] = MappingProxyType(
    {
        "Gemma3ForConditionalGeneration": ("Gemma3", seeing("gemma3_text", _plain(towers.siglip))),
        "Gemma3nForConditionalGeneration": ("Gemma3n", gemma.gemma3n_multimodal),
        "Gemma4ForConditionalGeneration": ("Gemma4", gemma.gemma4_multimodal),
        "Glm4vForConditionalGeneration": ("GLM4V", seeing("glm4v_text", _plain(towers.glm4v))),
        "Glm46VForConditionalGeneration": ("GLM4V", seeing("glm4v_text", _plain(towers.glm4v))),
        "Glm4vMoeForConditionalGeneration": ("GLM4V", seeing("glm4v_moe_text", _plain(towers.glm4v))),
        "InternS1ForConditionalGeneration": ("InternS1", seeing("qwen3", towers.internvit)),
        "InternVLChatModel": ("InternVL", seeing("qwen2", towers.internvit)),
        "InternVLForConditionalGeneration": ("InternVL", seeing("qwen2", towers.internvit)),
        "KimiK25ForConditionalGeneration": ("Kimi", seeing("deepseek_v3", _kimi)),
        "KimiVLForConditionalGeneration": ("Kimi", seeing("deepseek_v3", _kimi)),
        "Lfm2VlForConditionalGeneration": ("LFM2", seeing("lfm2", towers.siglip2)),
        "Llama4ForConditionalGeneration": (
            "Llama4",
            seeing("llama4_text", _plain(towers.llama4), tied_at_top=False),
        ),
        "LlavaForConditionalGeneration": ("Llava", seeing("llama", _llava)),
        "Mistral3ForConditionalGeneration": ("Mistral", seeing("mistral", _mistral)),
        "Qwen2VLForConditionalGeneration": ("Qwen2VL", seeing("qwen2", _plain(towers.qwen2))),
        "Qwen2_5_VLForConditionalGeneration": ("Qwen2VL", seeing("qwen2", _plain(towers.qwen2_5))),
        "Qwen3OmniMoeForConditionalGeneration": ("Qwen3Omni", omni),
        "Qwen3OmniMoeThinkerForConditionalGeneration": ("Qwen3Omni", omni),
        "Qwen3VLForConditionalGeneration": ("Qwen3VL", seeing("qwen3", _plain(towers.qwen3))),
        "Qwen3VLMoeForConditionalGeneration": ("Qwen3VL", seeing("qwen3_moe", _plain(towers.qwen3))),
        "Qwen3_5ForConditionalGeneration": ("Qwen3_5", seeing("qwen3_5_text", _plain(towers.qwen3))),
        "Qwen3_5MoeForConditionalGeneration": ("Qwen3_5", seeing("qwen3_5_moe_text", _plain(towers.qwen3))),
        "VoxtralForConditionalGeneration": (
            "Voxtral",
            seeing("llama", _plain(towers.whisper), vision="audio_config", tied_at_top=False),
        ),
    }
)
