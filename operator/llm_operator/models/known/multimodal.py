"""Models that see or hear: the decoder by its own reader, the tower beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from llm_operator.models import families
from llm_operator.models.decoder import Decoder
from llm_operator.models.errors import UnknownArchitectureError
from llm_operator.models.fields import Fields
from llm_operator.models.known import encoders, gemma, hybrids, nemotron, special, towers
from llm_operator.models.known.general import Mixture, Traits, decoder
from llm_operator.models.known.nested import nested
from llm_operator.models.known.older import hyperclovax
from llm_operator.models.known.rows import ROWS
from llm_operator.models.known.towers import Built
from llm_operator.models.latent import deepseek
from llm_operator.models.layers import everywhere, vector
from llm_operator.models.shape import Role, Tensor

Reader = Callable[[Fields], Decoder]
TowerReader = Callable[[Fields, int], Built]


def _glm4v(fields: Fields) -> Decoder:
    return families.glm4(Fields({"attention_bias": True, **fields.values}, fields.architecture), head_dim=None)


def _glm4v_moe(fields: Fields) -> Decoder:
    return families.glm4_moe(Fields({"attention_bias": True, **fields.values}, fields.architecture))


ARIA = Traits(
    qkv_bias=("attention_bias", False),
    output_bias=("attention_bias", False),
    mlp_bias=("mlp_bias", False),
    mixture=Mixture(
        size=("intermediate_size",),
        shared="*moe_num_shared_experts",
        shared_default=2,
        sparse=lambda _, n: everywhere(n),
    ),
)


def _glm_ocr(fields: Fields) -> Decoder:
    return families.glm4(Fields({"attention_bias": False, **fields.values}, fields.architecture), head_dim=None)


def _mllama_text(fields: Fields) -> Decoder:
    """Llama 3.2 Vision's decoder: in some layers attention reads the image instead of the text.

    The embedding has eight rows more than the head.
    """
    text = families.llama(fields)
    core = text.core
    crossed = tuple(layer for layer in fields.integers("cross_attention_layers") if 0 <= layer < core.layers)
    tensors = (
        *text.tensors,
        Tensor(Role.EMBEDDING, 8, core.hidden, 1, linear=False),
        vector(2 + 2 * core.head_dim, len(crossed)),
    )
    why = "what its cross-attention keeps depends on the images, which this version does not compute"
    return replace(text, tensors=tensors, unplanned=why)


# By model_type of the text part, or by its architecture where it names one.
TEXTS: Mapping[str, Reader] = MappingProxyType(
    {
        "aria_text": decoder(ARIA),
        "cohere": decoder(ROWS["CohereForCausalLM"][1]),
        "cohere2": decoder(ROWS["Cohere2ForCausalLM"][1]),
        "deepseek": decoder(ROWS["DeepseekForCausalLM"][1]),
        "deepseek_v2": deepseek,
        "deepseek_v3": deepseek,
        "ernie4_5": decoder(ROWS["Ernie4_5ForCausalLM"][1]),
        "exaone4": decoder(ROWS["Exaone4ForCausalLM"][1]),
        "kimi_k2": deepseek,
        "gemma": families.gemma,
        "gemma2": families.gemma2,
        "gemma3_text": families.gemma3,
        "glm4v_moe_text": _glm4v_moe,
        "glm4v_text": _glm4v,
        "glm_ocr_text": _glm_ocr,
        "gpt_oss": families.gpt_oss,
        "granitemoehybrid": hybrids.granite_hybrid,
        "hyperclovax": hyperclovax,
        "granite": decoder(ROWS["GraniteForCausalLM"][1]),
        "internlm2": families.internlm,
        "lfm2": hybrids.lfm2,
        "lfm2_moe": hybrids.lfm2,
        "llama": families.llama,
        "llama4_text": special.llama4,
        "minicpm": decoder(ROWS["MiniCPMForCausalLM"][1]),
        "mistral": families.mistral,
        "mistral4": deepseek,
        "ministral3": decoder(ROWS["Ministral3ForCausalLM"][1]),
        "mixtral": families.mixtral,
        "mllama_text_model": _mllama_text,
        "nemotron_h": nemotron.nemotron_h,
        "paddleocr_vl_text": decoder(ROWS["Ernie4_5ForCausalLM"][1]),
        "phi3": families.phi3,
        "phi3_v": families.phi3,
        "qwen2": families.qwen2,
        "qwen2_moe": families.qwen2_moe,
        "qwen2_vl_text": families.qwen2,
        "qwen2_5_omni_text": families.qwen2,
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
        "smollm3": decoder(ROWS["SmolLM3ForCausalLM"][1]),
    }
)
ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {
        "Cohere2ForCausalLM": "cohere2",
        "DeepseekForCausalLM": "deepseek",
        "DeepseekV2ForCausalLM": "deepseek_v2",
        "DeepseekV3ForCausalLM": "deepseek_v3",
        "Gemma2ForCausalLM": "gemma2",
        "GemmaForCausalLM": "gemma",
        "GptOssForCausalLM": "gpt_oss",
        "GraniteForCausalLM": "granite",
        "InternLM2ForCausalLM": "internlm2",
        "KimiK2ForCausalLM": "deepseek_v3",
        "LlamaForCausalLM": "llama",
        "MistralForCausalLM": "mistral",
        "NemotronHForCausalLM": "nemotron_h",
        "Phi3ForCausalLM": "phi3",
        "Qwen2ForCausalLM": "qwen2",
        "Qwen3ForCausalLM": "qwen3",
        "Qwen3MoeForCausalLM": "qwen3_moe",
    }
)


def text_of(fields: Fields, kind: str, *, tied_at_top: bool = True) -> Decoder:
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
    if not name and model_type not in TEXTS:
        model_type = kind
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
        text = text_of(fields, kind, tied_at_top=tied_at_top)
        tensors, found = tower(nested(fields, vision), fields, text.core.hidden)
        return replace(text, tensors=text.tensors + tensors, tower=found)

    return read


def _top(kind: str, tower: Callable[[Fields, Fields, int], Built]) -> Reader:
    """Return the reader of a model whose decoder's fields stand at the top. kind: its text part's model_type."""

    def read(fields: Fields) -> Decoder:
        text = TEXTS[kind](fields)
        vision = Fields(fields.optional_object("vision_config"), fields.architecture)
        tensors, found = tower(vision, fields, text.core.hidden)
        return replace(text, tensors=text.tensors + tensors, tower=found)

    return read


def _minicpmv(fields: Fields) -> Decoder:
    """MiniCPM-V: the version decides on the decoder (vLLM 0.33.0, models/minicpmv.py)."""
    version = str(fields.values.get("version", ""))
    if not version:
        version = "2.0" if fields.integer("hidden_size") == 2304 else "2.5"
    kind = {"2.5": "llama", "2.6": "qwen2", "4.0": "llama", "4": "llama", "4.5": "qwen3"}.get(version)
    if kind is None:
        raise UnknownArchitectureError(f"{fields.architecture} of version {version[:20]}")
    return _top(kind, encoders.minicpmv)(fields)


def _minicpmo(fields: Fields) -> Decoder:
    """MiniCPM-o 2.6: MiniCPM-V 2.6 that hears; what speaks is not served."""
    if str(fields.values.get("version", "")) != "2.6":
        raise UnknownArchitectureError(f"{fields.architecture} of another version than 2.6")
    return replace(_top("qwen2", encoders.minicpmo)(fields), unserved=400_000_000)


def _phi4mm(fields: Fields) -> Decoder:
    """Phi-4 multimodal: Phi 3's layers, towers of one size, and two adapters that the files hold beside them."""
    found = _top("phi3", encoders.phi4mm)(Fields({"tie_word_embeddings": True, **fields.values}, fields.architecture))
    if found.core.hidden != 3072:
        raise UnknownArchitectureError(f"{fields.architecture} of another width than 3072")
    return replace(found, unserved=830_472_192)


