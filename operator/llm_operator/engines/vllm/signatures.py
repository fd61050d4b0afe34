# ruff: noqa: E501 - alternatives and lines of logs are quoted whole
"""What only vLLM prints when it dies; tests/engines/test_death_texts.py finds the texts in the code of the versions."""

from __future__ import annotations

from llm_operator.engines.remedies import COUNT, EARLIER, FORMAT, SMALLER
from llm_operator.engines.signature import SYMPTOM, WRAPPER, Signature, sign
from llm_operator.engines.signatures_gpu import LINKS_MESSAGE, PEERS
from llm_operator.engines.vllm.remedies import UNLINKED

SIGNATURES: tuple[Signature, ...] = (
    sign(
        r"models?'s max seq(?:uence)? len(?:gth)? \((\d+)\).*?estimated maximum model length is (\d+)",
        "ContextTooLong",
        "the KV cache does not hold one request of {0} tokens",
        "set contextLength to at most {1}, give the KV cache more memory, or quantize it with kvCache.quantization",
    ),
    sign(
        r"models?'s max seq(?:uence)? len(?:gth)? \(\d+\)"
        r"|KV cache is needed, which is larger than the available KV cache memory"
        r"|max_model_len.{0,40} is larger than the maximum number of tokens",
        "ContextTooLong",
        "the KV cache does not hold one request of the context length",
        "lower contextLength, give the KV cache more memory, or quantize it with kvCache.quantization",
    ),
    # 0.11 on: vllm/v1/core/kv_cache_utils.py and v1/worker/gpu_model_runner.py.
    sign(
        r"max_num_seqs \((\d+)\) exceeds available Mamba cache blocks \((\d+)\)",
        "StateCacheTooSmall",
        "the state of linear attention for {0} concurrent sequences does not fit",
        "lower maxConcurrentSequences to at most {1}, or give the cache more memory with kvCache.memoryPercent",
    ),
    sign(
        r"No available memory for the cache blocks|Available KV cache memory: -\d",
        "KVCacheTooSmall",
        "the weights leave no room for a KV cache",
        f"raise kvCache.memoryPercent; or {SMALLER}",
    ),
    sign(
        r"Externally held weights on device",
        "KVCacheTooSmall",
        "the weights of this GPU take more than the engine may use",
        f"raise kvCache.memoryPercent; or {SMALLER}",
    ),
    sign(
        r"Every node should have a unique IP|Neither 127\.0\.0\.1 nor ::1 are bound|\(ip: \S{1,60}\) is missing or dead",
        "AddressNotAvailable",
        "the engine cannot use an address of its pod",
        "remove VLLM_HOST_IP and VLLM_LOOPBACK_IP from engine.env",
    ),
    sign(
        r"(?:cumem|CuMem|Sleep mode) (?:allocator )?(?:is not available|can only be used)",
        "SettingRefused",
        "the engine cannot sleep as it is configured",
        "remove --enable-sleep-mode from engine.extraArgs",
        rank=SYMPTOM,
    ),
    sign(
        r"/sys/class/infiniband not found|No /sys/class/infiniband device|No (?:GPU PCI for|VLLM_GPU_NIC_PCIE_MAPPING)",
        "SettingRefused",
        "the GPUs and network cards of the node are not those that the engine should pair",
        "remove VLLM_GPU_NIC_PCIE_MAPPING and VLLM_NIC_SELECTION_VARS from engine.env",
        rank=SYMPTOM,
    ),
    sign(
        r"Fault detected in EP all2all",
        "NCCLFailed",
        "the engine's code that sends tokens to the GPUs of their experts failed",
        "remove --all2all-backend and --enable-expert-parallel from engine.extraArgs, or use another engine.version",
        rank=SYMPTOM,
    ),
    sign(
        r"^ValueError: (?:len|sum)\(partitions\)=\S+ does not match (\w+)",
        "SettingRefused",
        "the layers are not split as the model and its stages need: {0}",
        "correct or remove VLLM_PP_LAYER_PARTITION in engine.env",
    ),
    sign(
        r"Free memory on device .*\(([\d.]+)/([\d.]+) GiB\) on startup is less than "
        r"(?:desired GPU memory utilization|the engine's budget)",
        "GPUMemoryTaken",
        "only {0} of {1} GiB of the GPU were free at start, less than the engine should take",
        "free the GPU, which another process uses, or lower kvCache.memoryPercent",
    ),
    sign(
        r"Error in memory profiling|Initial free memory .{0,40}current free memory",
        "GPUMemoryTaken",
        "another process freed memory of this GPU while the engine measured it",
        "give the pod a GPU without other processes in gpu.resourceName, or wait: another start usually succeeds",
    ),
    sign(
        r"CUDA out of memory occurred when warming up|CUDA graph.{0,80}out of memory",
        "GPUOutOfMemory",
        "the GPU's memory was exhausted while the engine warmed up",
        "lower maxConcurrentSequences or kvCache.memoryPercent",
    ),
    sign(
        r"World size \((\d+)\) is larger than the number of available GPUs \((\d+)\)",
        "NotEnoughGPUs",
        "the engine needs {0} GPUs and the container has {1}",
        COUNT,
    ),
    sign(
        r"No valid attention backend found.*\bkv_cache_dtype=(?!auto)(\w+).*\bkv_cache_dtype not supported",
        "UnsupportedKVQuantization",
        "vLLM has no attention kernel for a KV cache of type {0} for this model and GPU",
        "set kvCache.quantization to None, or use another engine.version",
    ),
    sign(
        r"No valid attention backend found|is_fa_version_supported|Unsupported FA version|Selected backend \S+ is not valid for|[Ii]nvalid attention backend"
        r"|\b(?:FlashInfer|FlashMLA|XFormers|Triton)\w* (?:backend |attention ).{0,30}(?:not|n't) support"
        r"|\b(?:FlashAttention|FlexAttention)\b.{0,30}(?:not|n't) support|only supported (?:in|by|with) (?:FlashAttention|FlashInfer)",
        "AttentionNotSupported",
        "no attention kernel of this engine serves this model on this GPU as it is configured",
        "remove --attention-backend from engine.extraArgs and VLLM_ATTENTION_BACKEND from engine.env; else use a newer "
        "engine.version",
        rank=SYMPTOM,
    ),
    sign(
        r"_SymmetricMemory|symm_mem\w*\b.{0,80}(?:[Ee]rror|[Ff]ailed)|CUDA driver error: the operation cannot be performed in the present state|CUDASymmetricMemory",
        "PeerAccessFailed",
        LINKS_MESSAGE,
        "set VLLM_ALLREDUCE_USE_SYMM_MEM=0 in engine.env",
    ),
    sign(
        PEERS + r"|custom_all_?reduce.{0,100}(?:error|failed|invalid)|Failed: Cuda error .*custom_all_reduce",
        "PeerAccessFailed",
        LINKS_MESSAGE,
        UNLINKED,
    ),
    sign(
        r"previous error during capture|stream is capturing|StreamCapture(?:Unsupported|Invalidated|Unjoined|Isolation|Implicit|Merge|Unmatched)|uncaptured work in another stream|during graph capture",
        "GraphCaptureFailed",
        "the engine failed while it captured CUDA graphs",
        "add --enforce-eager to engine.extraArgs, or use another engine.version",
        rank=SYMPTOM,
    ),
    sign(
        r"an illegal memory access was encountered|CUDA (?:runtime )?error: an illegal memory access\b|cudaErrorIllegalAddress|CUDA_ERROR_ILLEGAL_ADDRESS|Warp Illegal Address",
        "IllegalMemoryAccess",
        "a kernel of the engine read or wrote outside its memory",
        "wait for its restart; if it happens again, use another engine.version, or add --enforce-eager to engine.extraArgs",
    ),
    sign(
        r"Cannot re-initialize CUDA in forked subprocess",
        "CUDAForked",
        "a process that had begun to use the GPU made a copy of itself, which CUDA forbids",
        "set VLLM_WORKER_MULTIPROC_METHOD=spawn in engine.env",
    ),
    sign(
        r"Invalid kv_cache_dtype: '?([\w.]+)|kv_cache_dtype (\S+) (?:is )?not supported"
        r"|--kv-cache-dtype (\S+) is not supported|does not support (fp8) kv.?cache",
        "UnsupportedKVQuantization",
        "this vLLM has no KV cache of type {0} for this model and GPU",
        "set kvCache.quantization to None, or use another engine.version",
    ),
    sign(
        r"LoRA rank (\d+) is greater than max_lora_rank (\d+)",
        "AdapterRefused",
        "an adapter has rank {0}, and the engine takes {1} at most",
        "add --max-lora-rank={0} to engine.extraArgs",
    ),
    sign(
        r"(?:No such file or directory|Not a directory|Is a directory):? '?(/\S{1,300}(?:adapter_config\.json|adapter_model\.\w+))|[Nn]o adapter_config\.json",
        "AdapterRefused",
        "the engine finds no LoRA adapter at {0}",
        "correct --lora-modules in engine.extraArgs: the directory must hold adapter_config.json and weights for this model",
    ),
    sign(
        r"\bassert all\(vocab_sizes\[0\] == vocab_size|draft model should have the same vocabulary",
        "SettingRefused",
        "the draft model has another vocabulary than the model",
        "name a draft model of the same vocabulary in --speculative-config of engine.extraArgs, or remove it",
    ),
    sign(
        r"^\S*(?:Error|Exception): .{0,200}(?:(?:[Ll]oading )?\b[Ll]o[Rr][Aa]\b.{0,80}(?:failed|not (?:found|exist|support)|unsupported|No adapter)"
        r"|No adapter found for|\badd_lora\b|\bmodules_to_save\b|(?:not supported|unsupported) LoRA|expected target modules|target_modules)",
        "AdapterRefused",
        "the engine cannot load a LoRA adapter",
        "correct --lora-modules in engine.extraArgs: the directory must hold adapter_config.json and weights for this model",
        rank=SYMPTOM,
    ),
    sign(
        r"invalid (tool call|reasoning) parser: (\S+)|(Tool|Reasoning) parser '?(\S+?)'? not found",
        "UnknownParser",
        "there is no {0} parser {1}",
        "correct engine.extraArgs",
    ),
    sign(
        r"max_model_len \((\d+)\) is greater than the derived max_model_len \([^\d]*(\d+)",
        "ContextAboveModel",
        "contextLength {0} is above the model's {1}",
        "set contextLength to at most {1}",
    ),
    sign(
        r"VLLM_PORT '.*' appears to be a URI",
        "ServiceLinksClash",
        "a Service named vllm put its address into VLLM_PORT",
        "remove VLLM_PORT from engine.env: pods of this operator get no service links",
    ),
    sign(
        r"max_num_batched_tokens \(\d+\) is smaller than|max_num_batched_tokens \((\d+)\) must be"
        r"|multi.?modal.{0,80}(?:exceeds|larger than|is greater than)|At most \d+ (?:image|video|audio)"
        r"|encoder cache.{0,80}(?:too small|larger than)|Chunked MM input disabled but max_tokens_per_mm_item",
        "MultimodalTooLong",
        "the engine may not take so many tokens at once as one item or one request needs",
        "raise contextLength, or set --max-num-batched-tokens or --limit-mm-per-prompt in engine.extraArgs",
    ),
    sign(
        r"^\S*(?:Error|error)[:,] .{0,120}?\b((?:BNB|BitsAndBytes|bitsandbytes|GGUF|AWQ|GPTQ|compressed-tensors|modelopt|quantiz\w+)\b"
        r".{0,80}(?:not|n't)(?: \w+)? (?:yet )?support.{0,80}|.{0,80}(?:not|n't) (?:yet )?support\w* (?:for|with|by) (?:BNB|BitsAndBytes|bitsandbytes|GGUF)\b.{0,40})",
        "FormatMismatch",
        "this engine cannot run these quantized weights with this model: {0}",
        "use weights of another format in model, or a newer engine.version",
        rank=SYMPTOM,
    ),
    sign(
        # Layers are made by the format of the weights, and code that expects another one looks for its parts.
        r"^AttributeError: '(\w*(?:Linear|MoE|Experts|Embedding|LMHead)\w*)' object has no attribute '(\w*(?:weight|scale|zeros)\w*)'",
        "FormatMismatch",
        "this engine's code for the model does not go with the format of its weights: {0} has no {1}",
        "use weights of another format in model, or a newer engine.version",
        rank=SYMPTOM,
    ),
    sign(
        r"Cannot find the config file for (\S+)|Found unknown quantization|does not match the quantization method specified|Unknown quantization method"
        r"|Cannot find any of \[.{0,80}\] in the model's quantization config|Invalid quantization method",
        "FormatMismatch",
        "the weights are not of the format that model.format names, or this engine does not have it",
        FORMAT,
    ),
    # vLLM's first engine, which 0.11 no longer has.
    sign(
        r"Background loop has errored|MQLLMEngine is already dead|MQEngineDead|Engine loop has died"
        r"|Engine process \(pid \d+\) died",
        "EngineDied",
        "the engine's process died while it served",
        EARLIER,
        rank=WRAPPER,
        until="0.11.0",
    ),
    sign(
        r"Engine core initialization failed|WorkerProc failed to start|WorkerProc initialization failed|Engine process fail"
        r"|EngineCore failed to start|Worker \S{1,60} failed to initialize|Ray workers have not started|Executor failed\.$|One or more workers failed"
        r"|Worker failed with error|Input socket thread died|DP Coordinator process failed|API server(?: process)? \S{1,40} (?:exited|closed)"
        r"|Engine core process \S{1,40} died|^RuntimeError: Process \S{1,60} \(PID: \d+\) died"
        r"|Timed out after \S+ waiting for API server|Did not receive response from front-end|The actor died unexpectedly|Frontend process failed during engine core initialization",
        "EngineProcessDied",
        "vLLM's engine process died while it started",
        EARLIER,
        rank=WRAPPER,
    ),
)
