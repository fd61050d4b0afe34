"""Models that see or hear whose decoder is a known one and whose encoder was not read.

vLLM 0.33.0 makes their decoders with the classes of the text part (model_executor/models, init_vllm_registered_model).
The encoder is counted by the size of the weight files (`completed`), whole on each GPU, which is the most it takes, and
in vLLM's first run as one that sees as much as Qwen's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from llm_operator.models import families
from llm_operator.models.decoder import Decoder
from llm_operator.models.fields import Fields, with_synonyms
from llm_operator.models.known import gemma, newest, recent, special
from llm_operator.models.known.general import decoder
from llm_operator.models.known.multimodal import TEXTS, Reader, text_of
from llm_operator.models.known.nested import nested
from llm_operator.models.known.rows import ROWS
from llm_operator.models.shape import Tower

PATCHES = 16_384
TOKENS = 4096


def _nested(kind: str) -> Reader:
    """Return the reader of a model with a text part. kind: its model_type where the file names none."""
    return _seeing(lambda fields: text_of(fields, kind))


def _seeing(decoder: Reader) -> Reader:
    def read(fields: Fields) -> Decoder:
        vision = Fields(fields.optional_object("vision_config"), fields.architecture)
        width = vision.optional_integer("hidden_size") or 1152
        inner = vision.optional_integer("intermediate_size") or 4 * width
        layers = vision.optional_integer("num_hidden_layers") or 27
        return replace(decoder(fields), tower=Tower(width, inner, layers, PATCHES, TOKENS), tower_by_files=True)

    return read


def _inside(reader: Reader, *path: str) -> Reader:
    """Return the reader of a decoder whose fields lie in a nested config. path: its name, in others."""

    def read(fields: Fields) -> Decoder:
        for name in path:
            values = fields.nested(name).values
            fields = Fields(with_synonyms(dict(values)), fields.architecture)
        return reader(fields)

    return _seeing(read)


def _deepseek(fields: Fields) -> Decoder:
    """DeepSeek-OCR 2 and DeepSeek-VL2: the first DeepSeek MoE's layers, or with latents DeepSeek V2's."""
    inner = Fields({**fields.values, **fields.optional_object("language_config")}, fields.architecture)
    latent = inner.boolean("use_mla", inner.values.get("kv_lora_rank") is not None)
    return TEXTS["deepseek_v2" if latent else "deepseek"](inner)


def _gemma4(fields: Fields) -> Decoder:
    """Gemma 4 whose one tower sees and hears: its text part, tied or not as beside it."""
    inner = nested(fields, "text_config", kind="gemma4_unified_text")
    tied = fields.boolean("tie_word_embeddings", inner.boolean("tie_word_embeddings", True))
    return gemma.gemma4(Fields({**inner.values, "tie_word_embeddings": tied}, fields.architecture))


def _pangu(fields: Fields) -> Decoder:
    """Pangu VL: embedded Pangu's layers, in text_config or at the top."""
    text = fields.optional_object("text_config") or dict(fields.values)
    return decoder(ROWS["PanguEmbeddedForCausalLM"][1])(Fields(with_synonyms(text), fields.architecture))


def _hunyuan(fields: Fields) -> Decoder:
    """HunYuan VL and OCR: dense HunYuan's layers, tied unless the file says otherwise; older files have no text_config.

    transformers 5.20.2, models/hunyuan_vl, with which vLLM serves it.
    """
    text = fields.optional_object("text_config") or dict(fields.values)
    tied = fields.boolean("tie_word_embeddings", True)
    values = with_synonyms({**text, "tie_word_embeddings": tied})
    return decoder(ROWS["HunYuanDenseV1ForCausalLM"][1])(Fields(values, fields.architecture))


