# ruff: noqa: E501 - alternatives and lines of logs are quoted whole
"""Deaths for the GPUs: their memory, drivers, kernels, links and formats.

What only one engine prints is in its code: tests/engines/test_death_texts.py names the versions. The texts of CUDA,
NCCL, PyTorch, Triton and Ray are as public reports quote them (tests/unit/engines/field.json, test_deaths.py).
"""

from __future__ import annotations

from llm_operator.engines.remedies import BY_STAGE, COUNT, OUT_OF_MEMORY
from llm_operator.engines.signature import CONSEQUENCE, SYMPTOM, Signature, sign

_LINKS = "set NCCL_P2P_DISABLE=1 in engine.env"
_IMAGE_CUDA = "use an image for the driver's CUDA in engine.image, or update the driver"
_OTHER_CARD = "use weights of another format in model, or a GPU of the compute capability that is named"

PEERS = (
    r"peer access (?:is not supported|is already|has not been)|cudaErrorPeerAccess|P2P.{0,40}(?:not supported|failed)"
    r"|cudaIpcOpenMemHandle|pidfd_getfd: Operation not permitted|when batch testing peer-to-peer access"
)
LINKS_MESSAGE = "the GPUs of the pod cannot read each other's memory"

MEMORY: tuple[Signature, ...] = (
    sign(
        r"CUDA-capable device\(s\) is/are busy or unavailable|cudaErrorDevicesUnavailable",
        "GPUMemoryTaken",
        "another process holds this GPU for itself",
        "give the pod a GPU without other processes in gpu.resourceName; where none uses it, reset the GPU",
    ),
    sign(
        r"CUDA(?: \w+)? [Ee]rror:? out of memory|CUDA out of memory|torch\.OutOfMemoryError"
        r"|cuda\.OutOfMemoryError|Cuda failure \d* ?'out of memory'|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"
        r"|cache out of memory|HIP out of memory|Check failed:.*(?:out of memory|cudaSuccess \(2 vs)|Triton Error \[CUDA\]: out of memory"
        r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
        # PyTorch reads this number for its message that memory is short; a slice of a GPU does not have it.
        r"|NVML_SUCCESS == r INTERNAL ASSERT FAILED",
        *OUT_OF_MEMORY,
        at=BY_STAGE,
    ),
)