def _ernie(fields: Fields) -> Decoder:
    inner = Fields({**fields.values, **fields.optional_object("text_config")}, fields.architecture)
    text = special.ernie_vl(inner)
    tensors, found = encoders.ernie(fields.nested("vision_config"), inner, text.core.hidden)
    return replace(text, tensors=text.tensors + tensors, tower=found)


def _omni25(fields: Fields) -> Decoder:
    """Qwen2.5-Omni: what thinks, sees and hears."""
    thinker = nested(fields, "thinker_config") if fields.values.get("thinker_config") is not None else fields
    text = seeing("qwen2_5_omni_text", _plain(towers.qwen2_5))(thinker)
    audio = nested(thinker, "audio_config", kind="qwen2_5_omni_audio_encoder")
    return replace(text, tensors=text.tensors + towers.qwen25_audio(audio), unserved=2_600_000_000)


def _deepseek_ocr(fields: Fields) -> Decoder:
    """DeepSeek-OCR: the first DeepSeek MoE's layers (use_mla false) behind SAM and CLIP."""
    inner = Fields(fields.optional_object("language_config") or dict(fields.values), fields.architecture)
    filled = Fields({**fields.values, **inner.values}, fields.architecture)
    if filled.boolean("use_mla", False):
        raise UnknownArchitectureError(f"{fields.architecture} with latent attention")
    return _top("deepseek", encoders.deepseek_ocr)(filled)


