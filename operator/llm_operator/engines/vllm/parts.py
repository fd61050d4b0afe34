# ruff: noqa: E501 - modules are named whole
"""The parts of vLLM: what its modules do, from the layout of 0.4 to that of 0.33.

tests/engines/test_parts.py holds them against the folders of every tested version.
"""

from __future__ import annotations

from llm_operator.engines.part import Part, part

_REFUSED = "change what it names in engine.extraArgs, in a field of this object, or in the files of model"
_EAGER = "add --enforce-eager to engine.extraArgs, or use another engine.version"
_CHECKS = r"(?:[\w.]*\.)?(?:ValueError|NotImplementedError|AssertionError|RuntimeError|VLLM\w*Error)\b"
_CODE = r"(?!.{0,40}\bTimeout)"

PARTS: tuple[Part, ...] = (
    part(
        r"/vllm/(?:config/|engine/arg_utils|envs|platforms/|entrypoints/(?:openai/(?:cli_args|api_server)|cli/|launchers?/|utils)|plugins/|usage/)\w*[\w/]*(?:\.py)?:",
        "SettingRefused",
        "the engine refuses a setting",
        _REFUSED,
        errors=_CHECKS,
        starting=True,
    ),
    part(
        r"/vllm/(?:v1/)?spec_decode/|/vllm/v1/worker/gpu/spec_decode/|/vllm/model(?:_executor/model)?s/[\w/]{0,80}(?:eagle|medusa|mtp|dflash|dspark|mlp_speculator)\w*[./]",
        "SpeculationFailed",
        "the engine's code for speculative decoding failed",
        "remove --speculative-config from engine.extraArgs, or use another engine.version",
        errors=_CODE,
        anywhere=True,
        words=r"\b(?:[Ss]peculat(?:ive|or|ion)\w*|[Ee]agle\w*|EAGLE\w*|[Dd]rafter?\b|draft_\w+|MTP\b|num_spec\w+)|Proposer\b",
    ),
    part(
        r"/vllm/lora/(?:lora_model|models|lora_weights|peft_helper|worker_manager|request|model_manager|resolver|utils|ops|punica_wrapper|layers)\b",
        "AdapterRefused",
        "the engine's code for LoRA adapters failed",
        "correct or remove --lora-modules and --enable-lora in engine.extraArgs, or use another engine.version",
        errors=_CODE,
        anywhere=True,
        words=r"(?<![a-zA-Z])[Ll]o[Rr][Aa](?![a-z])|modules_to_save|\bPEFT|\bpeft",
    ),
    part(
        r"/vllm/distributed/(?:kv_transfer|ec_transfer|aux_output_connector)/|/vllm/distributed/(?:kv_events|\w*(?:nixl|mooncake)\w*)|/vllm/v1/(?:kv_offload|simple_kv_offload|hisparse|kv_hints)/|/(?:lmcache|nixl|mooncake)/",
        "KVTransferFailed",
        "the engine's code that moves KV caches failed",
        "remove --kv-transfer-config and --kv-offloading-size from engine.extraArgs, or correct what the message names",
        errors=_CODE,
        anywhere=True,
        words=r"KV [Cc]onnector|kv_connector|kv_transfer|[Nn]ixl|NIXL|LMCache|lmcache|[Mm]ooncake",
    ),
    part(
        r"/vllm/v1/structured_output/|/vllm/model_executor/guided_decoding/|/(?:xgrammar|outlines|outlines_core|llguidance|lmformatenforcer)/.*:(?!<module>)",
        "StructuredOutputFailed",
        "the engine's code for structured output failed",
        'name another backend in engine.extraArgs, such as --structured-outputs-config={"backend":"guidance"}',
        errors=_CODE,
        anywhere=True,
        words=r"xgrammar|\bgrammar\b|guided[_ ]decod|structured[_ ]output|llguidance|TokenizerInfo",
    ),
    part(
        r"/vllm/multimodal/|:(?:_?process_(?:image|video|audio)_input|_?process_multimodal\w*|(?:get|embed)_multimodal\w*|_execute_mm_encoder|get_dummy_(?:mm|processor)\w*|profile_multimodal\w*)$"
        r"|/transformers/models/\w+/(?:image_processing|video_processing|feature_extraction|processing)_",
        "MultimodalFailed",
        "the engine's code for images, video or sound failed",
        "add --language-model-only to engine.extraArgs where text is enough, or use another engine.version",
        errors=_CODE,
        anywhere=True,
        words=r"[Mm]ulti-?[Mm]odal|multimodal|prompt (?:updates|replacements)|Failed to apply \w+Processor|\bmm_\w+|pixel_values|(?:[Ii]mage|[Vv]ideo|[Aa]udio)s? (?:tokens?|features?|items?|inputs?|embed\w*)",
    ),
    part(
        r":(?:capture_model|_?capture_cudagraphs|_?capture_\w*graph\w*)$|/vllm/compilation/cuda_?graph|/torch/cuda/graphs\.py:",
        "GraphCaptureFailed",
        "the engine failed while it captured CUDA graphs",
        _EAGER,
        errors=_CODE,
        anywhere=True,
        words=r"(?:during|while|when|is) (?:stream |graph )?captur|cudagraph|CUDA [Gg]raph",
    ),
    part(
        r"/vllm/compilation/(?!decorators|wrapper|monitor|counter)|/torch/_(?:inductor|dynamo|functorch)/(?!eval_frame|\w*/?runtime)|/torch/fx/(?!graph_module)",
        "CompileFailed",
        "the engine's code that compiles the model failed",
        _EAGER,
    ),
    part(
        r"/vllm/(?:transformers_utils/(?:configs?\b|model_arch|gguf_utils|config_parser)|model_executor/models/config)",
        "ModelConfigInvalid",
        "the engine cannot read the model's config.json",
        "use a newer engine.version, or correct the model's config.json",
        starting=True,
        words=r"\brope_(?:scaling|parameters|theta)|hf_config|text_config|'\w*Config' object|layer_types",
    ),
    part(
        r"/vllm/(?:transformers_utils/(?:tokenizer|processor|chat_templates)|tokenizers/|renderers/|reasoning/|tool_parsers/|parser/)",
        "TokenizerMismatch",
        "the engine cannot use the model's tokenizer or processor",
        "use another engine.version, or download the model's tokenizer and processor again",
        starting=True,
        words=r"[Tt]okenizer\b|[Pp]rocessor\w* for argument|[Cc]hat template",
    ),
    part(
        r"/vllm/model_executor/layers/quantization/|/compressed_tensors/|/bitsandbytes/|/gguf/"
        r"|:(?:create_weights|process_weights_after_loading|get_quant_method|_?get_scheme\w*)$|/vllm/model_executor/model_loader/(?:bitsandbytes|gguf)_loader",
        "FormatMismatch",
        "the engine's code for the format of these weights failed",
        "use weights of another format in model, or another engine.version",
        errors=_CODE,
        words=r"[Qq]uantiz\w+|quant_method|quant_config|\bNVFP4|\bMXFP\d|\bAWQ\b|\bGPTQ|[Cc]ompressed.?[Tt]ensors|[Bb]its[Aa]nd[Bb]ytes|\bGGUF|modelopt|weight_scale|float[48]_\w+|attribute 'weight_loader'|num_bits|group_size",
    ),
    part(
        r":(?:load_weights|_load_module|weight_loader\w*|load_\w*weight\w*|_load_w13|_load_w2|default_weight_loader|narrow|copy_)$|/vllm/model_executor/(?:model_loader/|parameter\b|models/utils\b)",
        "WeightsMismatch",
        "the weights do not go with what the engine expects of this architecture",
        "use a newer engine.version, another parallelism.tensor if it is above 1, or weights of another repository in model",
        errors=_CODE,
        starting=True,
        words=r"loaded_weight|(?:weight|[Pp]aram\w*|checkpoint)\b.{0,80}(?:shape|size)s? (?:mismatch|do)|(?:shape|size)s? mismatch.{0,80}(?:weight|param|checkpoint|model)|\bcheckpoint\b",
    ),
    part(
        r"/vllm/(?:v1/)?attention/|/vllm/vllm_flash_attn/|/vllm/model_executor/layers/(?:attention|mla|sparse_attn|deepseek_v\w*_attention)|/(?:flashinfer|flash_attn|flash_mla|vllm_flash_attn|xformers)/(?!jit).*:(?!<module>)",
        "AttentionNotSupported",
        "the engine's code for attention failed",
        "name another --attention-backend in engine.extraArgs, or use another engine.version",
        errors=_CODE,
        words=r"paged_kv|[Ff]lash_?(?:Attn|attn|Attention|MLA|Infer)|FlashAttention|attn_metadata|attention (?:backend|kernel|metadata)",
    ),
    part(
        r"/vllm/model_executor/(?:layers/(?:fused_moe|fla|mamba)|kernels|warmup)|/vllm/(?:_aiter_ops|kernels|ir|third_party|utils/(?:deep_gemm|flashinfer|cutlass))\b|/(?:deep_gemm|deep_ep)/|/triton/(?:runtime|language)/",
        "KernelFailed",
        "a kernel of the engine does not take what this model, its format or this GPU gives it",
        "use another engine.version, or another kernel of it: --moe-backend, --attention-backend in engine.extraArgs",
        errors=_CODE,
        words=r"\b(?:GEMM|gemm|CUTLASS|cutlass|FusedMoE|fused_moe|DeepGEMM|Marlin|marlin)\b",
    ),
    part(
        r"/vllm/distributed/(?:device_communicators/(?:custom_all_reduce|quick_all_reduce|symm_mem|flashinfer_all_reduce))",
        "PeerAccessFailed",
        "the GPUs of the pod cannot read each other's memory",
        "add --disable-custom-all-reduce to engine.extraArgs, or set NCCL_P2P_DISABLE=1 in engine.env",
        errors=_CODE,
    ),
    part(
        r"/vllm/v1/(?:core/(?:kv_cache_\w+|single_type|block_pool)|kv_cache_\w+)|:(?:initialize_kv_cache\w*|get_kv_cache_(?:spec|configs?)|_allocate_kv_cache\w*|_reshape_kv_cache\w*|may_reinitialize_input_batch)$",
        "KVCacheLayoutFailed",
        "the engine cannot lay out a KV cache for this model as it is configured",
        "remove --speculative-config, --block-size and --kv-cache-dtype from engine.extraArgs, set kvCache.quantization to None, or use another engine.version",
        errors=r"(?!.{0,40}\bTimeout|TimeoutError)",
        starting=True,
        words=r"KV ?cache (?:spec|group|layout|manager)|kv_cache_(?:spec|group|config)|page_size_bytes",
    ),
    part(
        r"/vllm/model_executor/models/(?:registry|adapters|interfaces)\b|/vllm/model_executor/models/transformers\b",
        "UnsupportedArchitecture",
        "the engine cannot run the model's architecture",
        "use a newer engine.version or the other engine",
        errors=_CODE,
        starting=True,
    ),
    part(
        r"/vllm/model(?:_executor/model)?s/|/vllm/model_executor/(?:layers|custom_op|hw_agnostic|offloader|utils)\b|/transformers_modules/|/transformers/models/\w+/modeling_",
        "ModelCodeFailed",
        "the engine's code for the model's architecture failed",
        "use another engine.version, the other engine, or add --model-impl=transformers to engine.extraArgs",
        errors=_CODE,
    ),
    part(
        r"(?!)",  # its frames are those of the row above
        "ModelCodeFailed",
        "the engine's code for the model's architecture failed",
        "use another engine.version, the other engine, or add --model-impl=transformers to engine.extraArgs",
        starting=True,
        words=r"'\w+(?:ForCausalLM|ForConditionalGeneration|DecoderLayer|Attention|Model)' object has no attribute '(?!pooler)",
    ),
)
