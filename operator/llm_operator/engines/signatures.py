"""What the engines print when they die, each with its meaning and its remedy.

Measured on an H200 with LMDeploy 0.18.0 and vLLM 0.26.0, or read in the two engines' code. Order matters: the first
that is found anywhere in the text wins, so causes come before the wrappers that only say that something failed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to die.

    Attributes:
        pattern: searched in the log text; groups may be used in message and remedy.
        reason: CamelCase word for a condition's reason.
        message: what happened.
        remedy: what to do.
        engine: LMDeploy or VLLM where only one prints it.
    """

    pattern: re.Pattern[str]
    reason: str
    message: str
    remedy: str
    engine: str | None = None


def _sign(pattern: str, reason: str, message: str, remedy: str, engine: str | None = None) -> Signature:
    return Signature(re.compile(pattern), reason, message, remedy, engine)


_SMALLER = "raise parallelism.tensor, quantize the weights, or use a GPU with more memory"
_FORMAT = "set model.format to what config.json says, or leave it at Auto"
_EARLIER = "the cause stands earlier in the log: kubectl logs --previous, first traceback"

SIGNATURES: tuple[Signature, ...] = (
    # Memory of the GPU.
    _sign(
        r"No enough gpu memory for kv cache",
        "KVCacheTooSmall",
        "the weights leave no room for a KV cache",
        f"raise kvCache.memoryPercent; or {_SMALLER}",
        "LMDeploy",
    ),
    _sign(
        r"No enough gpu memory for runtime",
        "RuntimeMemoryTooSmall",
        "the weights leave no room for the smallest prefill",
        f"lower maxConcurrentSequences, or {_SMALLER}",
        "LMDeploy",
    ),
    _sign(
        r"No enough gpu memory for state cache",
        "StateCacheTooSmall",
        "the state of linear attention for every concurrent sequence does not fit",
        "lower maxConcurrentSequences",
        "LMDeploy",
    ),
    _sign(
        r"model's max seq len \((\d+)\)[\s\S]*?estimated maximum model length is (\d+)",
        "ContextTooLong",
        "the KV cache does not hold one request of {0} tokens",
        "set contextLength to at most {1}, give the KV cache more memory, or quantize it",
        "VLLM",
    ),
    _sign(
        r"model's max seq len \((\d+)\)",
        "ContextTooLong",
        "the KV cache does not hold one request of {0} tokens",
        "lower contextLength, give the KV cache more memory, or quantize it",
        "VLLM",
    ),
    _sign(
        r"No available memory for the cache blocks",
        "KVCacheTooSmall",
        "the weights leave no room for a KV cache",
        f"give the KV cache more memory; or {_SMALLER}",
        "VLLM",
    ),
    _sign(
        r"Free memory on device .*\(([\d.]+)/([\d.]+) GiB\) on startup is less than desired GPU memory utilization",
        "GPUMemoryTaken",
        "only {0} of {1} GiB of the GPU were free at start, less than the engine was told to take",
        "somebody else uses this GPU: free it, or lower the KV cache's share",
        "VLLM",
    ),
    _sign(
        r"CUDA error: out of memory|CUDA out of memory|OutOfMemoryError",
        "GPUOutOfMemory",
        "the GPU's memory was exhausted",
        f"lower kvCache.memoryPercent or maxConcurrentSequences; or {_SMALLER}",
    ),
    # The GPUs themselves.
    _sign(
        r"no valid parallel config: .*tp=(\d+).*available_devices=(\d+)",
        "NotEnoughGPUs",
        "tensor parallelism {0} was asked for and the container has {1} GPU(s)",
        "check the device plugin and gpu.resourceName",
        "LMDeploy",
    ),
    _sign(
        r"World size \((\d+)\) is larger than the number of available GPUs \((\d+)\)",
        "NotEnoughGPUs",
        "{0} GPUs were asked for and the container has {1}",
        "check the device plugin and gpu.resourceName",
        "VLLM",
    ),
    _sign(
        r"invalid device ordinal",
        "NotEnoughGPUs",
        "the container has fewer GPUs than tensor parallelism asks for",
        "check the device plugin and gpu.resourceName",
    ),
    _sign(
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient",
        "DriverTooOld",
        "the node's NVIDIA driver is too old for the CUDA libraries of the image",
        "update the driver, or use an image for an older CUDA",
    ),
    _sign(
        r"No CUDA GPUs are available|Torch not compiled with CUDA enabled|Found no NVIDIA driver"
        r"|Failed to infer device type",
        "NoGPU",
        "the engine sees no GPU",
        "check the device plugin, gpu.resourceName and runtimeClassName, and that the image is built for CUDA",
    ),
    _sign(
        r"no kernel image is available for execution on the device",
        "GPUNotSupported",
        "the image holds no code for this GPU's compute capability",
        "choose another GPU, or an image built for this one",
    ),
    _sign(
        r"does not support bfloat16|Bfloat16 is only supported on GPUs",
        "BFloat16NotSupported",
        "this GPU has no bfloat16",
        "add --dtype=float16 to engine.extraArgs",
    ),
    _sign(
        r"attention heads \((\d+)\) must be divisible by tensor parallel size",
        "TensorDoesNotDivide",
        "parallelism.tensor does not divide the model's {0} attention heads",
        "choose a parallelism.tensor that does",
    ),
    _sign(
        r"NCCL error|ncclSystemError|ncclUnhandledCudaError|ncclInternalError",
        "NCCLFailed",
        "the GPUs of the pod cannot talk to each other",
        "raise sharedMemory; NCCL_DEBUG=INFO in engine.env shows more",
    ),
    _sign(
        r"[Bb]us error|/dev/shm.*No space left|No space left on device.*/dev/shm",
        "SharedMemoryTooSmall",
        "/dev/shm is full",  # noqa: S108 - a message
        "raise sharedMemory",
    ),
    _sign(r"No space left on device", "DiskFull", "the pod's volume is full", "give the cache more room"),
    # What the command line said.
    _sign(
        r"error: unrecognized arguments: (.+)",
        "UnknownArgument",
        "the image's engine does not know {0}",
        "the image is another version than engine.version: make them agree, or correct engine.extraArgs",
    ),
    _sign(
        r"error: argument (.+)",
        "InvalidArgument",
        "the image's engine does not take argument {0}",
        "the image is another version than engine.version: make them agree, or correct engine.extraArgs",
    ),
    _sign(
        r"object-cache path (?:no longer accepts|expects)|invalid cache_max_entry_count",
        "InvalidKVCacheShare",
        "the KV cache's share must be more than 0 and less than 1",
        "set kvCache.memoryPercent between 1 and 99",
        "LMDeploy",
    ),
    _sign(
        r"invalid quant_policy",
        "UnsupportedKVQuantization",
        "this backend does not have the KV cache's number format",
        "use kvCache.quantization None, Int8 or Int4, or another backend",
        "LMDeploy",
    ),
    _sign(
        r"Invalid kv_cache_dtype: '([^']+)'",
        "UnsupportedKVQuantization",
        "this vLLM has no KV cache of type {0}",
        "use another kvCache.quantization, or the image of engine.version",
        "VLLM",
    ),
    _sign(
        r"[Tt]he (tool|reasoning) parser ([^\s{]+) is not in the parser list",
        "UnknownParser",
        "there is no {0} parser {1}",
        "correct engine.extraArgs",
        "LMDeploy",
    ),
    _sign(
        r"invalid (tool call|reasoning) parser: (\S+)",
        "UnknownParser",
        "there is no {0} parser {1}",
        "correct engine.extraArgs",
        "VLLM",
    ),
    _sign(
        r"max_model_len \((\d+)\) is greater than the derived max_model_len \([^\d]*(\d+)",
        "ContextAboveModel",
        "contextLength {0} is above the model's {1}",
        "set contextLength to at most {1}",
        "VLLM",
    ),
    _sign(
        r"VLLM_PORT '.*' appears to be a URI",
        "ServiceLinksClash",
        "a Service named vllm put its address into VLLM_PORT",
        "remove VLLM_PORT from engine.env; pods of this operator get no service links",
        "VLLM",
    ),
    _sign(
        r"Multi-nodes support requires `ray`",
        "RayMissing",
        "the image holds no ray, which this executor needs",
        "remove --distributed-executor-backend from engine.extraArgs",
        "LMDeploy",
    ),
    _sign(
        r"(?i)address already in use",
        "PortInUse",
        "the port is taken inside the pod's network",
        "a pod of this operator has its own network: look for hostNetwork or a sidecar on the port",
    ),
    # The model.
    _sign(
        r"execute the configuration file in that repo|contains custom code which must be executed"
        r"|trust_remote_code=True",
        "RemoteCodeNeeded",
        "the model's repository holds code that loading it needs",
        "read that code, then set model.trustRemoteCode to true",
    ),
    _sign(
        r"GatedRepoError|gated repo|401 Client Error|403 Client Error",
        "ModelAccessDenied",
        "the hub does not give the model to this token",
        "accept the model's licence on the hub and name its token in model.credentials",
    ),
    _sign(
        r"RevisionNotFoundError|Invalid rev id",
        "RevisionNotFound",
        "the hub has no such revision of the model",
        "correct the model's revision",
    ),
    _sign(
        r"RepositoryNotFoundError|404 Client Error",
        "ModelNotFound",
        "the hub has no such repository, or hides it from this token",
        "correct the model's repository, or name a token in model.credentials",
    ),
    _sign(
        r"429 Client Error|Too Many Requests",
        "HubRateLimited",
        "the hub refuses further downloads for now",
        "name a token in model.credentials, or serve from a persistentVolumeClaim",
    ),
    _sign(
        r"LocalEntryNotFoundError|outgoing traffic has been disabled",
        "ModelNotReachable",
        "the model is not on the pod's volume and the hub cannot be reached",
        "check the pod's way to the hub and HF_HUB_OFFLINE, or serve from a persistentVolumeClaim",
    ),
    _sign(
        r"Repo id must be in the form .*?: '(/[^']*)'",
        "ModelPathMissing",
        "there is no directory {0} in the pod",
        "correct persistentVolumeClaim.path: it names a directory on the claim",
    ),
    _sign(
        r"Could not find model architecture from config|does not appear to have a file named config\.json"
        r"|Invalid repository ID or local directory",
        "ModelConfigMissing",
        "the model's directory holds no usable config.json",
        "correct persistentVolumeClaim.path, or the files on the claim",
    ),
    _sign(
        r"No such file or directory:? '?(\S+\.(?:safetensors|bin|gguf))|Cannot find any model weights",
        "WeightsMissing",
        "a file of the weights is missing",
        "download the model again",
    ),
    _sign(
        r"SafetensorError|file not fully covered|incomplete metadata",
        "WeightsCorrupt",
        "a file of the weights is cut short or damaged",
        "download the model again",
    ),
    _sign(
        r'mismatched quant method: user input "([^"]+)" vs model quant_config "([^"]+)"',
        "FormatMismatch",
        "the weights are {1}, not {0}",
        _FORMAT,
        "LMDeploy",
    ),
    _sign(
        r"Unsupported weight quantization method: (\S+)|Unsupported quant method: (\S+)",
        "FormatMismatch",
        "the backend cannot read these weights as {0}",
        _FORMAT,
        "LMDeploy",
    ),
    _sign(
        r"Cannot find the config file for (\S+)|does not match the quantization method specified",
        "FormatMismatch",
        "the weights are not of the format that model.format names",
        _FORMAT,
        "VLLM",
    ),
    _sign(
        r"Can not found rewrite for architectures: (\[[^\]]*\])"
        r"|model type `([^`]+)` but Transformers does not recognize|Model architectures (\[[^\]]*\]) are not supported",
        "UnsupportedArchitecture",
        "the engine does not know the model's architecture {0}",
        "use a newer engine.version or the other engine",
    ),
    # Wrappers, when nothing above was found.
    _sign(
        r"PyTorch ZMQ engine process is not alive",
        "EngineProcessDied",
        "LMDeploy's engine process died while it started",
        _EARLIER,
        "LMDeploy",
    ),
    _sign(
        r"Engine core initialization failed",
        "EngineProcessDied",
        "vLLM's engine process died while it started",
        _EARLIER,
        "VLLM",
    ),
)