BY_FILES: Mapping[str, tuple[str, Reader]] = MappingProxyType(
    {
        "AudioFlamingo3ForConditionalGeneration": ("AudioFlamingo", _nested("qwen2")),
        "BailingMoeV3VLForConditionalGeneration": ("Bailing", _inside(newest.ling3, "text_config")),
        "BeeForConditionalGeneration": ("Bee", _nested("qwen3")),
        "DeepseekOCR2ForCausalLM": ("DeepSeekOCR", _seeing(_deepseek)),
        "DeepseekV4ForConditionalGeneration": ("DeepSeek", _seeing(recent.deepseek_v4)),
        "DeepseekVLV2ForCausalLM": ("DeepSeekVL", _seeing(_deepseek)),
        "Eagle2_5_VLForConditionalGeneration": ("Eagle", _nested("qwen2")),
        "FunAudioChatForConditionalGeneration": ("FunAudio", _nested("qwen3")),
        "GLM4VForCausalLM": ("GLM4V", _seeing(families.chatglm)),
        "Gemma4UnifiedForConditionalGeneration": ("Gemma4", _seeing(_gemma4)),
        "GlmAsrForConditionalGeneration": ("GLMASR", _nested("llama")),
        "Granite4VisionForConditionalGeneration": ("Granite", _nested("granitemoehybrid")),
        "GraniteSpeechForConditionalGeneration": ("Granite", _nested("granite")),
        "GraniteSpeechPlusForConditionalGeneration": ("Granite", _nested("granite")),
        "HCXVisionV2ForCausalLM": ("HyperCLOVAX", _nested("hyperclovax")),
        "HunYuanVLForConditionalGeneration": ("HunYuan", _seeing(_hunyuan)),
        "InternS1ProForConditionalGeneration": ("InternS1", _inside(TEXTS["qwen3_moe"], "text_config")),
        "InternS1_1_ForConditionalGeneration": ("InternS1", _inside(TEXTS["qwen3_moe"], "text_config")),
        "InternS2PreviewForConditionalGeneration": ("InternS2", _inside(TEXTS["qwen3_5_moe_text"], "text_config")),
        "IsaacForConditionalGeneration": ("Isaac", _nested("qwen3")),
        "KananaVForConditionalGeneration": ("Kanana", _nested("llama")),
        "KeyeForConditionalGeneration": ("Keye", _nested("qwen3")),
        "KeyeVL1_5ForConditionalGeneration": ("Keye", _nested("qwen3")),
        "KimiK3ForConditionalGeneration": ("Kimi", _inside(newest.kimi_k3, "text_config")),
        "LlavaOnevision2ForConditionalGeneration": ("Llava", _nested("qwen3")),
        "MiDashengLMModel": ("MiDasheng", _nested("qwen2")),
        "MiMoV2OmniForCausalLM": ("MiMo", _seeing(special.mimo_v2)),
        "MiniCPMV4_6ForConditionalGeneration": ("MiniCPMV", _nested("qwen3_5_text")),
        "MiniCPMV4_7ForConditionalGeneration": ("MiniCPMV", _nested("qwen3_5_text")),
        "MiniCPMOcrForConditionalGeneration": ("MiniCPMV", _nested("qwen3_5_text")),
        "MiniMaxM3SparseForConditionalGeneration": ("MiniMax", _inside(newest.minimax_m3, "text_config")),
        "MossTranscribeDiarizeForConditionalGeneration": ("Moss", _nested("qwen3")),
        "NVLM_D": ("InternVL", _nested("qwen2")),
        "NemotronH_Nano_Omni_Reasoning_V3": ("NemotronVL", _nested("nemotron_h")),
        "NemotronH_Omni_Reasoning_V3": ("NemotronVL", _nested("nemotron_h")),
        "NemotronH_Super_Omni_Reasoning_V3": ("NemotronVL", _nested("nemotron_h")),
        "OpenCUAForConditionalGeneration": ("OpenCUA", _nested("qwen2")),
        "OpenPanguVLForConditionalGeneration": ("Pangu", _seeing(_pangu)),
        "Ovis": ("Ovis", _nested("qwen2")),
        "Ovis2_5": ("Ovis", _nested("qwen3")),
        "Ovis2_6ForCausalLM": ("Ovis", _nested("qwen3")),
        "Ovis2_6_MoeForCausalLM": ("Ovis", _nested("qwen3_moe")),
        "Phi4ForCausalLMV": ("Phi3", _seeing(families.phi3)),
        "QianfanOCRForConditionalGeneration": ("InternVL", _nested("qwen3")),
        "Qwen2AudioForConditionalGeneration": ("Qwen2Audio", _nested("qwen2")),
        "Qwen3ASRForConditionalGeneration": ("Qwen3ASR", _inside(TEXTS["qwen3"], "thinker_config", "text_config")),
        "Qwen3ASRRealtimeGeneration": ("Qwen3ASR", _inside(TEXTS["qwen3"], "thinker_config", "text_config")),
        "RForConditionalGeneration": ("RVL", _nested("qwen3")),
        "Step3VLForConditionalGeneration": ("Step", _inside(newest.step3, "text_config")),
        "Step3p7ForConditionalGeneration": ("Step", _inside(recent.step3p5, "text_config")),
        "StepVLForConditionalGeneration": ("Step", _nested("qwen3")),
        "UnlimitedOCRForCausalLM": ("DeepSeekOCR", _seeing(_deepseek)),
        "VibeVoiceAsrForConditionalGeneration": ("VibeVoice", _nested("qwen2")),
    }
)
