"""Reasons of engines that died for their command line, image or container."""

from __future__ import annotations

from llm_operator.reasons.types import Reason, death

HOSTS: tuple[Reason, ...] = (
    death(
        "DiskFull",
        "the pod's volume is full",
        "give the claim of `cache` more room",
        fields=("spec.cache",),
    ),
    death(
        "UnknownArgument",
        "the image's engine does not know an argument",
        "make engine.image and engine.version agree, or correct engine.extraArgs",
        fields=(
            "spec.engine.version",
            "spec.engine.extraArgs",
        ),
    ),
    death(
        "InvalidArgument",
        "the image's engine does not take an argument's value",
        "make engine.image and engine.version agree, or correct engine.extraArgs",
        fields=(
            "spec.engine.version",
            "spec.engine.extraArgs",
        ),
    ),
    death(
        "SettingRefused",
        "the engine checks its settings and refuses one of them, or two together; the message has its own words",
        "change what the message names: an option in engine.extraArgs, a field of this object, or the "
        "files of the model",
        fields=("spec.engine.extraArgs",),
    ),
    death(
        "AdapterRefused",
        "the engine cannot load a LoRA adapter, or its rank is above the engine's limit",
        "correct --lora-modules, or raise --max-lora-rank, in engine.extraArgs",
        fields=("spec.engine.extraArgs",),
    ),
    death(
        "InvalidKVCacheShare",
        "the KV cache's share must be more than 0 and less than 1",
        "set kvCache.memoryPercent between 1 and 99",
        fields=("spec.kvCache.memoryPercent",),
    ),
    death(
        "UnsupportedKVQuantization",
        "this backend does not have the KV cache's number format",
        "use kvCache.quantization None, Int8 or Int4, or another backend",
        fields=("spec.kvCache.quantization",),
    ),
    death(
        "UnknownParser",
        "there is no tool or reasoning parser of that name",
        "correct the parser's name in engine.extraArgs",
        fields=("spec.engine.extraArgs",),
    ),
    death(
        "ContextAboveModel",
        "`contextLength` is above the model's own",
        "lower contextLength to the model's own",
        fields=("spec.contextLength",),
    ),
    death(
        "ServiceLinksClash",
        "a Service named vllm put its address into VLLM_PORT",
        "remove VLLM_PORT from engine.env",
        fields=("spec.engine.env",),
    ),
    death(
        "RayMissing",
        "the image holds no ray, which this executor needs",
        "remove --distributed-executor-backend from engine.extraArgs",
        fields=("spec.engine.extraArgs",),
    ),
    death(
        "PortInUse",
        "the port is taken inside the pod's network",
        "remove the port from engine.extraArgs, and look for hostNetwork or a sidecar in `podTemplate`",
    ),
    death(
        "HostMemoryExhausted",
        "the kernel ended a process of the engine for the memory of the container or the node",
        "raise resources.limits.memory (the shared memory counts against it)",
        fields=("spec.resources.limits.memory",),
    ),
    death(
        "CompilerMissing",
        "the engine compiles kernels at start and the image has no compiler (gcc, nvcc, ninja)",
        "use the engine project's own image of that version in engine.image",
        fields=("spec.engine.image",),
    ),
    death(
        "CompileFailed",
        "a kernel could not be compiled at start: Triton, FlashInfer, Inductor or DeepGEMM ended with an error",
        "add --enforce-eager (LMDeploy: --eager-mode) to engine.extraArgs, or use another engine.version",
        fields=(
            "spec.engine.extraArgs",
            "spec.engine.version",
        ),
    ),
    death(
        "CacheNotWritable",
        "the engine cannot write a cache directory of compiled kernels or of the hub",
        "set HOME, TRITON_CACHE_DIR, VLLM_CACHE_ROOT or HF_HOME in engine.env to a writable directory",
        fields=("spec.engine.env",),
    ),
    death(
        "UserUnknown",
        "the user of the container has no name in the image, and a library needs one",
        "set USER and LOGNAME in engine.env, or use an image that has this user",
        fields=("spec.engine.env",),
    ),
    death(
        "PackageMissing",
        "the image lacks a Python package or module that the engine or the model needs",
        "use an image that has it in engine.image, or another engine.version",
        fields=(
            "spec.engine.image",
            "spec.engine.version",
        ),
    ),
    death(
        "LibraryMissing",
        "a shared library is missing in the image, or is of another version than the engine was built for",
        "use the engine project's own image in engine.image; if libcuda.so.1 is missing, check runtimeClassName",
        fields=(
            "spec.engine.image",
            "spec.runtimeClassName",
        ),
    ),
    death(
        "ProcessLimit",
        "the container may not start more processes or threads",
        "raise the limit of pids of the node (podPidsLimit of the kubelet), or set OMP_NUM_THREADS=1 in engine.env",
        fields=("spec.engine.env",),
    ),
    death(
        "MultimodalTooLong",
        "one image or video takes more tokens than the engine may handle at once",
        "raise contextLength, or limit the items with --limit-mm-per-prompt in engine.extraArgs",
        fields=(
            "spec.contextLength",
            "spec.engine.extraArgs",
        ),
    ),
    death(
        "PackageMismatch",
        "the engine and a package of its image do not go together",
        "use the engine project's own image of another version in engine.version or engine.image",
        fields=("spec.engine.version", "spec.engine.image"),
    ),
    death(
        "CUDAForked",
        "a process that had begun to use the GPU made a copy of itself, which CUDA forbids",
        "set VLLM_WORKER_MULTIPROC_METHOD=spawn in engine.env",
        fields=("spec.engine.env",),
    ),
    death(
        "VolumeFailed",
        "a volume of the pod gives I/O errors: its storage, or the mount of it on the node, is broken",
        "look at the storage under the volumes on this node, or serve from another model.persistentVolumeClaim",
        fields=("spec.model.persistentVolumeClaim",),
    ),
    death(
        "ImageForOtherCPU",
        "the image is built for another kind of CPU than the node's",
        "use an image for the node's CPU in engine.image, or choose other nodes in nodeSelector",
        fields=(
            "spec.engine.image",
            "spec.nodeSelector",
        ),
    ),
    death(
        "AddressNotAvailable",
        "the engine cannot bind or reach an address of its pod",
        "remove the address from engine.extraArgs, and VLLM_HOST_IP, GLOO_SOCKET_IFNAME and "
        "NCCL_SOCKET_IFNAME from engine.env",
        fields=(
            "spec.engine.extraArgs",
            "spec.engine.env",
        ),
    ),
    death(
        "FileMissing",
        "the engine finds no file that its settings or the model name",
        "correct what names it in engine.extraArgs or engine.env; download a file of the model again, or "
        "correct model.persistentVolumeClaim.path",
        fields=(
            "spec.engine.extraArgs",
            "spec.engine.env",
            "spec.model.persistentVolumeClaim.path",
        ),
    ),
)
