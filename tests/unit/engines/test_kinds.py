# ruff: noqa: E501 - lines of logs are quoted whole
"""The kinds of deaths that engines have in clusters: what ends them, the reason that it gets, and what its remedy changes."""

from __future__ import annotations

import pytest

from llm_operator.engines.failures import diagnose

VLLM, LMDEPLOY = "VLLM", "LMDeploy"
_GCC = "Command '['/usr/bin/gcc', '/tmp/tmpx/main.c', '-O3', '-lcuda']' returned non-zero exit status 1."

# Kind, engine, line of a log, reason, a piece of the remedy.
KINDS = [
    ("no gcc", VLLM, "RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set triton.knobs.build.impl.", "CompilerMissing", "engine.image"),
    ("no gcc", LMDEPLOY, "/bin/sh: 1: gcc: not found", "CompilerMissing", "engine.image"),
    ("no nvcc", VLLM, "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist", "CompilerMissing", "engine.image"),
    ("no nvcc", VLLM, "OSError: CUDA_HOME environment variable is not set. Please set it to your CUDA install root.", "CompilerMissing", "engine.image"),
    ("no headers", VLLM, "/tmp/tmpx/main.c:5:10: fatal error: Python.h: No such file or directory", "CompilerMissing", "engine.image"),
    ("gcc fails", VLLM, f"subprocess.CalledProcessError: {_GCC}", "CompileFailed", "engine.version"),
    ("FlashInfer", VLLM, "RuntimeError: Ninja build failed. Ninja output: FAILED: batch_prefill.cuda.o", "CompileFailed", "engine.image"),
    ("ninja", VLLM, "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'", "CompilerMissing", "engine.image"),
    ("cache", VLLM, "PermissionError: [Errno 13] Permission denied: '/.cache/flashinfer'", "CacheNotWritable", "engine.env"),
    ("cache", LMDEPLOY, "OSError: [Errno 30] Read-only file system: '/root/.triton/cache'", "CacheNotWritable", "engine.env"),
    ("cache", VLLM, "FileNotFoundError: [Errno 2] No such file or directory: '/nonexistent/.cache/vllm'", "CacheNotWritable", "engine.env"),
    ("no user", VLLM, "KeyError: 'getpwuid(): uid not found: 1000740000'", "UserUnknown", "engine.env"),
    ("no package", VLLM, "ModuleNotFoundError: No module named 'bitsandbytes'", "PackageMissing", "engine.image"),
    ("no package", LMDEPLOY, "ImportError: This modeling file requires the following packages that were not found in your environment: flash_attn. Run `pip install flash_attn`", "PackageMissing", "engine.image"),
    ("no library", VLLM, "ImportError: libnuma.so.1: cannot open shared object file: No such file or directory", "LibraryMissing", "engine.image"),
    ("no library", LMDEPLOY, "OSError: libnccl.so.2: cannot open shared object file: No such file or directory", "LibraryMissing", "engine.image"),
    ("transformers", VLLM, "AttributeError: 'MistralTokenizer' object has no attribute 'convert_tokens_to_ids'. Did you mean: 'convert_tokens_to_string'?", "TokenizerMismatch", "engine.version"),
    ("transformers", LMDEPLOY, "ValueError: Tokenizer class Qwen9Tokenizer does not exist or is not currently imported.", "TokenizerMismatch", "engine.version"),
    ("802", VLLM, "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized", "FabricNotReady", "nvidia-fabricmanager"),
    ("803", VLLM, "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver / cuda driver combination", "DriverMismatch", "LD_LIBRARY_PATH"),
    ("804", LMDEPLOY, "Error 804: forward compatibility was attempted on non supported HW", "DriverMismatch", "engine.image"),
    ("cuda>=", VLLM, "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver to a newer version", "DriverTooOld", "driver"),
    ("format and GPU", VLLM, "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 80. Current capability: 75.", "FormatNotSupportedByGPU", "model"),
    ("format and GPU", VLLM, "ValueError: type fp8e4nv not supported in this architecture. The supported fp8 dtypes are ('fp8e4b15', 'fp8e5')", "FormatNotSupportedByGPU", "model"),
    ("sm_120", VLLM, "ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'", "GPUNotSupported", "engine.image"),
    ("sm_120", LMDEPLOY, "RuntimeError: [TM][ERROR] CUDA runtime error: no kernel image is available for execution on the device", "GPUNotSupported", "engine.image"),
    ("ECC", VLLM, "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered", "GPUFaulty", "drain"),
    ("Xid", LMDEPLOY, "NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.", "GPUFaulty", "drain"),
    ("illegal access", VLLM, "RuntimeError: CUDA error: an illegal memory access was encountered", "IllegalMemoryAccess", "engine.version"),
    ("illegal access", LMDEPLOY, "  what():  [TM][ERROR] CUDA runtime error: an illegal memory access was encountered /lmdeploy/x.cc:1", "IllegalMemoryAccess", "engine.version"),
    ("MIG", VLLM, "ValueError: invalid literal for int() with base 10: 'MIG-377e0049-554c-540b-93c6-d0976f8426cb'", "MIGNotSupported", "gpu.resourceName"),
    ("vGPU", LMDEPLOY, "RuntimeError: [TM][ERROR] CUDA runtime error: operation not supported /lmdeploy/src/turbomind/utils/allocator.h:197", "MIGNotSupported", "gpu.resourceName"),
    ("watchdog", VLLM, "[rank0]:[E822 16:31:16.131931664 ProcessGroupNCCL.cpp:632] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=5730, OpType=BROADCAST, Timeout(ms)=600000) ran for 600009 milliseconds before timing out.", "NCCLTimeout", "NCCL_P2P_DISABLE=1"),
    ("P2P", LMDEPLOY, "RuntimeError: CUDA error: peer access is not supported between these two devices", "PeerAccessFailed", "NCCL_P2P_DISABLE=1"),
    ("custom all-reduce", VLLM, "Failed: Cuda error /workspace/csrc/custom_all_reduce.cuh:453 'an illegal memory access was encountered'", "PeerAccessFailed", "--disable-custom-all-reduce"),
    ("budget", VLLM, "ValueError: Free memory on device (59.32/79.15 GiB) on startup is less than desired GPU memory utilization (0.9, 71.24 GiB).", "GPUMemoryTaken", "kvCache.memoryPercent"),
    ("weights and TP", VLLM, "ValueError: The output_size of gate's weight = 96 is not divisible by weight quantization block_n = 128.", "TensorDoesNotDivide", "parallelism.tensor"),
    ("weights and TP", LMDEPLOY, "[TM][FATAL][1130.02:02:31.201163][x.cc:210] Check failed: w.head_num % tp_size == 0 (1 vs. 0) 7 2", "TensorDoesNotDivide", "parallelism.tensor"),
    ("gpt-oss offline", VLLM, "openai_harmony.HarmonyError: error downloading or loading vocab file: failed to download or load vocab file", "VocabularyMissing", "TIKTOKEN_ENCODINGS_BASE"),
    ("DNS", VLLM, "httpx.ConnectError: [Errno -2] Name or service not known", "ModelNotReachable", "model.persistentVolumeClaim"),
    ("DNS", LMDEPLOY, "urllib3.exceptions.NameResolutionError: Failed to resolve 'huggingface.co' ([Errno -3] Temporary failure in name resolution)", "ModelNotReachable", "HTTPS_PROXY"),
    ("pids", VLLM, "RuntimeError: can't start new thread", "ProcessLimit", "OMP_NUM_THREADS"),
    ("pids", LMDEPLOY, "OpenBLAS blas_thread_init: pthread_create failed for thread 63 of 64: Resource temporarily unavailable", "ProcessLimit", "podPidsLimit"),
    ("memory profiling", VLLM, "AssertionError: Error in memory profiling. Initial free memory 70 GiB, current free memory 75 GiB.", "GPUMemoryTaken", "gpu.resourceName"),
    ("host memory", VLLM, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "GPUOutOfMemory", "kvCache.memoryPercent"),
    ("host memory", VLLM, "RuntimeError: [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1073741824 bytes.", "HostMemoryExhausted", "resources.limits.memory"),
    ("Ray's memory", VLLM, "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.", "HostMemoryExhausted", "resources.limits.memory"),
    ("/dev/shm", VLLM, "OSError: [Errno 28] No space left on device: '/psm_5f0c'", "SharedMemoryTooSmall", "sharedMemory"),
    ("full disk", VLLM, "OSError: [Errno 28] No space left on device: '/cache/model.safetensors'", "DiskFull", "cache"),
    ("401 of none", VLLM, "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-6)\n\nRepository Not Found for url: https://huggingface.co/api/models/x/y.\nInvalid username or password.", "ModelNotFound", "model"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "line", "reason", "remedy"), [row[1:] for row in KINDS], ids=[f"{row[0]}-{row[3]}" for row in KINDS]
)
def test_the_kind_has_its_reason_and_a_remedy_that_changes_something(
    engine: str, line: str, reason: str, remedy: str
) -> None:
    found = diagnose(engine, 1, None, line)
    assert found.reason == reason
    assert remedy in found.remedy


def test_processes_that_hang_over_their_links_are_a_kind_too() -> None:
    text = "(Worker pid=3) INFO 07-30 12:25:10 [pynccl.py:113] vLLM is using nccl==2.28.9"
    found = diagnose(VLLM, 137, None, text)
    assert (found.reason, "NCCL_P2P_DISABLE=1" in found.remedy) == ("StartupHung", True)


@pytest.mark.parametrize("version", ["0.9.2", "0.13.0"])
def test_the_words_of_older_versions_are_a_kind_of_their_version(version: str) -> None:
    """TurboMind's until 0.13."""
    line = "RuntimeError: [TM][ERROR] CUDA runtime error: out of memory /lmdeploy/src/turbomind/utils/allocator.h:252"
    assert diagnose(LMDEPLOY, 134, None, line, version).reason == "GPUOutOfMemory"
