# ruff: noqa: E501 - alternatives and lines of logs are quoted whole
"""Lines that decide, lines that never do, and logs of any content. The lines are of public reports and of the engines' code."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.engines.death import MOST_CHARACTERS, read_log
from llm_operator.engines.failures import diagnose, known_failure, signatures
from llm_operator.reasons import explain
from tests.support.engine_logs import Frame, framed
from tests.support.hostile_logs import HOSTILE

VLLM, LMDEPLOY = "VLLM", "LMDeploy"
PREFIX = "(EngineCore pid=84) ERROR 05-07 12:00:00 [core.py:1108] "
CASES = [
    (VLLM, "RuntimeError: CUDA driver error: the operation cannot be performed in the present state", "PeerAccessFailed"),
    (VLLM, "/tmp/tmpx/main.cpp:1:10: fatal error: stddef.h: No such file or directory", "CompilerMissing"),
    (VLLM, "ValueError: Call to add_lora method failed: vLLM only supports modules_to_save being None.", "AdapterRefused"),
    (VLLM, "RuntimeError: CUDA error: operation not permitted when stream is capturing", "GraphCaptureFailed"),
    (VLLM, "RuntimeError: flashinfer-cubin version (0.6.13) does not match flashinfer version (0.6.14). Please install it", "PackageMismatch"),
    (VLLM, "RuntimeError: Currently, block scaled fp8 gemm is not implemented for Blackwell", "GPUNotSupported"),
    (VLLM, "RuntimeError: CUDA driver error (/jit/handle.hpp:141): 200 (CUDA_ERROR_INVALID_IMAGE, device kernel image is invalid)", "GPUNotSupported"),
    (VLLM, "RuntimeError: Data processing error: CAS service error : IO Error: Timer expired (os error 62)", "ModelNotReachable"),
    (LMDEPLOY, "AssertionError: 'None' is not supported. The supported models are: dict_keys(['base'])", "UnsupportedArchitecture"),
    (VLLM, "OSError: [Errno 5] Input/output error: '/models/x/model-00001-of-00004.safetensors'", "VolumeFailed"),
    (VLLM, "OSError: [Errno 116] Stale file handle: '/models/x'", "VolumeFailed"),
    (VLLM, "Fatal Python error: Segmentation fault", "EngineCrashed"),
    (VLLM, "exec /usr/bin/python3: exec format error", "ImageForOtherCPU"),
    (VLLM, "/bin/sh: 1: vllm: not found", "PackageMissing"),
    (VLLM, "OSError: [Errno 99] Cannot assign requested address", "AddressNotAvailable"),
    (VLLM, "FileNotFoundError: [Errno 2] No such file or directory: '/data/adapter/adapter_config.json'", "AdapterRefused"),
    (VLLM, "FileNotFoundError: [Errno 2] No such file or directory: '/models/x/vocab.json'", "TokenizerMismatch"),
    (LMDEPLOY, "RuntimeError: Internal: could not parse ModelProto from /models/x/tokenizer.model", "TokenizerMismatch"),
    (VLLM, "EOFError: Ran out of input", "WeightsCorrupt"),
    (VLLM, "FileNotFoundError: [Errno 2] No such file or directory: '/etc/templates/x.yaml'", "FileMissing"),
    (VLLM, "NotADirectoryError: [Errno 20] Not a directory: '/models/x/y.yaml'", "FileMissing"),
    (VLLM, "OSError: /models/x does not appear to have a file named configuration_x.py. Checkout", "FileMissing"),
    (VLLM, "NotImplementedError: Could not run '_C::machete_prepack_B' with arguments from the 'CUDA' backend.", "GPUNotSupported"),
    (VLLM, "botocore.exceptions.NoCredentialsError: Unable to locate credentials", "ModelAccessDenied"),
    (VLLM, "http.client.RemoteDisconnected: Remote end closed connection without response", "ModelNotReachable"),
    (VLLM, "jinja2.exceptions.TemplateSyntaxError: unexpected '}'", "ChatTemplateInvalid"),
    (VLLM, "ConnectionRefusedError: [Errno 111] Connection refused", "EngineProcessDied"),
    (VLLM, "ValueError: For NVFP4 weights, input quantization must also be NVFP4 format.", "FormatMismatch"),
    (VLLM, "RuntimeError: DeepGEMM backend is not available or outdated.", "PackageMissing"),
    (VLLM, "ValueError: Unknown KV cache layout X. Valid layouts: Y", "SettingRefused"),
    (VLLM, "ValueError: Tensor parallel size (4) cannot be larger than the number of available GPUs (1)", "NotEnoughGPUs"),
    (LMDEPLOY, "RuntimeError: No enough gpu memory for kv cache.", "KVCacheTooSmall"),
    (LMDEPLOY, "RuntimeError: No enough gpu memory for runtime.", "RuntimeMemoryTooSmall"),
    (LMDEPLOY, "RuntimeError: No enough gpu memory for state cache.", "StateCacheTooSmall"),
    (VLLM, "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be "
     "stored in KV cache (54272).", "ContextTooLong"),
    (VLLM, "ValueError: To serve at least one request with the model's max seq len (32768), 4.0 GiB KV cache is needed, "
     "which is larger than the available KV cache memory (1.2 GiB).", "ContextTooLong"),
    (VLLM, "ValueError: No available memory for the cache blocks.", "KVCacheTooSmall"),
    (VLLM, "ValueError: Free memory on device cuda:0 (10.1/139.8 GiB) on startup is less than desired GPU memory "
     "utilization (0.9, 125.8 GiB).", "GPUMemoryTaken"),
    (VLLM, "AssertionError: Error in memory profiling. Initial free memory 82.94 GiB, current free memory 90.17 GiB.",
     "GPUMemoryTaken"),
    (VLLM, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "GPUOutOfMemory"),
    (LMDEPLOY, "  what():  [TM][ERROR] CUDA runtime error: out of memory /src/turbomind/utils/memory_utils.cu:31",
     "GPUOutOfMemory"),
    (VLLM, "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 'out of memory'",
     "GPUOutOfMemory"),
    (LMDEPLOY, "AssertionError: no valid parallel config: dp=1, tp=2, device_num=None, available_devices=1",
     "NotEnoughGPUs"),
    (VLLM, "torch.AcceleratorError: CUDA error: invalid device ordinal", "NotEnoughGPUs"),
    (VLLM, "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
     "FabricNotReady"),
    (VLLM, "RuntimeError: Error 803: system has unsupported display driver / cuda driver combination", "DriverMismatch"),
    (VLLM, "RuntimeError: Error 804: forward compatibility was attempted on non supported HW", "DriverMismatch"),
    (VLLM, "RuntimeError: The NVIDIA driver on your system is too old (found version 12080).", "DriverTooOld"),
    (VLLM, "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9", "DriverTooOld"),
    (LMDEPLOY, "RuntimeError: Triton Error [CUDA]: device kernel image is invalid", "DriverTooOld"),
    (VLLM, "RuntimeError: CUDA error: uncorrectable ECC error encountered", "GPUFaulty"),
    (VLLM, "ValueError: invalid literal for int() with base 10: 'MIG-377e0049-554c-540b-93c6-d0976f8426cb'",
     "MIGNotSupported"),
    (VLLM, "RuntimeError: Failed to infer device type", "NoGPU"),
    (VLLM, "RuntimeError: CUDA error: no kernel image is available for execution on the device", "GPUNotSupported"),
    (VLLM, "ptxas fatal   : Value 'sm_120' is not defined for option 'gpu-name'", "GPUNotSupported"),
    (VLLM, "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0.",
     "BFloat16NotSupported"),
    (VLLM, "ValueError: The quantization method awq is not supported for the current GPU. Minimum capability: 75.",
     "FormatNotSupportedByGPU"),
    (VLLM, "ValueError: Total number of attention heads (28) must be divisible by tensor parallel size (8).",
     "TensorDoesNotDivide"),
    (VLLM, "ValueError: Weight input_size_per_partition = 10944 is not divisible by min_thread_k = 128.",
     "TensorDoesNotDivide"),
    (VLLM, "[rank2]:[E ProcessGroupNCCL.cpp:1414] [PG 2 Rank 2] Process group watchdog thread terminated with exception: "
     "[Rank 2] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12)", "NCCLTimeout"),
    (VLLM, "Failed: Cuda error /workspace/csrc/custom_all_reduce.cuh:364 'invalid argument'", "PeerAccessFailed"),
    (VLLM, "  what():  CUDA error: an illegal memory access was encountered", "IllegalMemoryAccess"),
    (LMDEPLOY, "  what():  [TM][ERROR] CUDA runtime error: misaligned address /lmdeploy/x.cc:1153", "KernelFailed"),
    (VLLM, "NCCL WARN Error while creating shared memory segment /dev/shm/nccl-x (size 7340384)", "SharedMemoryTooSmall"),
    (VLLM, "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)", "NCCLFailed"),
    (VLLM, "OSError: [Errno 28] No space left on device", "DiskFull"),
    (VLLM, "OSError: [Errno 28] No space left on device: '/dev/shm/psm_1'", "SharedMemoryTooSmall"),
    (VLLM, "RuntimeError: Failed to find C compiler. Please specify via CC environment variable.", "CompilerMissing"),
    (VLLM, "FileNotFoundError: [Errno 2] No such file or directory: 'nvcc'", "CompilerMissing"),
    (VLLM, "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'", "CompilerMissing"),
    (VLLM, "subprocess.CalledProcessError: Command '['ninja', '-v']' returned non-zero exit status 1.", "CompileFailed"),
    (VLLM, "torch._inductor.exc.InductorError: PermissionError: [Errno 13] Permission denied: '/.triton'",
     "CacheNotWritable"),
    (VLLM, "KeyError: 'getpwuid(): uid not found: 1000'", "UserUnknown"),
    (VLLM, "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory", "LibraryMissing"),
    (LMDEPLOY, "ImportError: Multi-nodes support requires `ray`", "RayMissing"),
    (VLLM, "AttributeError: Qwen2Tokenizer has no attribute all_special_tokens_extended.", "TokenizerMismatch"),
    (LMDEPLOY, "ModuleNotFoundError: No module named '_turbomind'", "PackageMissing"),
    (VLLM, "OpenBLAS blas_thread_init: pthread_create: Resource temporarily unavailable", "ProcessLimit"),
    (VLLM, "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.",
     "HostMemoryExhausted"),
    (VLLM, "[Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use", "PortInUse"),
    (VLLM, "KeyboardInterrupt: terminated", "StartupTimeout"),
    (VLLM, "vllm: error: unrecognized arguments: --disable-log-requests", "UnknownArgument"),
    (LMDEPLOY, "lmdeploy serve api_server: error: argument --log-level: invalid choice: 'info'", "InvalidArgument"),
    (LMDEPLOY, "  Assertion failed, invalid cache_max_entry_count [type=assertion_error]", "InvalidKVCacheShare"),
    (LMDEPLOY, "  Assertion failed, invalid quant_policy for TurboMind", "UnsupportedKVQuantization"),
    (VLLM, "KeyError: 'invalid tool call parser: nosuch (chose from { hermes })'", "UnknownParser"),
    (VLLM, "  Value error, User-specified max_model_len (65536) is greater than the derived max_model_len "
     "(max_position_embeddings=32768.0)", "ContextAboveModel"),
    (VLLM, "ValueError: VLLM_PORT 'tcp://10.0.0.1:8000' appears to be a URI.", "ServiceLinksClash"),
    (VLLM, "ValueError: Chunked MM input disabled but max_tokens_per_mm_item (16384) is larger than "
     "max_num_batched_tokens (8192).", "MultimodalTooLong"),
    (VLLM, "openai_harmony.HarmonyError: error downloading or loading vocab file: failed to download or load vocab file",
     "VocabularyMissing"),
    (VLLM, "ValueError: Loading x/y requires you to execute the configuration file in that repo on your local machine.",
     "RemoteCodeNeeded"),
    (VLLM, "huggingface_hub.errors.GatedRepoError: 403 Client Error.", "ModelAccessDenied"),
    (VLLM, "huggingface_hub.errors.RevisionNotFoundError: 404 Client Error.", "RevisionNotFound"),
    (VLLM, "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error.\nInvalid username or password.",
     "ModelNotFound"),
    (VLLM, "requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for URL: https://x", "HubRateLimited"),
    (VLLM, "requests.exceptions.ConnectionError: Failed to resolve 'huggingface.co' ([Errno -3] Temporary failure in "
     "name resolution)", "ModelNotReachable"),
    (VLLM, "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'a/b': '/models/x'.",
     "ModelPathMissing"),
    (LMDEPLOY, "OSError: /models/x does not appear to have a file named config.json.", "ModelConfigMissing"),
    (LMDEPLOY, "FileNotFoundError: No such file or directory: /models/x/model-00001-of-00001.safetensors",
     "WeightsMissing"),
    (VLLM, "AssertionError: Tried to load weights of size torch.Size([3096576, 1])to a parameter of size torch.Size([5376, 1152])",
     "WeightsMismatch"),
    (VLLM, "KeyError: 'blocks.0.attn.qkv.weight'", "WeightsMismatch"),
    (VLLM, "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata", "WeightsCorrupt"),
    (LMDEPLOY, 'AssertionError: mismatched quant method: user input "hf" vs model quant_config "awq"', "FormatMismatch"),
    (VLLM, "ValueError: The checkpoint you are trying to load has model type `qwen9` but Transformers does not recognize "
     "this architecture.", "UnsupportedArchitecture"),
    (VLLM, "ValueError: No valid attention backend found for cuda with AttentionSelectorConfig(head_size=72, "
     "kv_cache_dtype=auto). Reasons: {FLASH_ATTN: [head_size not supported]}.", "AttentionNotSupported"),
    (VLLM, "ValueError: No valid attention backend found for cuda with AttentionSelectorConfig(kv_cache_dtype=fp8, "
     "use_mla=False). Reasons: {FLASH_ATTN: [kv_cache_dtype not supported]}.", "UnsupportedKVQuantization"),
    (VLLM, "RuntimeError: Cannot re-initialize CUDA in forked subprocess.", "CUDAForked"),
    (VLLM, "ValueError: Model architectures ['LlamaForCausalLM'] are not supported for now. Supported architectures: "
     "['AquilaModel', 'LlamaForCausalLM', 'MistralForCausalLM']", "PackageMismatch"),
    (VLLM, "TypeError: Glm4vProcessor.__init__() got multiple values for argument 'tokenizer'", "PackageMismatch"),
    (VLLM, "AttributeError: 'ColumnParallelLinear' object has no attribute 'input_scale'. Did you mean: 'input_size'?",
     "FormatMismatch"),
    (VLLM, "FileNotFoundError: [Errno 2] No such file or directory: '/u/x/.cache/flashinfer'", "CacheNotWritable"),
    (VLLM, "torch.distributed.DistBackendError: NCCL error in: x.cpp:3690, remote process exited or there was a network "
     "error, NCCL version 2.27.3", "NCCLFailed"),
    (VLLM, "RuntimeError: The size of tensor a (50) must match the size of tensor b (56) at non-singleton dimension 0",
     "EngineCodeFailed"),
    (VLLM, "ValueError: Model architectures ['LlamaModel'] are not supported for now. Supported architectures: "
     "['AquilaModel', 'LlamaForCausalLM', 'MistralForCausalLM']", "UnsupportedArchitecture"),
    (VLLM, "ValueError: b12x FP4 GEMM requires CUDA 13 or later. Current CUDA version: 12.8.", "PackageMismatch"),
    (VLLM, "ValueError: placement group bundle index 3 is invalid. Valid placement group indexes: 0-2", "NotEnoughGPUs"),
    (VLLM, "RuntimeError: _vllm_fa2_C::varlen_fwd() expected at most 21 argument(s) but received 22 argument(s).", "PackageMismatch"),
    (VLLM, "NameError: name 'vllm_ops' is not defined", "PackageMissing"),
    (VLLM, "ValueError: Unsupported FA version: None", "AttentionNotSupported"),
    (VLLM, "LLVM ERROR: Cannot select: intrinsic %llvm.nvvm.shfl.sync.bfly.i32", "CompileFailed"),
    (VLLM, "TypeError: FlashAttentionImpl.__init__() got an unexpected keyword argument 'use_irope'", "PackageMismatch"),
    (VLLM, "PermissionError: [Errno 13] Permission denied: '/models/x/config.json'", "ModelNotReadable"),
    (VLLM, "safetensors_rust.SafetensorError: I/O error: Permission denied (os error 13)", "ModelNotReadable"),
    (VLLM, "OSError: [Errno 30] Read-only file system: '/root/.cache/vllm'", "CacheNotWritable"),
    (VLLM, "MemoryError: Unable to allocate 3.00 GiB for an array", "HostMemoryExhausted"),
    (VLLM, "AssertionError: 14 is not divisible by 4", "TensorDoesNotDivide"),
    (VLLM, "TimeoutError: RPC call to execute_model timed out.", "NCCLTimeout"),
    (LMDEPLOY, "AssertionError: turbomind does not support qwen9. Plz try pytorch engine instead.",
     "UnsupportedArchitecture"),
    (LMDEPLOY, 'AssertionError: model format is "awq" but group_size is 32. Currently, only 128 is supported',
     "FormatMismatch"),
    (LMDEPLOY, "AssertionError: chat template '/chat-template/template.json' is not registered. The builtin chat templates are: []",
     "ChatTemplateMissing"),
    (VLLM, "ValueError: The supplied chat template string (/chat-template/template.jinja) appears path-like, but doesn't exist! "
     "Tried: /chat-template/template.jinja and /opt/vllm", "ChatTemplateMissing"),
    (LMDEPLOY, "AssertionError: chat template 'qwen3-vl' is not a built-in template. The built-ins are: []",
     "InvalidArgument"),
    (VLLM, "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig", "ModelConfigInvalid"),
    (LMDEPLOY, "[TM][FATAL][1130.02:02:31.201163][unified_attention_layer.cc:210] Check failed: w.head_num % tp_size == 0 "
     "(1 vs. 0) 7 2", "TensorDoesNotDivide"),
    (VLLM, "ValueError: LoRA rank 64 is greater than max_lora_rank 16.", "AdapterRefused"),
    (VLLM, "ValueError: num_speculative_tokens must be divisible by n_predict", "SettingRefused"),
    (VLLM, "NotImplementedError: Pipeline parallelism is not supported for this model.", "SettingRefused"),
    (VLLM, "TypeError: 'NoneType' object is not subscriptable", "EngineCodeFailed"),
    (LMDEPLOY, "[TM][FATAL] models/llama/LlamaBatch.cc(1254): Check failed: r->session.start_flag ", "ModelCodeFailed"),
    (LMDEPLOY, "RuntimeError: [TM][ERROR]  Assertion fail: /lmdeploy/src/turbomind/python/bind.cpp:294",
     "EngineCodeFailed"),
    (LMDEPLOY, "2024-07-17 12:15:49,952 - lmdeploy - ERROR - Engine loop failed with error: map::at", "EngineCodeFailed"),
    (VLLM, "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.", "EngineDied"),
    (LMDEPLOY, "zmq_rpc.RPCServerDeadError: PyTorch ZMQ engine process is not alive.", "EngineProcessDied"),
    (LMDEPLOY, "[TM][FATAL] kernels/apply_token_bitmask_inplace_cuda.cu(212): Check failed: logits_shape.first ==bitmask_shape.first", "StructuredOutputFailed"),
]  # fmt: skip
HARMLESS = [
    "(APIServer pid=1) INFO 05-07 12:00:00 [utils.py:233] non-default args: {'trust_remote_code': True, 'model': 'x'}",
    "INFO 05-07 12:00:00 [core.py:58] Initializing a V1 LLM engine with config: trust_remote_code=True, CUDA out of memory",
    "2026-11-23 20:05:41,950 - lmdeploy - WARNING - transformers.py:22 - LMDeploy: this GPU does not support bfloat16",
    '    raise RuntimeError(f"CUDA out of memory")',
    'raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")',
    "/x/torch/cuda/__init__.py:61: FutureWarning: No CUDA GPUs are available",
    "[rank0]:[W224 19:04:56.322966893 CUDAGuardImpl.h:122] Warning: CUDA warning: an illegal memory access was encountered",
    "{'error': 'CUDA out of memory'}",
    "(EngineCore pid=5) ERROR 06-26 00:04:52 [dump_input.py:69] Dumping input data for V1 LLM engine (v0.26.0) with config: "
    "model='/models/x', trust_remote_code=True, quantization=None, CUDA out of memory",
    "x:25:25 [0] ras/client_support.cc:160 NCCL WARN Call to bind failed: Address already in use",
    "[TM][ERROR][1123.20:05:45.410697][turbomind.cc:486] Warm-up for 9216 tokens failed with status 6",
    "[2025-04-02 15:02:00,117 W 135 135] (raylet) node_manager.cc:3069: 1 Workers killed due to memory pressure (OOM)",
    "2023-07-03 03:27:55,911 WARNING services.py:1826 -- WARNING: The object store is using /tmp instead of /dev/shm",
    "(EngineCore pid=5) ERROR 06-26 00:04:52 [core.py:396] The actor is dead because its worker process has died. There are some "
    "potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high memory usage. (2) ray stop --force is called.",
    "PermissionError: [Errno 13] Permission denied",
    "PermissionError: [Errno 13] Permission denied: '/dev/nvidia0'",
    "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    "openai_harmony.HarmonyError: Unexpected token 200012 while expecting start token 200006",
    "MemoryError: No enough free memory blocks.",
    "zmq.error.Again: Resource temporarily unavailable",
    "ValueError: EC source size mismatch for mm_hash=7",
    "ValueError: kv_b output size 7 is not divisible by 3",
    "ERROR 05-07 12:00:00 [tools.py:1] the tool said that numpy is not installed",
    "(raylet) node_manager.cc:3007: 0 Workers (tasks / actors) killed due to memory pressure (OOM), 1 Workers crashed",
    "ERROR 05-07 12:00:00 [serving_chat.py:7] rate limit of the client is exceeded: Too Many Requests",
    'INFO:     127.0.0.1:37398 - "GET /404 Client Error HTTP/1.1" 404 Not Found',
]


@pytest.mark.parametrize(("engine", "line", "reason"), CASES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_deciding_line_gives_the_reason(engine: str, line: str, reason: str, wrapped: bool) -> None:
    if wrapped:
        line = f"{HARMLESS[0]}\nTraceback (most recent call last):\n{HARMLESS[3]}\n{line}\n{HARMLESS[4]}\n"
    found = diagnose(engine, 1, None, line)
    assert found.reason == reason
    assert found.remedy
    entry = [one for one in explain(reason) if one.area == "Engine"]
    assert entry, f"{reason} is not in the table of reasons of engines"


@pytest.mark.parametrize("frame", ["core", "worker", "api"])
@pytest.mark.parametrize(("line", "reason"), [(line, reason) for engine, line, reason in CASES if engine == VLLM])
def test_tracebacks_before_and_after_the_line_change_nothing(line: str, reason: str, frame: Frame) -> None:
    """Whichever process says it; what only says that an engine died says less than the line."""
    text = framed(frame, line.splitlines())[-MOST_CHARACTERS:]
    found = diagnose(VLLM, 1, None, text)
    assert found.reason == reason or {found.reason, reason} <= {"EngineDied", "EngineProcessDied"}


@pytest.mark.parametrize(
    ("frame", "reason", "died"),
    [
        ("core", "EngineProcessDied", "vLLM's engine process died while it started"),
        ("worker", "EngineProcessDied", "vLLM's engine process died while it started"),
        ("serving", "EngineDied", "the engine's process died while it served"),
    ],
)
def test_a_cause_without_a_signature_is_quoted(frame: Frame, reason: str, died: str) -> None:
    found = diagnose(VLLM, 1, None, framed(frame, ["OSError: the moon is in the way"])[-MOST_CHARACTERS:])
    assert (found.reason, found.message) == (reason, f"{died}: OSError: the moon is in the way")


def test_a_refused_request_is_no_refused_setting() -> None:
    """A server logs what it answers with 400; a start that ends with the same words was refused."""
    line = "ValueError: max_tokens must be at least 1, got 0."
    assert diagnose(VLLM, 1, None, framed("core", [line])[-MOST_CHARACTERS:]).reason == "SettingRefused"
    served = f"INFO:     Application startup complete.\n{PREFIX}{line}"
    assert known_failure(VLLM, served) is None
    answered = f'{PREFIX}{line}\nINFO:     1.2.3.4:5 - "POST /v1/completions HTTP/1.1" 400'
    assert diagnose(VLLM, 1, None, answered).reason != "SettingRefused"


def test_every_signature_has_a_line() -> None:
    tested = {reason for _, _, reason in CASES}
    assert {signature.reason for signature in signatures()} - tested == set()


@pytest.mark.parametrize("line", HARMLESS)
@pytest.mark.parametrize("engine", [VLLM, LMDEPLOY])
def test_what_a_healthy_log_says_never_decides(line: str, engine: str) -> None:
    assert known_failure(engine, line) is None


def test_the_last_cause_before_what_only_wraps_it() -> None:
    text = "\n".join(
        [
            "ValueError: No available memory for the cache blocks.",
            PREFIX + "torch.OutOfMemoryError: CUDA out of memory.",
            "(Worker_TP0 pid=3) RuntimeError: NCCL error: unhandled cuda error",
            "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.",
        ]
    )
    assert diagnose(VLLM, 1, None, text).reason == "GPUOutOfMemory"


@pytest.mark.parametrize(
    ("reached", "field", "not_field"),
    [
        ('  File "model_loader.py", line 1, in load_model', "parallelism.tensor", "kvCache"),
        ('  File "gpu_worker.py", line 1, in determine_available_memory', "maxConcurrentSequences", "kvCache"),
        ('  File "gpu_model_runner.py", line 1, in capture_model', "kvCache.memoryPercent", "parallelism"),
        ("INFO:     Application startup complete.", "kvCache.memoryPercent", "nothing"),
    ],
)
def test_the_remedy_fits_what_had_been_reached(reached: str, field: str, not_field: str) -> None:
    remedy = diagnose(VLLM, 1, None, f"{reached}\ntorch.OutOfMemoryError: CUDA out of memory.").remedy
    assert field in remedy
    assert not_field not in remedy


@pytest.mark.parametrize(
    ("signal", "reason"),
    [(-9, "EngineKilled"), (-11, "EngineCrashed"), (-6, "EngineAborted"), (-7, "SharedMemoryTooSmall")],
)
def test_the_signal_of_the_engine_core_is_read(signal: int, reason: str) -> None:
    line = f"RuntimeError: Engine core initialization failed. Failed core proc(s): {{'EngineCore': {signal}}}"
    assert diagnose(VLLM, 1, None, line).reason == reason


def test_processes_that_wait_for_each_other() -> None:
    line = "(EngineCore pid=1) INFO 08-13 11:27:02 [shm_broadcast.py:802] No available shared memory broadcast block found in 60 seconds."
    assert diagnose(VLLM, 137, None, line).reason == "StartupHung"
    assert known_failure(VLLM, line) is None


@pytest.mark.parametrize(
    ("engine", "line", "version", "reason"),
    [
        (LMDEPLOY, "[TM][ERROR] CUDA runtime error: out of memory x.cc:1", "0.10.2", "GPUOutOfMemory"),
        (
            LMDEPLOY,
            "AssertionError: no valid parallel config: dp=1, tp=2, available_devices=1",
            "0.18.0",
            "NotEnoughGPUs",
        ),
        (
            LMDEPLOY,
            "AssertionError: no valid parallel config: dp=1, tp=2, available_devices=1",
            "0.12.3",
            "EngineCodeFailed",
        ),
        (LMDEPLOY, "RPCServerDeadError: PyTorch ZMQ engine process is not alive.", "0.12.3", "EngineFailed"),
        (VLLM, "RuntimeError: Background loop has errored already.", "0.9.1", "EngineDied"),
        (VLLM, "RuntimeError: Background loop has errored already.", "0.26.0", "EngineFailed"),
    ],
)
def test_a_signature_is_tried_for_the_versions_that_print_it(engine: str, line: str, version: str, reason: str) -> None:
    assert diagnose(engine, 1, None, line, version).reason == reason


def test_an_error_without_a_word_is_told_with_its_line_of_source() -> None:
    lines = (
        f"{PREFIX}    assert tensor.shape[split_dim] % tp == 0",
        f"{PREFIX}           ^^^^^^",
        f"{PREFIX}AssertionError",
    )
    found = diagnose(VLLM, 1, None, "\n".join(lines))
    assert "AssertionError: assert tensor.shape[split_dim] % tp == 0" in found.message
    assert found.reason == "TensorDoesNotDivide"
    other = diagnose(VLLM, 1, None, "    raise RuntimeError('CUDA out of memory')\nAssertionError")
    assert other.reason == "EngineCodeFailed"
    assert "CUDA" not in other.message


def test_what_follows_a_progress_bar_on_its_line_decides() -> None:
    bar = "Loading:  61%|██████    | 39/64 [00:08<00:05,  4.77it/s]"
    fatal = "[TM][FATAL][1130.01:52:08.027585][allocator.cc:49] CUDA error: out of memory"
    found = diagnose(LMDEPLOY, -6, None, f"{bar}{fatal}\n*** stacktrace of thread 0x7fc3dd62c300 ***")
    assert found.reason == "GPUOutOfMemory"
    assert "kvCache" not in found.remedy, "it was loading the weights"
    assert known_failure(LMDEPLOY, bar) is None


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_log_costs_little_and_ends_as_the_generic_reason(text: str) -> None:
    begin = time.process_time()
    found = diagnose(VLLM, 1, None, text)
    # The bound is 50 ms; what is tested is that no pattern explodes, on however busy a machine.
    assert time.process_time() - begin < 1.0
    assert len(found.message) < 1000
    assert found.reason


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=400), st.integers(-64, 255))
def test_any_text_has_a_reason(text: str, code: int) -> None:
    found = diagnose(VLLM, code, None, text)
    assert explain(found.reason)
    assert "\x00" not in read_log(text).last
