# ruff: noqa: E501 - alternatives and lines of logs are quoted whole
"""Deaths for the GPUs: their memory, drivers, kernels, links and formats.

What only one engine prints is in its code: tests/engines/test_death_texts.py names the versions. The texts of CUDA,
NCCL, PyTorch, Triton and Ray are as public reports quote them (tests/unit/engines/field.json, test_deaths.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from llm_operator.engines.death import Stage
from llm_operator.engines.signature import SYMPTOM, Signature, sign

_SMALLER = "quantize the weights, raise parallelism.tensor, or use a GPU with more memory"
_CACHE = "lower kvCache.memoryPercent or kvCache.memory, maxConcurrentSequences or contextLength"
_COUNT = "check the device plugin, gpu.resourceName and parallelism.tensor"
_OUT_OF_MEMORY = (
    "GPUOutOfMemory",
    "the GPU's memory was exhausted",
    f"{_SMALLER}; where the weights had been loaded, lower kvCache.memoryPercent",
)
_BY_STAGE: Mapping[Stage, str] = {
    "Loading": f"the weights do not fit beside what the engine needs: {_SMALLER}",
    "Profiling": f"lower maxConcurrentSequences or contextLength; or {_SMALLER}",
    "Capturing": "lower kvCache.memoryPercent, which leaves room for CUDA graphs",
    "Serving": f"{_CACHE}; or {_SMALLER}",
}
_LINKS = "add --disable-custom-all-reduce to engine.extraArgs, or set NCCL_P2P_DISABLE=1 in engine.env"
_IMAGE_CUDA = "use an image for the driver's CUDA in engine.image, or update the driver"
_OTHER_CARD = "use weights of another format in model, or a GPU of the compute capability that is named"

MEMORY: tuple[Signature, ...] = (
    sign(
        r"No enough gpu memory for kv cache|No enough gpu memory for (?:cache|blocks)|num_gpu_blocks.{0,20} <= 0",
        "KVCacheTooSmall",
        "the weights leave no room for a KV cache",
        f"raise kvCache.memoryPercent; or {_SMALLER}",
        "LMDeploy",
    ),
    sign(
        r"No enough gpu memory for runtime",
        "RuntimeMemoryTooSmall",
        "the weights leave no room for the smallest prefill",
        f"lower maxConcurrentSequences, or {_SMALLER}",
        "LMDeploy",
    ),
    sign(
        r"No enough gpu memory for state cache",
        "StateCacheTooSmall",
        "the state of linear attention for every concurrent sequence does not fit",
        "lower maxConcurrentSequences",
        "LMDeploy",
    ),
    sign(
        r"models?'s max seq(?:uence)? len(?:gth)? \((\d+)\).*?estimated maximum model length is (\d+)",
        "ContextTooLong",
        "the KV cache does not hold one request of {0} tokens",
        "set contextLength to at most {1}, give the KV cache more memory, or quantize it with kvCache.quantization",
        "VLLM",
    ),
    sign(
        r"models?'s max seq(?:uence)? len(?:gth)? \(\d+\)"
        r"|KV cache is needed, which is larger than the available KV cache memory"
        r"|max_model_len.{0,40} is larger than the maximum number of tokens",
        "ContextTooLong",
        "the KV cache does not hold one request of the context length",
        "lower contextLength, give the KV cache more memory, or quantize it with kvCache.quantization",
        "VLLM",
    ),
    sign(
        r"No available memory for the cache blocks|Available KV cache memory: -\d",
        "KVCacheTooSmall",
        "the weights leave no room for a KV cache",
        f"raise kvCache.memoryPercent; or {_SMALLER}",
        "VLLM",
    ),
    sign(
        r"Free memory on device .*\(([\d.]+)/([\d.]+) GiB\) on startup is less than "
        r"(?:desired GPU memory utilization|the engine's budget)",
        "GPUMemoryTaken",
        "only {0} of {1} GiB of the GPU were free at start, less than the engine should take",
        "another process uses this GPU: free it, or lower kvCache.memoryPercent",
        "VLLM",
    ),
    sign(
        r"CUDA-capable device\(s\) is/are busy or unavailable|cudaErrorDevicesUnavailable",
        "GPUMemoryTaken",
        "another process holds this GPU for itself",
        "give the pod a GPU without other processes in gpu.resourceName; reset the GPU where none uses it",
    ),
    sign(
        r"Error in memory profiling|Initial free memory .{0,40}current free memory",
        "GPUMemoryTaken",
        "another process freed memory of this GPU while the engine measured it",
        "give the pod a GPU without other processes in gpu.resourceName; another start usually succeeds",
        "VLLM",
    ),
    sign(
        r"CUDA out of memory occurred when warming up|CUDA graph.{0,80}out of memory",
        "GPUOutOfMemory",
        "the GPU's memory was exhausted while the engine warmed up",
        "lower maxConcurrentSequences or kvCache.memoryPercent",
        "VLLM",
    ),
    # TurboMind through 0.13, src/turbomind/utils/cuda_utils.h; later ones say it as the next row has it.
    sign(r"CUDA runtime error: out of memory", *_OUT_OF_MEMORY, "LMDeploy", until="0.14.0", at=_BY_STAGE),
    sign(
        r"CUDA(?: runtime)? error:? out of memory|CUDA error: out of memory|CUDA out of memory|torch\.OutOfMemoryError"
        r"|cuda\.OutOfMemoryError|Cuda failure \d* ?'out of memory'|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"
        r"|cache out of memory|HIP out of memory|Check failed:.*(?:out of memory|cudaSuccess \(2 vs)|Triton Error \[CUDA\]: out of memory"
        r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED",
        *_OUT_OF_MEMORY,
        at=_BY_STAGE,
    ),
)

DEVICES: tuple[Signature, ...] = (
    sign(
        r"no valid parallel config: .*tp=(\d+).*available_devices=(\d+)",
        "NotEnoughGPUs",
        "tensor parallelism is {0} and the container has {1} GPU(s)",
        _COUNT,
        "LMDeploy",
        since="0.14.1",
    ),
    sign(
        r"World size \((\d+)\) is larger than the number of available GPUs \((\d+)\)",
        "NotEnoughGPUs",
        "the engine needs {0} GPUs and the container has {1}",
        _COUNT,
        "VLLM",
    ),
    sign(
        r"invalid device ordinal|local.rank \d+ is out of bounds|equal to the number of visible devices \(\d+\)"
        r"|The number of required GPUs exceeds the total number of available GPUs"
        r"|Cannot provide a placement group",
        "NotEnoughGPUs",
        "the container has fewer GPUs than the engine needs",
        _COUNT,
    ),
    sign(
        r"Error 802|system not yet initialized|CUDA_ERROR_SYSTEM_NOT_READY|[Ff]abric ?[Mm]anager.*not (?:running|ready)",
        "FabricNotReady",
        "the fabric manager of the node does not run",
        "start nvidia-fabricmanager of the driver's version on the node",
    ),
    sign(
        r"Error 80[34]\b|unsupported display driver / cuda driver combination|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
        r"|forward compatibility was attempted on non supported HW|CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"
        r"|[Dd]river/library version mismatch|NVML_ERROR_LIB_RM_VERSION_MISMATCH",
        "DriverMismatch",
        "the CUDA libraries of the image do not go with the driver of the node",
        "set LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/usr/lib/x86_64-linux-gnu in engine.env, so that the driver's own "
        "libcuda comes first; or use an image for the driver's CUDA in engine.image",
    ),
    sign(
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient|cudaErrorInsufficientDriver"
        r"|unsatisfied condition: cuda ?>=|nvidia-container-cli: requirement error"
        r"|not supported in the installed CUDA driver|cudaErrorCallRequiresNewerDriver",
        "DriverTooOld",
        "the node's NVIDIA driver is too old for the CUDA libraries of the image",
        "update the driver, or use an image for an older CUDA in engine.image",
    ),
    sign(
        r"provided PTX was compiled with an unsupported toolchain|Triton Error \[CUDA\]: device kernel image is invalid"
        r"|CUDA error: device kernel image is invalid|CUDA_ERROR_UNSUPPORTED_PTX_VERSION|CUDA_ERROR_INVALID_IMAGE"
        r"|cudaErrorUnsupportedPtxVersion",
        "DriverTooOld",
        "the image's compiler of kernels is newer than the node's driver",
        _IMAGE_CUDA,
    ),
    sign(
        r"(?i)uncorrectable ECC|ECC error|\bXid\b.{0,30}\d|fallen off the bus|unrecoverable error.{0,20}GPU|GPU is lost"
        r"|cudaErrorECCUncorrectable|hardware stack error|NVLink error|uncorrectable NVLink|GPU requires reset"
        r"|Unable to determine the device handle for GPU",
        "GPUFaulty",
        "the GPU or its link reports a hardware error",
        "drain the node, reset or replace the GPU; kubelet's device plugin does not see this by itself",
    ),
    sign(
        r"'MIG-[\w/-]+'|\bMIG\b.{0,60}(?:not supported|unsupported)|NVML_ERROR_(?:NOT_SUPPORTED|INVALID_ARGUMENT)"
        r"|NVMLError_(?:NotSupported|InvalidArgument|NoPermission)"
        r"|CUDA (?:runtime )?error:? operation not supported|cudaErrorNotSupported"
        r"|\bvGPU\b.{0,60}(?:not support|unsupported|licen)",
        "MIGNotSupported",
        "the engine cannot use this MIG slice or vGPU",
        "use a newer engine.version, or a whole GPU in gpu.resourceName",
    ),
    sign(
        r"No CUDA GPUs are available|Torch not compiled with CUDA enabled|Found no NVIDIA driver|NVML_ERROR_LIBRARY_NOT_F"
        r"|Failed to infer device type|no CUDA-capable device is detected|CUDA is not available|cudaErrorNoDevice"
        r"|CUDA driver initialization failed|Current node has no GPU available|<CUDA> check failed|NVML: Unknown Error"
        r"|NVMLError_LibraryNotFound|NVML Shared Library Not Found|Can't initialize NVML"
        r"|CUDA unknown error - this may be due to",
        "NoGPU",
        "the engine sees no GPU",
        "check the device plugin, gpu.resourceName and runtimeClassName, and that the image is built for CUDA",
    ),
    sign(
        r"No valid attention backend found.*\bkv_cache_dtype=(?!auto)(\w+).*\bkv_cache_dtype not supported",
        "UnsupportedKVQuantization",
        "vLLM has no attention kernel for a KV cache of type {0} for this model and GPU",
        "set kvCache.quantization to None, or use another engine.version",
        "VLLM",
    ),
    sign(
        r"sm_\d+a?' is not (?:defined|a recognized)|ptxas fatal|no kernel image is available|is not compatible with the "
        r"current PyTorch installation|cudaErrorNoKernelImageForDevice|unsupported (?:gpu|GPU) architecture"
        r"|nvcc fatal +: Unsupported gpu architecture|CUDA capability sm_\d+ is not compatible|invalid device function"
        r"|No compatible (?:GPU )?architecture|only supports? (?:Ampere|Hopper|Blackwell|sm_?\d+).{0,20}"
        r"|No compiled \w+ for|no valid kernel for|_C is not available, likely was not compiled|supported arch was not in the list of target arches"
        r"|No valid attention backend found.*\bcompute capability not supported",
        "GPUNotSupported",
        "the image holds no code for this GPU's compute capability",
        "use an image built for this GPU in engine.image, or a newer engine.version",
    ),
    sign(
        r"No valid attention backend found|Selected backend \S+ is not valid for|[Ii]nvalid attention backend"
        r"|(?:FlashInfer|FlashAttention|FlashMLA|XFormers|Triton)\w* (?:backend |attention ).{0,30}(?:not|n't) support",
        "AttentionNotSupported",
        "no attention kernel of this engine serves this model on this GPU as it is configured",
        "remove --attention-backend from engine.extraArgs and VLLM_ATTENTION_BACKEND from engine.env; else use a newer "
        "engine.version",
        "VLLM",
        rank=SYMPTOM,
    ),
    sign(
        r"(?:bf16|bfloat16) is not supported (?:on|for quantization)|is not supported with bfloat16"
        r"|does not support bfloat16|Bfloat16 is only supported on GPUs|bfloat16 is not supported on (?:your|this)",
        "BFloat16NotSupported",
        "this GPU, or the format of these weights, has no bfloat16",
        "add --dtype=float16 to engine.extraArgs",
    ),
    sign(
        r"quantization method .{1,40} is not supported for the current GPU|[Mm]in(?:imum)?\.? capability: \d+"
        r"|Quantization scheme is not supported for|Marlin does not support weight_bits|model_format=fp8 requires sm"
        r"|(?:requires?|needs|only supported on).{0,60}compute capability|[Cc]ompute capability.{0,60}(?:at least|required|>=)"
        r"|fp8e4nv not supported in this architecture|torch\.\w*float8\w* .{0,60}(?:compute capability|9\.0)"
        r"|(?:FP8|fp8|NVFP4|nvfp4|MXFP4|mxfp4|AWQ|GPTQ|[Mm]arlin)\b.{0,60}not supported (?:on|by|for) (?:this|the|your)"
        r".{0,20}(?:GPU|device|hardware|platform|architecture|capability)",
        "FormatNotSupportedByGPU",
        "this GPU has no kernels for the format of the weights or of the KV cache",
        _OTHER_CARD,
    ),
    sign(
        r"attention heads \((\d+)\) must be divisible by tensor parallel size",
        "TensorDoesNotDivide",
        "parallelism.tensor does not divide the model's {0} attention heads",
        "choose a parallelism.tensor that does",
    ),
    sign(
        r"is not divisible by (?:min_thread_[kn]|weight quantization block|tp\b|tensor.parallel|the quantization)"
        r"|input_size_per_partition = \d+|output_size_per_partition = \d+|not divisible by weight quantization block_[nk]"
        r"|input size is not aligned with the quantized weight shape|not aligned with the quantized weight"
        r"|size_[kn] = \d+ is not divisible|^AssertionError: \d+ is not divisible by \d+$"
        r"|Marlin does not support group_size|tp should be 2\^n"
        r"|(?:assert|Check failed:) .{1,80} % (?:self\.)?tp(?:_size)? == 0",
        "TensorDoesNotDivide",
        "the quantized weights, or the model's sizes, cannot be split by parallelism.tensor",
        "lower parallelism.tensor, or use weights of another format in model",
    ),
    sign(
        r"(?i)Watchdog caught collective operation timeout|collective operation timeout|Timed out initializing process gr"
        r"|wait timeout after \d+ms, keys:|torch\.distributed\.DistStoreError: Timed out|RPC call to \S+ timed out"
        r"|Engine iteration timed out|client socket has timed out after",
        "NCCLTimeout",
        "a rank did not answer the others in time, and the watchdog ended the engine",
        "set NCCL_P2P_DISABLE=1 in engine.env when it comes back, and look at the GPUs and their links",
    ),
    sign(
        r"peer access (?:is not supported|is already|has not been)|cudaErrorPeerAccess|P2P.{0,40}(?:not supported|failed)"
        r"|custom_all_?reduce\S*:?\d*.{0,40}(?:error|failed|invalid)|Failed: Cuda error \S*custom_all_reduce"
        r"|cudaIpcOpenMemHandle|Failed: Cuda error .*custom_all_reduce\.cuh|pidfd_getfd: Operation not permitted",
        "PeerAccessFailed",
        "the GPUs of the pod cannot read each other's memory",
        _LINKS,
    ),
    sign(
        r"an illegal memory access was encountered|cudaErrorIllegalAddress|CUDA_ERROR_ILLEGAL_ADDRESS|Warp Illegal Address",
        "IllegalMemoryAccess",
        "a kernel of the engine read or wrote outside its memory",
        "it restarts; when it comes back, use another engine.version, or add --enforce-eager to engine.extraArgs",
        "VLLM",
    ),
    sign(
        r"an illegal memory access was encountered|cudaErrorIllegalAddress|CUDA_ERROR_ILLEGAL_ADDRESS|Warp Illegal Address",
        "IllegalMemoryAccess",
        "a kernel of the engine read or wrote outside its memory",
        "it restarts; when it comes back, use another engine.version",
        "LMDeploy",
    ),
    sign(
        r"^RuntimeError: Error Internal$|misaligned address|unspecified launch failure|an illegal instruction was encountered|device-side assert"
        r"|CUBLAS_STATUS_(?!ALLOC)\w+|cublas\w* failed|CUDNN_STATUS_(?!ALLOC)\w+|cudaError[A-Z]\w+"
        r"|invalid configuration argument|too many resources requested for launch"
        r"|(?:CUDA|Cuda|HIP)(?: runtime)? error:? [a-z]|Triton Error \[CUDA\]:|Cutlass.{0,20}(?:Error|failed)",
        "KernelFailed",
        "a CUDA kernel of the engine failed",
        "use another engine.version; when it fails on one node only, look at that GPU",
        rank=SYMPTOM,
    ),
    sign(
        r"Error while creating shared memory segment|[Bb]us error|SIGBUS|/dev/shm.*No space left"
        r"|No space left on device.*/dev/shm|insufficient shared memory|unable to (?:open|allocate) shared memory"
        r"|psm_\w+.*No space left|No space left on device: '?/(?:psm|sem)[._]|shared memory.{0,40}No space left|object store.{0,80}/dev/shm"
        r"|unable to write to file </torch_|requested size of shared memory",
        "SharedMemoryTooSmall",
        "/dev/shm is full",  # noqa: S108 - a message
        "raise sharedMemory; a new pod begins with an empty /dev/shm",
    ),
    sign(
        r"cudaGetDeviceCount\(\)",
        "NoGPU",
        "CUDA cannot use the GPU that the container has",
        "check the node's driver and runtimeClassName; restart the node where nvidia-smi fails there too",
        rank=SYMPTOM,
    ),
    sign(
        r"Gloo connect\w+ failed|transport/tcp/pair\.cc:\d+\]",
        "NCCLFailed",
        "the engine's processes cannot reach each other over the pod's network",
        "set GLOO_SOCKET_IFNAME=eth0 and NCCL_SOCKET_IFNAME=eth0 in engine.env",
        rank=SYMPTOM,
    ),
    sign(
        r"NCCL error|ncclSystemError|ncclUnhandledCudaError|ncclInternalError|ncclRemoteError|ncclInvalidUsage"
        r"|NCCL WARN|DistBackendError|Call to (?:CUDA function|ibv_\w+) failed",
        "NCCLFailed",
        "the GPUs of the pod cannot talk to each other",
        "raise sharedMemory; NCCL_DEBUG=INFO in engine.env shows more",
        rank=SYMPTOM,
    ),
)
