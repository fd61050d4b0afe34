# ruff: noqa: E501 - modules are named whole
"""The parts of vLLM: what its modules do, from the layout of 0.4 to that of 0.33.

tests/engines/test_parts.py holds them against the folders of every tested version.
"""

from __future__ import annotations

from llm_operator.engines.part import Part, part
from llm_operator.engines.part_kinds import of_kind

_EAGER = "add --enforce-eager to engine.extraArgs, or use another engine.version"
_CHECKS = r"(?:[\w.]*\.)?(?:ValueError|NotImplementedError|AssertionError|RuntimeError|VLLM\w*Error)\b"
_CODE = r"(?!.{0,40}\bTimeout)"

PARTS: tuple[Part, ...] = (
    of_kind(
        "SettingRefused",
        r"/vllm/(?:config/|engine/arg_utils|envs|platforms/|entrypoints/(?:openai/(?:cli_args|api_server)|cli/|launchers?/|utils)|plugins/|usage/|utils/(?:argparse_utils|numa_utils|ompmultiprocessing))\w*[\w/]*(?:\.py)?:",
        errors=_CHECKS,
    ),
    of_kind(
        "SpeculationFailed",
        r"/vllm/(?:v1/)?spec_decode/|/vllm/v1/worker/gpu/spec_decode/|/vllm/model(?:_executor/model)?s/[\w/]{0,80}(?:eagle|medusa|mtp|dflash|dspark|mlp_speculator)\w*[./]",
        "remove --speculative-config from engine.extraArgs, or use another engine.version",
        errors=_CODE,
    ),
    of_kind(
        "AdapterRefused",
        r"/vllm/lora/(?:lora_model|models|lora_weights|peft_helper|worker_manager|request|model_manager|resolver|utils|ops|punica_wrapper|layers)\b",
        "correct or remove --lora-modules and --enable-lora in engine.extraArgs, or use another engine.version",
        errors=_CODE,
    ),
    of_kind(
        "KVTransferFailed",
        r"/vllm/distributed/(?:kv_transfer|ec_transfer|aux_output_connector)/|/vllm/distributed/(?:kv_events|\w*(?:nixl|mooncake)\w*)|/vllm/v1/(?:kv_offload|simple_kv_offload|hisparse|kv_hints)/|/(?:lmcache|nixl|mooncake)/",
        "remove --kv-transfer-config and --kv-offloading-size from engine.extraArgs, or correct what the message names",
        errors=_CODE,
    ),
    of_kind(
        "StructuredOutputFailed",
        r"/vllm/v1/structured_output/|/vllm/model_executor/guided_decoding/|/(?:xgrammar|outlines|outlines_core|llguidance|lmformatenforcer)/.*:(?!<module>)",
        'name another backend in engine.extraArgs, such as --structured-outputs-config={"backend":"guidance"}',
        errors=_CODE,
    ),
    of_kind(
        "MultimodalFailed",
        r"/vllm/multimodal/|:(?:_?process_(?:image|video|audio)_input|_?process_multimodal\w*|(?:get|embed)_multimodal\w*|_execute_mm_encoder|get_dummy_(?:mm|processor)\w*|profile_multimodal\w*)$"
        r"|/transformers/models/\w+/(?:image_processing|video_processing|feature_extraction|processing)_",
        errors=_CODE,
    ),
    of_kind(
        "GraphCaptureFailed",
        r":(?:capture_model|_?capture_cudagraphs|_?capture_\w*graph\w*)$|/vllm/compilation/cuda_?graph|/torch/cuda/graphs\.py:",
        _EAGER,
        errors=_CODE,
    ),
    part(
        r"/vllm/compilation/(?!decorators|wrapper|monitor|counter)|/torch/_(?:inductor|dynamo|functorch)/(?!eval_frame|\w*/?runtime)|/torch/fx/(?!graph_module)",
        "CompileFailed",
        "the engine's code that compiles the model failed",
        _EAGER,
    ),
    of_kind(
        "ModelConfigInvalid",
        r"/vllm/(?:transformers_utils/(?:configs?\b|model_arch|gguf_utils|config_parser)|model_executor/models/config)",
    ),
    of_kind(
        "TokenizerMismatch",
        r"/vllm/(?:transformers_utils/(?:tokenizer|processor|chat_templates)|tokenizers/|renderers/|reasoning/|tool_parsers/|parser/)",
        "use another engine.version, or download the model's tokenizer and processor again",
    ),
    of_kind(
        "FormatMismatch",
        r"/vllm/model_executor/layers/quantization/|/compressed_tensors/|/bitsandbytes/|/gguf/"
        r"|:(?:create_weights|process_weights_after_loading|get_quant_method|_?get_scheme\w*)$|/vllm/model_executor/model_loader/(?:bitsandbytes|gguf)_loader",
        errors=_CODE,
    ),
    of_kind(
        "WeightsMismatch",
        r":(?:load_weights|_load_module|weight_loader\w*|load_\w*weight\w*|_load_w13|_load_w2|default_weight_loader|narrow|copy_)$|/vllm/model_executor/(?:model_loader/|parameter\b|models/utils\b)",
        errors=_CODE,
    ),
    part(
        r"/vllm/(?:v1/)?attention/|/vllm/vllm_flash_attn/|/vllm/model_executor/layers/(?:attention|mla|sparse_attn|deepseek_v\w*_attention)|/(?:flashinfer|flash_attn|flash_mla|vllm_flash_attn|xformers)/(?!jit).*:(?!<module>)",
        "AttentionNotSupported",
        "the engine's code for attention failed",
        "name another --attention-backend in engine.extraArgs, or use another engine.version",
        errors=_CODE,
        words=r"paged_kv|[Ff]lash_?(?:Attn|attn|Attention|MLA|Infer)|FlashAttention|attn_metadata|attention (?:backend|kernel|metadata)",
    ),
    of_kind(
        "KernelFailed",
        r"/vllm/model_executor/(?:layers/(?:fused_moe|fla|mamba)|kernels|warmup)|/vllm/(?:_aiter_ops|kernels|ir|third_party|utils/(?:deep_gemm|flashinfer|cutlass))\b|/deep_gemm/|/triton/(?:runtime|language)/",
        "use another engine.version, or another kernel of it: --moe-backend, --attention-backend in engine.extraArgs",
        errors=_CODE,
    ),
    part(
        r"/vllm/distributed/device_communicators/(?:all2all|mnnvl_compat)|/(?:deep_ep|moonep|nixl_ep|pplx_kernels)/",
        "NCCLFailed",
        "the engine's code that sends tokens to the GPUs of their experts failed",
        "remove --all2all-backend and --enable-expert-parallel from engine.extraArgs, or use another engine.version",
        errors=_CODE,
    ),
    part(
        r"/vllm/distributed/(?:device_communicators/(?:custom_all_reduce|quick_all_reduce|symm_mem|flashinfer_all_reduce))",
        "PeerAccessFailed",
        "the GPUs of the pod cannot read each other's memory",
        "add --disable-custom-all-reduce to engine.extraArgs, or set NCCL_P2P_DISABLE=1 in engine.env",
        errors=_CODE,
    ),
    part(
        r"/vllm/v1/(?:core/(?:kv_cache_\w+|single_type|block_pool)|kv_cache_\w+|worker/(?:mamba_utils|gpu/attn_utils|gpu/model_states))\b|:(?:initialize_kv_cache\w*|get_kv_cache_(?:spec|configs?)|_allocate_kv_cache\w*|_reshape_kv_cache\w*|may_reinitialize_input_batch)$",
        "KVCacheLayoutFailed",
        "the engine cannot lay out a KV cache for this model as it is configured",
        "remove --speculative-config, --block-size and --kv-cache-dtype from engine.extraArgs, set kvCache.quantization to None, or use another engine.version",
        errors=r"(?!.{0,40}\bTimeout|TimeoutError)",
        starting=True,
        words=r"[Nn]o common block size|[Nn]on-uniform page sizes|KV ?cache (?:spec|group|layout|manager)|kv_cache_(?:spec|group|config)|page_size_bytes",
    ),
    of_kind(
        "UnsupportedArchitecture",
        r"/vllm/model_executor/models/(?:registry|adapters|interfaces)\b|/vllm/model_executor/models/transformers\b",
        errors=_CODE,
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
