# ruff: noqa: E501 - modules are named whole
"""The parts of LMDeploy: what its modules do, from the layout of 0.4 to that of 0.18.

tests/engines/test_parts.py holds them against the folders of every tested version.
"""

from __future__ import annotations

from llm_operator.engines.part import Part, part
from llm_operator.engines.part_kinds import of_kind

_CHECKS = r"(?:[\w.]*\.)?(?:ValueError|NotImplementedError|AssertionError|RuntimeError)\b"

PARTS: tuple[Part, ...] = (
    of_kind(
        "SettingRefused",
        r"/lmdeploy/(?:messages|api|pipeline|cli/\w+|serve/(?:openai/)?(?:api_server|launch_server|proxy/\w+)|pytorch/envs|pytorch/devices/\w+|pytorch/strategies/\w+|pytorch/disagg/\w+|pytorch/engine/config_builder)\.py:|/lmdeploy/turbomind/turbomind\.py:update_parallel_config$",
        errors=_CHECKS,
    ),
    of_kind(
        "SpeculationFailed",
        r"/lmdeploy/pytorch/spec_decode/|/lmdeploy/pytorch/models/\w*(?:eagle|mtp)\w*\.",
        "remove --speculative-algorithm from engine.extraArgs, or use another engine.version",
    ),
    of_kind(
        "AdapterRefused",
        r"/lmdeploy/pytorch/adapter/",
        "correct or remove --adapters in engine.extraArgs, or use another engine.version",
    ),
    of_kind(
        "KVTransferFailed",
        r"/lmdeploy/(?:pytorch/kv_connector|pytorch/disagg)/|/lmdeploy/pytorch/engine/cache_engine/migration\.py:",
        "remove --role and --migration-backend from engine.extraArgs, or correct what the message names",
    ),
    of_kind(
        "StructuredOutputFailed",
        r"/lmdeploy/(?:_guided_decoding|pytorch/engine/guided_process)\.py|/xgrammar/.*:(?!<module>)",
        "use another engine.version",
    ),
    of_kind(
        "MultimodalFailed",
        r"/lmdeploy/(?:vl|pytorch/multimodal)/|/lmdeploy/turbomind/(?:vision_model|models/vision_utils)",
        "use another engine.version; where text is enough, add --language-model-only to engine.extraArgs if engine.version is at least 0.15.0",
    ),
    of_kind(
        "GraphCaptureFailed",
        r"/lmdeploy/pytorch/backends/(?:cuda/)?graph_runner\.py|:(?:capture|_?capture_\w*graph\w*)$|/torch/cuda/graphs\.py:",
        "add --eager-mode to engine.extraArgs, or use another engine.version",
    ),
    of_kind(
        "ModelConfigInvalid",
        r"/lmdeploy/(?:pytorch/(?:config|configurations/\w+)|turbomind/(?:deploy/config|text_model|parallel_config)|archs|hf_configs/\w+)\.py:",
    ),
    of_kind(
        "TokenizerMismatch",
        r"/lmdeploy/(?:tokenizer|model|turbomind/tokenizer_info|deepseek_\w+_encoding)\.py:|/lmdeploy/serve/(?:processors|parsers?|openai/(?:reasoning|tool)_parser)",
        "use another engine.version, or download the model's tokenizer again",
    ),
    of_kind(
        "FormatMismatch",
        r"/lmdeploy/(?:turbomind/(?:deploy/(?:policy|parameter|source_model/\w+)|weight_format|linear|converter)|pytorch/nn/(?:linear/\w+|quant_utils)|pytorch/models/(?:q_modules|quant_config)|pytorch/backends/(?:\w+/)?(?:awq_modules|blockedf8_modules|static_fp8_modules|qmodules))\.py:",
    ),
    of_kind(
        "WeightsMismatch",
        r"/lmdeploy/(?:turbomind/(?:deploy/|loader|model_loader|checkpoint|builders/)|pytorch/weight_loader/)|:(?:load_weights|load_weight|load_model_weights|weight_loader)$",
    ),
    of_kind(
        "KernelFailed",
        r"/lmdeploy/pytorch/(?:kernels/|backends/|third_party/|nn/)|/(?:flashinfer|flash_attn|flash_mla|deep_gemm|fla)/.*:(?!<module>)|/triton/(?:runtime|language)/",
        "set engine.backend to TurboMind where it has the architecture, or use another engine.version",
    ),
    of_kind(
        "UnsupportedArchitecture",
        r"/lmdeploy/pytorch/models/patch\.py:|/lmdeploy/(?:turbomind|pytorch)/supported_models\.py:",
    ),
    part(
        r"/lmdeploy/pytorch/(?:models|transformers)/|/lmdeploy/turbomind/models/|/transformers_modules/|/transformers/models/\w+/modeling_",
        "ModelCodeFailed",
        "the engine's code for the model's architecture failed",
        "set another engine.backend, use another engine.version, or the other engine",
    ),
    part(
        r"(?!)",  # its frames are those of the row above
        "ModelCodeFailed",
        "the engine's code for the model's architecture failed",
        "set another engine.backend, use another engine.version, or the other engine",
        starting=True,
        words=r"'\w+(?:ForCausalLM|ForConditionalGeneration|DecoderLayer|Attention|Model)' object has no attribute '(?!pooler)",
    ),
    part(
        r"/lmdeploy/pytorch/engine/cache_engine(?:/|\.py:)",
        "KVCacheLayoutFailed",
        "the engine cannot lay out a KV cache for this model as it is configured",
        "remove --speculative-algorithm and --cache-block-seq-len from engine.extraArgs, set kvCache.quantization to None, or use another engine.version",
        errors=r"(?!.{0,40}\bTimeout)",
        starting=True,
    ),
    part(
        r"/lmdeploy/pytorch/check_env/",
        "PackageMismatch",
        "a check of the image's packages failed",
        "use the engine project's own image of another version: engine.version or engine.image",
        starting=True,
    ),
)
