# ruff: noqa: E501 - alternatives are quoted whole
"""The parts that every engine has: what they are, and the words of errors about them.

Which modules are such a part, and what avoids it, each engine says: their paths and options differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from llm_operator.engines.part import Part, part


@dataclass(frozen=True, slots=True)
class Kind:
    """What a part is in every engine; the attributes are those of Part.

    Attributes:
        message: which part failed.
        remedy: what avoids it in every engine; empty: each says it.
        anywhere: whether it need not be the deepest.
        starting: only a start ends like this.
        words: what errors about it speak of; empty: no words are of it alone.
    """

    message: str
    remedy: str = ""
    anywhere: bool = False
    starting: bool = False
    words: str = ""


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "SettingRefused": Kind(
            "the engine refuses a setting",
            "change what it names in engine.extraArgs, in a field of this object, or in the files of model",
            starting=True,
        ),
        "SpeculationFailed": Kind(
            "the engine's code for speculative decoding failed",
            anywhere=True,
            words=r"\b(?:[Ss]peculat(?:ive|or|ion)\w*|[Ee]agle\w*|EAGLE\w*|[Dd]rafter?\b|draft_\w+|MTP\b|num_spec\w+)|Proposer\b",
        ),
        "AdapterRefused": Kind(
            "the engine's code for LoRA adapters failed",
            anywhere=True,
            words=r"(?<![a-zA-Z])[Ll]o[Rr][Aa](?![a-z])|modules_to_save|\bPEFT|\bpeft",
        ),
        "KVTransferFailed": Kind(
            "the engine's code that moves KV caches failed",
            anywhere=True,
            words=r"KV [Cc]onnector|kv_connector|kv_transfer|[Nn]ixl|NIXL|LMCache|lmcache|[Mm]ooncake",
        ),
        "StructuredOutputFailed": Kind(
            "the engine's code for structured output failed",
            anywhere=True,
            words=r"xgrammar|\bgrammar\b|guided[_ ]decod|structured[_ ]output|llguidance|TokenizerInfo",
        ),
        "MultimodalFailed": Kind(
            "the engine's code for images, video or sound failed",
            "add --language-model-only to engine.extraArgs where text is enough, or use another engine.version",
            anywhere=True,
            words=r"[Mm]ulti-?[Mm]odal|multimodal|prompt (?:updates|replacements)|[Ee]ncoder cache miss|Failed to apply \w+Processor|\bmm_\w+|pixel_values|\b[Ii]mage file\b|(?:[Ii]mage|[Vv]ideo|[Aa]udio)s? (?:tokens?|features?|items?|inputs?|embed\w*)",
        ),
        "GraphCaptureFailed": Kind(
            "the engine failed while it captured CUDA graphs",
            anywhere=True,
            words=r"(?:during|while|when|is) (?:stream |graph )?captur|[Cc]udagraph|Graph already captured|CUDA [Gg]raph",
        ),
        "ModelConfigInvalid": Kind(
            "the engine cannot read the model's config.json",
            "use a newer engine.version, or correct the model's config.json",
            starting=True,
            words=r"\brope_(?:scaling|parameters|theta)|hf_config|text_config|'\w*Config' object|layer_types",
        ),
        "TokenizerMismatch": Kind(
            "the engine cannot use the model's tokenizer or processor",
            starting=True,
            words=r"[Tt]okenizer\b|[Pp]rocessor\w* for argument|type of HuggingFace processor|[Cc]hat template",
        ),
        "FormatMismatch": Kind(
            "the engine's code for the format of these weights failed",
            "use weights of another format in model, or another engine.version",
            words=r"[Qq]uantiz\w+|quant_method|quant_config|\bNVFP4|\bMXFP\d|\bAWQ\b|\bGPTQ|[Cc]ompressed.?[Tt]ensors|[Bb]its[Aa]nd[Bb]ytes|\bGGUF|modelopt|weight_scale|float[48]_\w+|attribute 'weight_loader'|num_bits|group_size",
        ),
        "WeightsMismatch": Kind(
            "the weights do not go with what the engine expects of this architecture",
            "use a newer engine.version, another parallelism.tensor if it is above 1, or weights of another repository in model",
            starting=True,
            words=r"loaded_weight|(?:weight|[Pp]aram\w*|checkpoint)\b.{0,80}(?:shape|size)s? (?:mismatch|do)|(?:shape|size)s? mismatch.{0,80}(?:weight|param|checkpoint|model)|\bcheckpoint\b",
        ),
        "KernelFailed": Kind(
            "a kernel of the engine does not take what this model, its format or this GPU gives it",
            words=r"\b(?:GEMM|gemm|CUTLASS|cutlass|FusedMoE|fused_moe|DeepGEMM|Marlin|marlin)\b",
        ),
        "UnsupportedArchitecture": Kind(
            "the engine cannot run the model's architecture",
            "use a newer engine.version or the other engine",
            starting=True,
        ),
    }
)


def of_kind(reason: str, frames: str, remedy: str = "", errors: str = "") -> Part:
    """A part of one engine that others have too.

    Args:
        reason: of the table above.
        frames: how its frames look in this engine.
        remedy: what avoids it in this engine; empty: what avoids it in all.
        errors: how the errors begin that mean this; empty: all do.
    """
    kind = KINDS[reason]
    return part(frames, reason, kind.message, remedy or kind.remedy, errors, kind.anywhere, kind.starting, kind.words)
