"""Reasons of engines that died for their GPUs: memory, devices, drivers, links and kernels."""

from __future__ import annotations

from llm_operator.reasons.types import Reason, death

GPUS: tuple[Reason, ...] = (
    death(
        "KVCacheTooSmall",
        "the weights leave no room for a KV cache",
        "raise kvCache.memoryPercent; or raise parallelism.tensor, quantize the weights, or use a GPU with more memory",
        fields=(
            "spec.kvCache.memoryPercent",
            "spec.parallelism.tensor",
        ),
    ),
    death(
        "RuntimeMemoryTooSmall",
        "the weights leave no room for the smallest prefill",
        "lower maxConcurrentSequences, or raise parallelism.tensor, quantize the weights, or use a "
        "GPU with more memory",
        fields=(
            "spec.maxConcurrentSequences",
            "spec.parallelism.tensor",
        ),
    ),
    death(
        "StateCacheTooSmall",
        "the state of linear attention for every concurrent sequence does not fit",
        "lower maxConcurrentSequences",
        fields=("spec.maxConcurrentSequences",),
    ),
    death(
        "ContextTooLong",
        "the KV cache does not hold one request of the context length",
        "lower contextLength, give the KV cache more memory with kvCache.memoryPercent, or quantize it "
        "with kvCache.quantization",
        fields=("spec.contextLength",),
    ),
    death(
        "GPUMemoryTaken",
        "somebody else uses this GPU",
        "free the GPU, give the pod one without other processes in gpu.resourceName, or lower kvCache.memoryPercent",
        fields=("spec.kvCache.memoryPercent",),
    ),
    death(
        "GPUOutOfMemory",
        "the GPU's memory was exhausted",
        "lower kvCache.memoryPercent or maxConcurrentSequences; or raise parallelism.tensor, "
        "quantize the weights, or use a GPU with more memory",
        fields=(
            "spec.kvCache.memoryPercent",
            "spec.maxConcurrentSequences",
            "spec.parallelism.tensor",
        ),
    ),
    death(
        "NotEnoughGPUs",
        "the container has fewer GPUs than tensor parallelism requires",
        "check the device plugin, gpu.resourceName and parallelism.tensor",
        fields=(
            "spec.gpu.resourceName",
            "spec.parallelism.tensor",
        ),
    ),
    death(
        "NoGPU",
        "the engine sees no GPU",
        "check the device plugin, gpu.resourceName and runtimeClassName, and that the image is built for CUDA",
        fields=(
            "spec.gpu.resourceName",
            "spec.runtimeClassName",
        ),
    ),
    death(
        "DriverTooOld",
        "the node's NVIDIA driver is too old for the CUDA libraries of the image",
        "update the driver, or use an image for an older CUDA in engine.image",
        fields=("spec.engine.image",),
    ),
    death(
        "DriverMismatch",
        "the CUDA libraries of the image do not go with the driver of the node",
        "set LD_LIBRARY_PATH=/usr/local/nvidia/lib64 in engine.env, so that the driver's own libcuda "
        "comes first; or use an image for the driver's CUDA in engine.image",
        fields=(
            "spec.engine.env",
            "spec.engine.image",
        ),
    ),
    death(
        "FabricNotReady",
        "the fabric manager of the node does not run, which machines with NVSwitch need",
        "start nvidia-fabricmanager of the driver's version on the node that `kubectl get pod -o wide` shows",
    ),
    death(
        "GPUNotSupported",
        "the image holds no code for this GPU's compute capability",
        "use an image built for this GPU in engine.image, or another GPU in gpu.resourceName",
        fields=("spec.engine.image",),
    ),
    death(
        "BFloat16NotSupported",
        "this GPU, or the format of the weights, has no bfloat16",
        "add --dtype=float16 to engine.extraArgs",
        fields=("spec.engine.extraArgs",),
    ),
    death(
        "FormatNotSupportedByGPU",
        "this GPU has no kernels for the format of the weights",
        "use weights of another format in model, or a GPU of the compute capability in the message",
        fields=("spec.model",),
    ),
    death(
        "MIGNotSupported",
        "the engine cannot use this MIG slice or vGPU",
        "use a newer engine.version, or a whole GPU in gpu.resourceName",
        fields=(
            "spec.engine.version",
            "spec.gpu.resourceName",
        ),
    ),
    death(
        "GPUFaulty",
        "the GPU or its link reports a hardware error (ECC, Xid, fallen off the bus)",
        "drain the node with `kubectl drain`, then reset or replace the GPU",
    ),
    death(
        "TensorDoesNotDivide",
        "`parallelism.tensor` does not divide the attention heads",
        "choose a parallelism.tensor that divides what the message names",
        fields=("spec.parallelism.tensor",),
    ),
    death(
        "NCCLFailed",
        "the GPUs of the pod cannot talk to each other",
        "raise sharedMemory, or set NCCL_DEBUG=INFO in engine.env to see more",
        fields=(
            "spec.sharedMemory",
            "spec.engine.env",
        ),
    ),
    death(
        "NCCLTimeout",
        "a rank did not answer the others in time, and the watchdog ended the engine",
        "set NCCL_P2P_DISABLE=1 in engine.env if it happens again, and look at the links of the GPUs",
        fields=("spec.engine.env",),
    ),
    death(
        "PeerAccessFailed",
        "the GPUs of the pod cannot read each other's memory",
        "set NCCL_P2P_DISABLE=1 in engine.env, or add --disable-custom-all-reduce to the engine.extraArgs of vLLM",
        fields=(
            "spec.engine.extraArgs",
            "spec.engine.env",
        ),
    ),
    death(
        "SharedMemoryTooSmall",
        "/dev/shm is full",  # noqa: S108 - a message
        "raise sharedMemory",
        fields=("spec.sharedMemory",),
    ),
    death(
        "IllegalMemoryAccess",
        "a kernel of the engine read or wrote outside its memory",
        "use another engine.version if it happens again, or add --enforce-eager (LMDeploy: --eager-mode) "
        "to engine.extraArgs",
        fields=(
            "spec.engine.version",
            "spec.engine.extraArgs",
        ),
    ),
    death(
        "KernelFailed",
        "a CUDA kernel or a CUDA library failed",
        "use another engine.version; when it fails on one node only, look at that GPU",
        fields=("spec.engine.version",),
    ),
    death(
        "AttentionNotSupported",
        "no attention kernel of this engine serves the model on this GPU as it is configured",
        "remove --attention-backend from engine.extraArgs and VLLM_ATTENTION_BACKEND from engine.env, or "
        "use a newer engine.version",
        fields=("spec.engine.extraArgs", "spec.engine.env", "spec.engine.version"),
    ),
)
