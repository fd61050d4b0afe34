"""Parts of the packages under every engine: whose code failed when no line says why."""

from __future__ import annotations

from llm_operator.engines.part import Part, part

_NEWER = "use a newer engine.version, or correct the model's config.json"
_IMAGE = "use the engine project's own image of another version: engine.version or engine.image"

PARTS: tuple[Part, ...] = (
    part(
        r"/(?:transformers/(?:configuration_utils|modeling_rope_utils|models/auto/configuration_auto)"
        r"|transformers/models/\w+/configuration_\w+)\.py:",
        "ModelConfigInvalid",
        "transformers cannot read the model's config.json",
        _NEWER,
        starting=True,
    ),
    part(
        r"/(?:transformers/(?:tokenization|processing|image_processing|feature_extraction|convert_slow)\w*"
        r"|transformers/models/auto/(?:tokenization|processing|image_processing|feature_extraction)_auto"
        r"|transformers/models/\w+/(?:tokenization|processing|image_processing|feature_extraction)_\w+"
        r"|(?:tokenizers|sentencepiece|tiktoken|mistral_common)/[\w/]+)\.py:",
        "TokenizerMismatch",
        "the model's tokenizer or processor cannot be loaded",
        "use another engine.version, or download the model's tokenizer and processor again",
        starting=True,
    ),
    part(
        r"/(?:safetensors/\w+|torch/serialization)\.py:",
        "WeightsCorrupt",
        "a file of the weights cannot be read",
        "download the model again, or correct its source in model",
        starting=True,
    ),
    part(
        r"/(?:torch/_(?:inductor|dynamo|functorch)|triton/(?:compiler|backends|runtime)|torch/utils/cpp_extension"
        r"|flashinfer/(?:jit|compilation)\w*|deep_gemm/jit\w*|tilelang|tvm(?:_ffi)?)\b.*\.py:",
        "CompileFailed",
        "a kernel could not be compiled",
        "use another engine.version or its project's own image in engine.image",
    ),
    part(
        r"/(?:flashinfer|flash_attn|flash_mla|xformers)/.*\.py:(?!<module>)",
        "KernelFailed",
        "a package of kernels failed",
        "use another engine.version, or another backend of it",
    ),
    part(
        # Whatever an import ends with: one package was changed under another.
        r"/(?:site|dist)-packages/(?!vllm/|lmdeploy/|ray/|torch/distributed/)(?![\w/]*__main__)[\w/.]+\.py:<module>",
        "PackageMismatch",
        "a package of the image cannot be imported: it does not go with another one",
        _IMAGE,
        errors=r"(?!ModuleNotFoundError)",
        starting=True,
    ),
)
