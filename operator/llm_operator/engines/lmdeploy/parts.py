# ruff: noqa: E501 - modules are named whole
"""The parts of LMDeploy: what its modules do, from the layout of 0.4 to that of 0.18.

tests/engines/test_parts.py holds them against the folders of every tested version.
"""

from __future__ import annotations

from llm_operator.engines.part import Part, part

_REFUSED = "change what it names in engine.extraArgs, in a field of this object, or in the files of model"
_CHECKS = r"(?:[\w.]*\.)?(?:ValueError|NotImplementedError|AssertionError|RuntimeError)\b"

PARTS: tuple[Part, ...] = (
    part(
        r"/lmdeploy/(?:messages|api|pipeline|cli/\w+|serve/(?:openai/)?(?:api_server|launch_server|proxy/\w+)|pytorch/envs|pytorch/devices/\w+|pytorch/strategies/\w+|pytorch/disagg/\w+)\.py:",
        "SettingRefused",
        "the engine refuses a setting",
        _REFUSED,
        errors=_CHECKS,
        starting=True,
    ),
    part(
        r"/lmdeploy/pytorch/spec_decode/|/lmdeploy/pytorch/models/\w*(?:eagle|mtp)\w*\.",
        "SpeculationFailed",
        "the engine's code for speculative decoding failed",
        "remove --speculative-algorithm from engine.extraArgs, or use another engine.version",
        anywhere=True,
        words=r"\b(?:[Ss]peculat(?:ive|or|ion)\w*|[Ee]agle\w*|EAGLE\w*|[Dd]rafter?\b|draft_\w+|MTP\b|num_spec\w+)|Proposer\b",
    ),
    part(
        r"/lmdeploy/pytorch/adapter/",
        "AdapterRefused",
        "the engine's code for LoRA adapters failed",
        "correct or remove --adapters in engine.extraArgs, or use another engine.version",
        anywhere=True,
        words=r"(?<![a-zA-Z])[Ll]o[Rr][Aa](?![a-z])|modules_to_save|\bPEFT|\bpeft",
    ),
    part(
        r"/lmdeploy/(?:pytorch/kv_connector|pytorch/disagg)/",
        "KVTransferFailed",
        "the engine's code that moves KV caches failed",
        "remove --role and --migration-backend from engine.extraArgs, or correct what the message names",
        anywhere=True,
        words=r"KV [Cc]onnector|kv_connector|kv_transfer|[Nn]ixl|NIXL|LMCache|lmcache|[Mm]ooncake",
    ),
    part(
        r"/lmdeploy/(?:_guided_decoding|pytorch/engine/guided_process)\.py|/xgrammar/.*:(?!<module>)",
        "StructuredOutputFailed",
        "the engine's code for structured output failed",
        "use another engine.version",
        anywhere=True,
        words=r"xgrammar|\bgrammar\b|guided[_ ]decod|structured[_ ]output|llguidance|TokenizerInfo",
    ),
    part(
        r"/lmdeploy/(?:vl|pytorch/multimodal)/|/lmdeploy/turbomind/(?:vision_model|models/vision_utils)",
        "MultimodalFailed",
        "the engine's code for images, video or sound failed",
        "add --language-model-only to engine.extraArgs where text is enough, or use another engine.version",
        anywhere=True,
        words=r"[Mm]ulti-?[Mm]odal|multimodal|prompt (?:updates|replacements)|Failed to apply \w+Processor|\bmm_\w+|pixel_values|(?:[Ii]mage|[Vv]ideo|[Aa]udio)s? (?:tokens?|features?|items?|inputs?|embed\w*)",
    ),
    part(
        r"/lmdeploy/pytorch/backends/(?:cuda/)?graph_runner\.py|:(?:capture|_?capture_\w*graph\w*)$|/torch/cuda/graphs\.py:",
        "GraphCaptureFailed",
        "the engine failed while it captured CUDA graphs",
        "add --eager-mode to engine.extraArgs, or use another engine.version",
        anywhere=True,
        words=r"(?:during|while|when|is) (?:stream |graph )?captur|cudagraph|CUDA [Gg]raph",
    ),
    part(
        r"/lmdeploy/(?:pytorch/(?:config|configurations/\w+)|turbomind/(?:deploy/config|text_model|parallel_config)|archs|hf_configs/\w+)\.py:",
        "ModelConfigInvalid",
        "the engine cannot read the model's config.json",
        "use a newer engine.version, or correct the model's config.json",
        starting=True,
        words=r"\brope_(?:scaling|parameters|theta)|hf_config|text_config|'\w*Config' object|layer_types",
    ),
    part(
        r"/lmdeploy/(?:tokenizer|model|turbomind/tokenizer_info|deepseek_\w+_encoding)\.py:|/lmdeploy/serve/(?:processors|parsers?|openai/(?:reasoning|tool)_parser)",
        "TokenizerMismatch",
        "the engine cannot use the model's tokenizer or processor",
        "use another engine.version, or download the model's tokenizer again",
        starting=True,
        words=r"[Tt]okenizer\b|[Pp]rocessor\w* for argument|[Cc]hat template",
    ),
    part(
        r"/lmdeploy/(?:turbomind/(?:deploy/(?:policy|parameter|source_model/\w+)|weight_format|linear|converter)|pytorch/nn/(?:linear/\w+|quant_utils)|pytorch/models/(?:q_modules|quant_config)|pytorch/backends/(?:\w+/)?(?:awq_modules|blockedf8_modules|static_fp8_modules|qmodules))\.py:",
        "FormatMismatch",
        "the engine's code for the format of these weights failed",
        "use weights of another format in model, or another engine.version",
        words=r"[Qq]uantiz\w+|quant_method|quant_config|\bNVFP4|\bMXFP\d|\bAWQ\b|\bGPTQ|[Cc]ompressed.?[Tt]ensors|[Bb]its[Aa]nd[Bb]ytes|\bGGUF|modelopt|weight_scale|float[48]_\w+|attribute 'weight_loader'|num_bits|group_size",
    ),
    part(
        r"/lmdeploy/(?:turbomind/(?:deploy/|loader|model_loader|checkpoint|builders/)|pytorch/weight_loader/)|:(?:load_weights|load_weight|load_model_weights|weight_loader)$",
        "WeightsMismatch",
        "the weights do not go with what the engine expects of this architecture",
        "use a newer engine.version, another parallelism.tensor if it is above 1, or weights of another repository in model",
        starting=True,
        words=r"loaded_weight|(?:weight|[Pp]aram\w*|checkpoint)\b.{0,80}(?:shape|size)s? (?:mismatch|do)|(?:shape|size)s? mismatch.{0,80}(?:weight|param|checkpoint|model)|\bcheckpoint\b",
    ),
    part(
        r"/lmdeploy/pytorch/(?:kernels/|backends/|third_party/|nn/)|/(?:flashinfer|flash_attn|flash_mla|deep_gemm|fla)/.*:(?!<module>)|/triton/(?:runtime|language)/",
        "KernelFailed",
        "a kernel of the engine does not take what this model, its format or this GPU gives it",
        "set engine.backend to TurboMind where it has the architecture, or use another engine.version",
        words=r"\b(?:GEMM|gemm|CUTLASS|cutlass|FusedMoE|fused_moe|DeepGEMM|Marlin|marlin)\b",
    ),
    part(
        r"/lmdeploy/pytorch/models/patch\.py:|/lmdeploy/(?:turbomind|pytorch)/supported_models\.py:",
        "UnsupportedArchitecture",
        "the engine cannot run the model's architecture",
        "use a newer engine.version or the other engine",
        starting=True,
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
        r"/lmdeploy/pytorch/check_env/",
        "PackageMismatch",
        "a check of the image's packages failed",
        "use the engine project's own image of another version: engine.version or engine.image",
        starting=True,
    ),
)
