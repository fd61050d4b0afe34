# ruff: noqa: E501 - alternatives and lines of logs are quoted whole
"""What only LMDeploy prints when it dies; tests/engines/test_death_texts.py finds the texts in the code of the versions."""

from __future__ import annotations

from llm_operator.engines.remedies import AGREE, ANOTHER, BY_STAGE, COUNT, EARLIER, FORMAT, OUT_OF_MEMORY, SMALLER
from llm_operator.engines.signature import CODE, REFUSAL, SYMPTOM, WRAPPER, Signature, sign

_OTHER = "set engine.backend to PyTorch, or use another engine.version"


def _place(of: str) -> str:
    """TurboMind's checks name the file that failed: before them since 0.8, behind them until 0.9.

    What else it says at the level ERROR is of one request.
    """
    before = rf"^\[?(?:[\w.-]{{1,40}}/){{0,8}}(?:{of})[\w.]*[:(]\d+[\]):]{{1,2}} (?:Check failed: |'[^']{{1,80}}' Must be non NULL)"
    return rf"(?:{before}|Assertion fail: \S{{0,200}}(?:{of})\S{{0,80}}:\d+)"


# pytorch/check_env: who checks, and on the next line what was wrong.
_CHECK = r"<{}> check failed!\n"

SIGNATURES: tuple[Signature, ...] = (
    sign(
        _CHECK.format("Dist") + r".{0,80}requires install (\w+)",
        "PackageMissing",
        "the image lacks a package that this parallelism needs: {0}",
        "remove --ep from engine.extraArgs, or use an image that has it in engine.image",
    ),
    sign(
        _CHECK.format("(?:Dist|Engine)") + r"(?!.{0,80}`ray`|Please check)(.{1,200})",
        "SettingRefused",
        "the engine refuses a setting: {0}",
        "change what it names in engine.extraArgs or in a field of this object",
    ),
    sign(
        _CHECK.format("Adapter"),
        "AdapterRefused",
        "the engine cannot load a LoRA adapter",
        "correct --adapters in engine.extraArgs: the directory must hold adapter_config.json and weights for this model",
    ),
    sign(
        _CHECK.format("Model"),
        "ModelConfigInvalid",
        "the engine cannot read the model's config.json",
        "use a newer engine.version, the other engine, or correct the model's config.json",
        rank=REFUSAL,
    ),
    sign(
        r"^RuntimeError: No free states\.",
        "StateCacheTooSmall",
        "the state of linear attention has no room left for a request that runs",
        "lower maxConcurrentSequences",
    ),
    sign(
        r"NVLS not supported|Unknown communication backend|(?:communicator|backend) only supports|\b(?:ep_size|cp_size|TM_[A-Z_]+) (?:=|>|must|not)|LMDEPLOY_\w+ not set",
        "SettingRefused",
        "TurboMind cannot split the model over GPUs as it is configured",
        "remove --communicator, --ep, --cp and --dp from engine.extraArgs",
        rank=SYMPTOM,
    ),
    sign(
        r"No enough gpu memory for kv cache|Trying to create tensor with negative dimension|No enough gpu memory for (?:cache|blocks)|num_gpu_blocks.{0,20} <= 0",
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
        r"an illegal memory access was encountered|CUDA (?:runtime )?error: an illegal memory access\b|cudaErrorIllegalAddress|CUDA_ERROR_ILLEGAL_ADDRESS|Warp Illegal Address",
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
        _place(r"(?:kernels/)?\w*token_bitmask|guided|grammar"),
        "StructuredOutputFailed",
        "TurboMind's code for structured output failed",
        ANOTHER,
        rank=SYMPTOM,
    ),
    sign(
        _place(r"kernels/|attention|decoding|gemm|moe_utils|norm|rope|linear_attn|recurrent")
        + r"|No (?:attention|decoding) kernel found|No feasible kernel found|[Uu]nsupported moe config|zero active CTAs"
        r"|^\[[\w.]{1,60}:\d+\] (?:[Uu]nsupported (?:(?:data )?types?|byte stride)|Invalid combination):",
        "KernelFailed",
        "TurboMind has no kernel for this model, its format or this GPU",
        _OTHER,
        rank=SYMPTOM,
    ),
    sign(
        _place(r"comm/|nccl|cuda_ipc|device_comm|host_comm")
        + r"|^what\(\): +(?:Wait timeout for key|unable to connect to)",
        "NCCLFailed",
        "the GPUs of the pod cannot talk to each other",
        "remove --communicator from engine.extraArgs, raise sharedMemory, or set NCCL_P2P_DISABLE=1 in engine.env",
        rank=SYMPTOM,
    ),
    sign(
        _place(r"\w*[Ww]eight|LlamaDense|module\.")
        + r"|child '\S{1,80}' not found|text_model not attached|Unsupported weight format|'\w*weights?\w*' Must be non NULL",
        "WeightsMismatch",
        "TurboMind cannot take the model's weights as they are",
        _OTHER,
        rank=SYMPTOM,
    ),
    sign(
        _place(
            r"models/|layers/|generation/|engine/|(?:engine|gateway|scheduler|request)\.|[Ll]lama|unified_|moe_|language_model|GatedDelta|[Bb]lock|[Ss]equence|[Ss]ampling|input_processor|model_executor"
        ),
        "ModelCodeFailed",
        "TurboMind's code for the model's architecture failed",
        _OTHER,
        rank=SYMPTOM,
    ),
    sign(
        r"^(?:[\w.]+(?:\(\))?: *)?\[TM\]\[ERROR\] .{0,200}?Assertion fail: (\S+)|Check failed: (.{1,80})|^Assertion fail: (\S+)",
        "EngineCodeFailed",
        "an internal check of TurboMind failed: {0}",
        f"set engine.backend to PyTorch, or {ANOTHER}",
        rank=CODE,
    ),
    sign(
        # The words of an error whose traceback follows; that of a rank says only that another one has them.
        r"Engine loop failed with error: (?!Rank\[)(\S.{0,120})",
        "EngineCodeFailed",
        "the engine's own code failed: {0}",
        ANOTHER,
        rank=CODE,
    ),
    sign(
        r"PyTorch ZMQ engine process (?:is not alive|exited before)",
        "EngineProcessDied",
        "LMDeploy's engine process died while it started",
        EARLIER,
        rank=WRAPPER,
        since="0.12.4",
    ),
    sign(
        r"Received custom termination signal from sub|Ray worker exited",
        "EngineProcessDied",
        "a process of LMDeploy's engine died",
        EARLIER,
        rank=WRAPPER,
    ),
)
