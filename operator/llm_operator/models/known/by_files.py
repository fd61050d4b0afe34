"""Models that see whose decoder is a known one and whose encoder was not read.

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
from llm_operator.models.fields import Fields
from llm_operator.models.known import special
from llm_operator.models.known.multimodal import TEXTS, Reader, text_of
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


def _deepseek(fields: Fields) -> Decoder:
    """DeepSeek-OCR 2 and DeepSeek-VL2: the first DeepSeek MoE's layers, or with latents DeepSeek V2's."""
    inner = Fields({**fields.values, **fields.optional_object("language_config")}, fields.architecture)
    latent = inner.boolean("use_mla", inner.values.get("kv_lora_rank") is not None)
    return TEXTS["deepseek_v2" if latent else "deepseek"](inner)


BY_FILES: Mapping[str, tuple[str, Reader]] = MappingProxyType(
    {
        "BeeForConditionalGeneration": ("Bee", _nested("qwen3")),
        "DeepseekOCR2ForCausalLM": ("DeepSeekOCR", _seeing(_deepseek)),
        "DeepseekVLV2ForCausalLM": ("DeepSeekVL", _seeing(_deepseek)),
        "Eagle2_5_VLForConditionalGeneration": ("Eagle", _nested("qwen2")),
        "GLM4VForCausalLM": ("GLM4V", _seeing(families.chatglm)),
        "Granite4VisionForConditionalGeneration": ("Granite", _nested("granitemoehybrid")),
        "HCXVisionV2ForCausalLM": ("HyperCLOVAX", _nested("hyperclovax")),
        "IsaacForConditionalGeneration": ("Isaac", _nested("qwen3")),
        "KananaVForConditionalGeneration": ("Kanana", _nested("llama")),
        "KeyeForConditionalGeneration": ("Keye", _nested("qwen3")),
        "KeyeVL1_5ForConditionalGeneration": ("Keye", _nested("qwen3")),
        "LlavaOnevision2ForConditionalGeneration": ("Llava", _nested("qwen3")),
        "MiMoV2OmniForCausalLM": ("MiMo", _seeing(special.mimo_v2)),
        "MiniCPMV4_6ForConditionalGeneration": ("MiniCPMV", _nested("qwen3_5_text")),
        "MiniCPMV4_7ForConditionalGeneration": ("MiniCPMV", _nested("qwen3_5_text")),
        "NVLM_D": ("InternVL", _nested("qwen2")),
        "NemotronH_Nano_Omni_Reasoning_V3": ("NemotronVL", _nested("nemotron_h")),
        "NemotronH_Omni_Reasoning_V3": ("NemotronVL", _nested("nemotron_h")),
        "NemotronH_Super_Omni_Reasoning_V3": ("NemotronVL", _nested("nemotron_h")),
        "OpenCUAForConditionalGeneration": ("OpenCUA", _nested("qwen2")),
        "Ovis": ("Ovis", _nested("qwen2")),
        "Ovis2_5": ("Ovis", _nested("qwen3")),
        "Ovis2_6ForCausalLM": ("Ovis", _nested("qwen3")),
        "Ovis2_6_MoeForCausalLM": ("Ovis", _nested("qwen3_moe")),
        "Phi4ForCausalLMV": ("Phi3", _seeing(families.phi3)),
        "QianfanOCRForConditionalGeneration": ("InternVL", _nested("qwen3")),
        "RForConditionalGeneration": ("RVL", _nested("qwen3")),
        "StepVLForConditionalGeneration": ("Step", _nested("qwen3")),
        "UnlimitedOCRForCausalLM": ("DeepSeekOCR", _seeing(_deepseek)),
    }
)