def _llava(vision: Fields, parent: Fields, text: int) -> Built:
    if vision.string("model_type", "") == "pixtral":
        return towers.pixtral(vision, parent, text, merger=False)
    return towers.clip(vision, parent, text)


def _kimi(vision: Fields, parent: Fields, text: int) -> Built:
    return towers.moonvit(vision, parent, text)


def _plain(tower: TowerReader) -> Callable[[Fields, Fields, int], Built]:
    return lambda vision, _, text: tower(vision, text)


def omni(fields: Fields) -> Decoder:
    """Qwen3-Omni: what thinks, sees and hears; what speaks is not part of what the engines serve."""
    thinker = nested(fields, "thinker_config") if fields.values.get("thinker_config") is not None else fields
    text = seeing("qwen3_moe", _plain(towers.qwen3))(thinker)
    tensors, _ = towers.qwen_audio(nested(thinker, "audio_config", kind="qwen3_omni_moe_audio_encoder"))
    return replace(text, tensors=text.tensors + tensors, unserved=4_000_000_000)


def _mistral(vision: Fields, parent: Fields, text: int) -> Built:
    return towers.pixtral(vision, parent, text, merger=True)


MULTIMODAL: Mapping[str, tuple[str, Reader]] = MappingProxyType(
    {
        "AriaForConditionalGeneration": ("Aria", seeing("aria_text", encoders.aria)),
        "AyaVisionForConditionalGeneration": ("Cohere2", seeing("cohere2", encoders.aya)),
        "Cohere2VisionForConditionalGeneration": ("Cohere2", seeing("cohere2", encoders.aya)),
        "DeepseekOCRForCausalLM": ("DeepSeekOCR", _deepseek_ocr),
        "DotsOCRForCausalLM": ("DotsOCR", seeing("qwen2", encoders.dots)),
        "Ernie4_5_VLMoeForConditionalGeneration": ("Ernie", _ernie),
        "Exaone4_5_ForConditionalGeneration": ("Exaone", seeing("exaone4", encoders.exaone)),
        "Gemma3ForConditionalGeneration": ("Gemma3", seeing("gemma3_text", _plain(towers.siglip))),
        "Gemma3nForConditionalGeneration": ("Gemma3n", gemma.gemma3n_multimodal),
        "Gemma4ForConditionalGeneration": ("Gemma4", gemma.gemma4_multimodal),
        "Glm4vForConditionalGeneration": ("GLM4V", seeing("glm4v_text", _plain(towers.glm4v))),
        "Glm46VForConditionalGeneration": ("GLM4V", seeing("glm4v_text", _plain(towers.glm4v))),
        "Glm4vMoeForConditionalGeneration": ("GLM4V", seeing("glm4v_moe_text", _plain(towers.glm4v))),
        "GlmOcrForConditionalGeneration": ("GLM4V", seeing("glm_ocr_text", encoders.glm_ocr)),
        "H2OVLChatModel": ("InternVL", seeing("llama", towers.internvit)),
        "Idefics3ForConditionalGeneration": ("Idefics3", seeing("llama", encoders.idefics3)),
        "InternS1ForConditionalGeneration": ("InternS1", seeing("qwen3", towers.internvit)),
        "InternVLChatModel": ("InternVL", seeing("qwen2", towers.internvit)),
        "InternVLForConditionalGeneration": ("InternVL", seeing("qwen2", towers.internvit)),
        "KimiK25ForConditionalGeneration": ("Kimi", seeing("deepseek_v3", _kimi)),
        "Kimi_K25ForConditionalGeneration": ("Kimi", seeing("deepseek_v3", _kimi)),
        "KimiVLForConditionalGeneration": ("Kimi", seeing("deepseek_v3", _kimi)),
        "Lfm2VlForConditionalGeneration": ("LFM2", seeing("lfm2", towers.siglip2)),
        "Llama4ForConditionalGeneration": (
            "Llama4",
            seeing("llama4_text", _plain(towers.llama4), tied_at_top=False),
        ),
        "LightOnOCRForConditionalGeneration": ("LightOnOCR", seeing("qwen3", _mistral)),
        "LightOnOcrForConditionalGeneration": ("LightOnOCR", seeing("qwen3", _mistral)),
        "Llama_Nemotron_Nano_VL": ("NemotronVL", seeing("llama", encoders.radio)),
        "LlavaNextForConditionalGeneration": ("Llava", seeing("llama", encoders.llava_next)),
        "LlavaNextVideoForConditionalGeneration": ("Llava", seeing("llama", encoders.llava_next)),
        "LlavaOnevisionForConditionalGeneration": ("Llava", seeing("qwen2", encoders.llava_next)),
        "LlavaForConditionalGeneration": ("Llava", seeing("llama", _llava)),
        "MiniCPMO": ("MiniCPMV", _minicpmo),
        "MiniCPMV": ("MiniCPMV", _minicpmv),
        "MllamaForConditionalGeneration": ("Mllama", seeing("mllama_text_model", encoders.mllama, tied_at_top=False)),
        "Mistral3ForConditionalGeneration": ("Mistral", seeing("mistral", _mistral)),
        "NemotronH_Nano_VL_V2": ("NemotronVL", seeing("nemotron_h", encoders.radio)),
        "PaddleOCRVLForConditionalGeneration": ("PaddleOCR", seeing("paddleocr_vl_text", encoders.paddle)),
        "PaliGemmaForConditionalGeneration": ("PaliGemma", seeing("gemma", encoders.paligemma)),
        "Phi3VForCausalLM": ("Phi3", _top("phi3", encoders.phi3v)),
        "Phi4MMForCausalLM": ("Phi3", _phi4mm),
        "Qwen2_5OmniForConditionalGeneration": ("Qwen2_5Omni", _omni25),
        "Qwen2_5OmniModel": ("Qwen2_5Omni", _omni25),
        "Qwen2_5OmniThinkerForConditionalGeneration": ("Qwen2_5Omni", _omni25),
        "Qwen2VLForConditionalGeneration": ("Qwen2VL", seeing("qwen2", _plain(towers.qwen2))),
        "Qwen2_5_VLForConditionalGeneration": ("Qwen2VL", seeing("qwen2", _plain(towers.qwen2_5))),
        "Qwen3OmniMoeForConditionalGeneration": ("Qwen3Omni", omni),
        "Qwen3OmniMoeThinkerForConditionalGeneration": ("Qwen3Omni", omni),
        "Qwen3VLForConditionalGeneration": ("Qwen3VL", seeing("qwen3", _plain(towers.qwen3))),
        "Qwen3VLMoeForConditionalGeneration": ("Qwen3VL", seeing("qwen3_moe", _plain(towers.qwen3))),
        "Qwen3_5ForConditionalGeneration": ("Qwen3_5", seeing("qwen3_5_text", _plain(towers.qwen3))),
        "Qwen3_5MoeForConditionalGeneration": ("Qwen3_5", seeing("qwen3_5_moe_text", _plain(towers.qwen3))),
        "SkyworkR1VChatModel": ("InternVL", seeing("qwen2", towers.internvit)),
        "SmolVLMForConditionalGeneration": ("Idefics3", seeing("llama", encoders.idefics3)),
        "VoxtralForConditionalGeneration": (
            "Voxtral",
            seeing("llama", _plain(towers.whisper), vision="audio_config", tied_at_top=False),
        ),
    }
)
