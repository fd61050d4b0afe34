# ruff: noqa: E501 - alternatives and lines of logs are quoted whole
"""What only LMDeploy prints when it dies; tests/engines/test_death_texts.py finds the texts in the code of the versions."""

from __future__ import annotations

from llm_operator.engines.remedies import AGREE, ANOTHER, BY_STAGE, COUNT, EARLIER, FORMAT, OUT_OF_MEMORY, SMALLER
from llm_operator.engines.signature import CODE, SYMPTOM, WRAPPER, Signature, sign

SIGNATURES: tuple[Signature, ...] = (
    sign(
        r"No enough gpu memory for kv cache|No enough gpu memory for (?:cache|blocks)|num_gpu_blocks.{0,20} <= 0",
        "KVCacheTooSmall",
        "the weights leave no room for a KV cache",
        f"raise kvCache.memoryPercent; or {SMALLER}",
    ),
    sign(
        r"No enough gpu memory for runtime",
        "RuntimeMemoryTooSmall",
        "the weights leave no room for the smallest prefill",
        f"lower maxConcurrentSequences, or {SMALLER}",
    ),
    sign(
        r"No enough gpu memory for state cache",
        "StateCacheTooSmall",
        "the state of linear attention for every concurrent sequence does not fit",
        "lower maxConcurrentSequences",
    ),
    # TurboMind through 0.13, src/turbomind/utils/cuda_utils.h; later ones say it as the next row has it.
    sign(r"CUDA runtime error: out of memory", *OUT_OF_MEMORY, until="0.14.0", at=BY_STAGE),
    sign(
        r"no valid parallel config: .*tp=(\d+).*available_devices=(\d+)",
        "NotEnoughGPUs",
        "tensor parallelism is {0} and the container has {1} GPU(s)",
        COUNT,
        since="0.14.1",
    ),
    sign(
        r"previous error during capture|stream is capturing|StreamCapture(?:Unsupported|Invalidated|Unjoined|Isolation|Implicit|Merge|Unmatched)|uncaptured work in another stream|during graph capture",
        "GraphCaptureFailed",
        "the engine failed while it captured CUDA graphs",
        "add --eager-mode to engine.extraArgs, or use another engine.version",
        rank=SYMPTOM,
    ),
    sign(
        r"an illegal memory access was encountered|cudaErrorIllegalAddress|CUDA_ERROR_ILLEGAL_ADDRESS|Warp Illegal Address",
        "IllegalMemoryAccess",
        "a kernel of the engine read or wrote outside its memory",
        "wait for its restart; if it happens again, use another engine.version",
    ),
    sign(
        r"(?:The )?[Cc]hat template '((?!/chat-template/)[^']+)' (?:is not|has been removed)|AssertionError: invalid (?!quant_policy|cache_max)(\w+)$",
        "InvalidArgument",
        "the image's engine does not take {0}",
        AGREE,
    ),
    sign(
        r"object-cache path (?:no longer accepts|expects)|invalid cache_max_entry_count",
        "InvalidKVCacheShare",
        "the KV cache's share must be more than 0 and less than 1",
        "set kvCache.memoryPercent between 1 and 99",
    ),
    sign(
        r"invalid quant_policy|does not support quant_policy|kv cache quantization only works for",
        "UnsupportedKVQuantization",
        "this backend does not have the KV cache's number format",
        "use kvCache.quantization None, Int8 or Int4, or another backend",
    ),
    sign(
        r"[Tt]he (tool|reasoning) parser ([^\s{]+) is not in the parser list",
        "UnknownParser",
        "there is no {0} parser {1}",
        "correct engine.extraArgs",
    ),
    sign(
        r'mismatched quant method: user input "([^"]+)" vs model quant_config "([^"]+)"',
        "FormatMismatch",
        "the weights are {1}, not {0}",
        FORMAT,
    ),
    sign(
        r"Unsupported weight quantization method: (\S+)|Unsupported quant method: (\S+)|(mismatched quant group size)"
        r"|(model format is \S+ but group_size is \d+)|(Unsupported group_size=\d+)|([Cc]ompressed-ten\w+ (?:only|activation"
        r"|checkpoint|config) .{1,60})|unknown model_format: (\S+)",
        "FormatMismatch",
        "the backend cannot read these weights: {0}",
        FORMAT,
    ),
    sign(
        r"^(?:[\w.]+: )?\[TM\]\[ERROR\] +Assertion fail: (\S+)|Check failed: (.{1,80})|^Assertion fail: (\S+)",
        "EngineCodeFailed",
        "an internal check of TurboMind failed: {0}",
        f"set engine.backend to PyTorch, or {ANOTHER}",
        rank=CODE,
    ),
    sign(
        r"PyTorch ZMQ engine process is not alive",
        "EngineProcessDied",
        "LMDeploy's engine process died while it started",
        EARLIER,
        rank=WRAPPER,
        since="0.12.4",
    ),
)