DEVICES: tuple[Signature, ...] = (
    sign(
        r"invalid device ordinal|local.rank \d+ is out of bounds|equal to the number of visible devices \(\d+\)"
        r"|larger than the (?:total )?number of (?:available |visible )?(?:GPUs|CUDA devices)|The number of required GPUs exceeds the total number of available GPUs"
        r"|Cannot provide a placement group|placement group bundle index \d+ is invalid|You don't have enough GPUs"
        r"|The number of required \w+ exceeds the total number of available|\b[Dd]evice[_ ](?:id|ordinal) \d+ is out of range"
        r"|(?:provides \d+ devices, but|[Nn]ot enough (?:resources to allocate|total available nodes|bundle indices)).{0,80}"
        r"|does not have required resource: GPU|Ray does not allocate any GPUs on the driver node",
        "NotEnoughGPUs",
        "the container has fewer GPUs than the engine needs",
        COUNT,
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
        # What a package of kernels compiles for a GPU that it does not know cannot be loaded.
        r"\bjit\w*/\w+\.(?:hpp|cuh?|h):\d+\)?: \d* ?\(?CUDA_ERROR_(?:INVALID_IMAGE|NO_BINARY_FOR_GPU)"
        r"|not (?:yet )?(?:implemented|supported) (?:for|on) (?:the )?(?:Blackwell|Hopper|Ampere|Ada|Turing|Volta|Pascal)\b",
        "GPUNotSupported",
        "the image holds no code for this GPU's compute capability",
        "use an image built for this GPU in engine.image, or a newer engine.version",
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
        "drain the node, then reset or replace the GPU: the kubelet's device plugin does not see this by itself",
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
        r"NVMLError_NotFound|NVML_ERROR_NOT_FOUND|Invalid device id|invalid literal for int\(\) with base 10: '?GPU-",
        "NoGPU",
        "the container has no GPU of the number or UUID that the engine looks for",
        "remove CUDA_VISIBLE_DEVICES from engine.env: the device plugin decides which GPUs the container sees",
    ),
    sign(
        r"sm_\d+a?' is not (?:defined|a recognized)|ptxas fatal|no kernel image is available|is not compatible with the "
        r"current PyTorch installation|cudaErrorNoKernelImageForDevice|unsupported (?:gpu|GPU) architecture"
        r"|nvcc fatal +: Unsupported gpu architecture|CUDA capability sm_\d+ is not compatible|invalid device function"
        r"|No (?:compatible|supported) (?:GPU |CUDA )?architecture|only supports? (?:Ampere|Hopper|Blackwell|sm_?\d+).{0,20}"
        r"|No compiled \w+(?: for|: no \w+ kernel)|requires GPUs with (?:sm_?|SM_?|compute capability )\d|no valid kernel for|(?:not|n't) support.{0,40}\b(?:sm|SM)_?\d{2,3}a?\b|\bsm_?\d{2,3}a?\b (?:is|are) not supported"
        r"|_C is not available, likely was not compiled|Could not run '_\w{0,20}C\w{0,20}::\w{1,80}' with arguments from the 'CUDA'|supported arch was not in the list of target arches"
        r"|No valid attention backend found.*\bcompute capability not supported",
        "GPUNotSupported",
        "the image holds no code for this GPU's compute capability",
        "use an image built for this GPU in engine.image, or a newer engine.version",
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
        r"|(?:assert|Check failed:) .{1,80} % (?:self\.)?tp(?:_size)? == 0|size_[kmn] must (?:be )?divisible by"
        r"|(?:must|should) be divisible by (?:the )?(?:tensor|tp|world|group|block)|is too large to split.{0,40}tensor",
        "TensorDoesNotDivide",
        "the quantized weights, or the model's sizes, cannot be split by parallelism.tensor",
        "lower parallelism.tensor, or use weights of another format in model",
    ),
    sign(
        r"(?:not|n't)(?: yet)? support(?:ed)? (?:\w+ ){0,2}tensor.parallel|(?:tensor parallelism|\bTP\b)(?: or PP)? (?:is|are) not (?:yet )?supported",
        "TensorDoesNotDivide",
        "weights of this format cannot be split over several GPUs by this engine",
        "set parallelism.tensor to 1, or use weights of another format in model, or a newer engine.version",
    ),
    sign(
        r"(?i)Watchdog caught collective operation timeout|collective operation timeout|Timed out initializing process gr"
        r"|wait timeout after \d+ms, keys:|torch\.distributed\.DistStoreError: Timed out|RPC call to \S+ timed out"
        r"|Engine iteration timed out|client socket has timed out after",
        "NCCLTimeout",
        "a rank did not answer the others in time, and the watchdog ended the engine",
        "set NCCL_P2P_DISABLE=1 in engine.env when it comes back, and look at the GPUs and their links",
        rank=CONSEQUENCE,
    ),
    sign(
        PEERS,
        "PeerAccessFailed",
        LINKS_MESSAGE,
        _LINKS,
    ),
    sign(
        r"OutOfResources: out of resource: ([\w ]{1,40}), Required: (\d+), Hardware limit: (\d+)",
        "KernelFailed",
        "a kernel needs {1} bytes of {0} and this GPU has {2}",
        "use another engine.version, or a GPU that has as much in gpu.resourceName",
    ),
    sign(
        r"^RuntimeError: Error Internal$|misaligned address|unspecified launch failure|an illegal instruction was encountered|device-side assert|\bthread: \[\d+,\d+,\d+\] Assertion "
        r"|CUBLAS_STATUS_(?!ALLOC)\w+|cublas\w* failed|CUDNN_STATUS_(?!ALLOC)\w+|cudaError[A-Z]\w+"
        r"|unable to find an engine to execute|No valid config for kernel|invalid configuration argument|too many resources requested for launch"
        r"|(?:CUDA|CUDART|Cuda|HIP)(?: [Rr]untime| [Dd]river)? [Ee]rror:? (?:\(\S+:\d+\): )?[A-Za-z]|torch_call_dispatcher"
        r"|[Aa]ssertion (?:error|failed):? \(?\S{1,200}\.(?:hpp|cuh?|cpp|h):\d+|Triton Error \[CUDA\]:|Cutlass.{0,20}(?:Error|failed)",
        "KernelFailed",
        "a CUDA kernel of the engine failed",
        "use another engine.version; when it fails on one node only, look at that GPU",
        rank=SYMPTOM,
    ),
    sign(
        r"Error while creating shared memory segment|[Bb]us error|SIGBUS|/dev/shm.*No space left"
        r"|No space left on device.*/dev/shm|insufficient shared memory|unable to (?:open|allocate) shared memory"
        r"|psm_\w{1,40}\W.{0,100}No space left|No space left on device: '?/(?:psm|sem)[._]|shared memory.{0,40}No space left|object store.{0,80}/dev/shm"
        r"|unable to write to file </torch_|requested size of shared memory|Insufficient space in /dev/shm|Increase /dev/shm",
        "SharedMemoryTooSmall",
        "/dev/shm is full",  # noqa: S108 - a message
        "raise sharedMemory: a new pod begins with an empty /dev/shm",
    ),
    sign(
        r"cudaGetDeviceCount\(\)",
        "NoGPU",
        "CUDA cannot use the GPU that the container has",
        "check the node's driver and runtimeClassName; where nvidia-smi fails too, reboot the node",
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
        r"^(?!.{0,900}(?:ncclRemoteError|remote process exited)).{0,900}?(?:NCCL error|ncclSystemError|ncclUnhandledCudaError|ncclInternalError"
        r"|ncclInvalidUsage|NCCL WARN|DistBackendError|Call to (?:CUDA function|ibv_\w+) failed)",
        "NCCLFailed",
        "the GPUs of the pod cannot talk to each other",
        "raise sharedMemory, or set NCCL_DEBUG=INFO in engine.env to see more",
        rank=SYMPTOM,
    ),
    sign(
        r"ncclRemoteError|remote process exited or there was a network error",
        "NCCLFailed",
        "the link between the engine's processes broke, often because one of them had died",
        "see the first error of kubectl logs --previous; set NCCL_DEBUG=INFO in engine.env to see more",
        rank=CONSEQUENCE,
    ),
)
