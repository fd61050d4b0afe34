# ruff: noqa: E501 - lines of logs are quoted whole
"""Further wordings of the hubs' clients, CUDA, PyTorch, Triton, Ray and the engines, each with its reason."""

from __future__ import annotations

import pytest

from llm_operator.engines.failures import diagnose

VLLM, LMDEPLOY = "VLLM", "LMDeploy"
CASES = [
    (VLLM, 'OSError: You are trying to access a gated repo.\nMake sure to have access to it at https://huggingface.co/meta-llama/Llama-3.1-8B.', 'ModelAccessDenied'),
    (VLLM, 'huggingface_hub.utils._errors.EntryNotFoundError: 404 Client Error. (Request ID: Root=1)\nEntry Not Found for url: https://huggingface.co/x/resolve/main/config.json.', 'ModelConfigMissing'),
    (VLLM, "OSError: meta/x is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'", 'ModelNotFound'),
    (VLLM, "OSError: Can't load tokenizer for '/models/x'. If you were trying to load it from 'https://huggingface.co/models', make sure", 'TokenizerMismatch'),
    (VLLM, "ValueError: Couldn't instantiate the backend tokenizer from one of: (1) a `tokenizers` library serialization file", 'TokenizerMismatch'),
    (VLLM, "ImportError: cannot import name 'AutoModelForVision2Seq' from 'transformers' (/usr/lib/python3/transformers/__init__.py)", 'TokenizerMismatch'),
    (VLLM, "ImportError: /usr/lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by /x.so)", 'LibraryMissing'),
    (VLLM, 'RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable', 'GPUMemoryTaken'),
    (VLLM, 'RuntimeError: CUDA driver initialization failed, you might not have a CUDA gpu.', 'NoGPU'),
    (VLLM, 'RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() that might have already set an error? Error 999: unknown error', 'NoGPU'),
    (VLLM, 'RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 101: invalid device ordinal', 'NotEnoughGPUs'),
    (VLLM, 'RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 3: initialization error', 'NoGPU'),
    (VLLM, 'RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env variable CUDA_VISIBLE_DEVICES after program start.', 'NoGPU'),
    (VLLM, 'torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to connect to (10.0.0.1, 29500).', 'NCCLTimeout'),
    (VLLM, 'torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: 29500, useIpv6: 0, code: -98, name: EADDRINUSE, message: address already in use', 'PortInUse'),
    (VLLM, 'RuntimeError: Gloo connectFullMesh failed with [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:144] no error', 'NCCLFailed'),
    (VLLM, 'RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:525] Read error [10.0.0.1]:1: Connection reset by peer', 'NCCLFailed'),
    (VLLM, "zmq.error.ZMQError: Address already in use (addr='tcp://127.0.0.1:5555')", 'PortInUse'),
    (VLLM, "RuntimeError: Failed: CUDA error /workspace/csrc/quantization/x.cu:44 'no kernel image is available for execution on the device'", 'GPUNotSupported'),
    (VLLM, 'RuntimeError: Error Internal', 'KernelFailed'),
    (VLLM, 'RuntimeError: cutlass_scaled_mm: no valid kernel for sm_120', 'GPUNotSupported'),
    (VLLM, 'NotImplementedError: No compiled cutlass_scaled_mm for a compute capability less than CUDA device capability: 120', 'GPUNotSupported'),
    (VLLM, "ValueError: type fp8e4nv not supported in this architecture. The supported fp8 dtypes are ('fp8e4b15', 'fp8e5')", 'FormatNotSupportedByGPU'),
    (VLLM, 'AssertionError: FlashInfer backend currently does not support attention sinks, please use trtllm on blackwell or flash attention on earlier GPUs.', 'AttentionNotSupported'),
    (VLLM, "ValueError: Unknown quantization method: nvfp4. Must be one of ['awq'].", 'FormatMismatch'),
    (VLLM, 'ValueError: GPTQ quantization is not supported with bfloat16', 'BFloat16NotSupported'),
    (VLLM, 'ValueError: torch.bfloat16 is not supported for quantization method awq. Supported dtypes: [torch.float16]', 'BFloat16NotSupported'),
    (VLLM, 'RuntimeError: start (0) + length (1536) exceeds dimension size (1024).', 'WeightsMissing'),
    (VLLM, 'RuntimeError: Failed to initialize NVML: Driver/library version mismatch', 'DriverMismatch'),
    (VLLM, 'Failed to initialize NVML: Unknown Error', 'NoGPU'),
    (VLLM, 'NVRM: Xid (PCI:0000:3b:00): 79, pid=123, GPU has fallen off the bus.', 'GPUFaulty'),
    (VLLM, 'torch.AcceleratorError: CUDA error: an illegal instruction was encountered', 'KernelFailed'),
    (VLLM, 'torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 14.00 MiB', 'GPUOutOfMemory'),
    (VLLM, 'RuntimeError: CUDA error: out of memory', 'GPUOutOfMemory'),
    (VLLM, "ray.exceptions.RaySystemError: System error: No module named 'vllm'", 'PackageMissing'),
    (VLLM, 'ValueError: Current node has no GPU available. current_node_resource={}', 'NoGPU'),
    (VLLM, "OSError: [Errno 28] No space left on device: '/cache/huggingface/x'", 'DiskFull'),
    (VLLM, 'OSError: [Errno 122] Disk quota exceeded', 'DiskFull'),
    (VLLM, 'RuntimeError: Data processing error: CAS service error : IO Error: No space left on device (os error 28)', 'DiskFull'),
    (VLLM, 'safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge', 'WeightsCorrupt'),
    (VLLM, "requests.exceptions.SSLError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /api (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]')))", 'ModelNotReachable'),
    (VLLM, 'httpx.ConnectError: [Errno -2] Name or service not known', 'ModelNotReachable'),
    (VLLM, "ValueError: Invalid repository ID or local directory specified: '/models/qwen'", 'ModelConfigMissing'),
    (VLLM, 'ValueError: No supported config format found in /models/x.', 'ModelConfigMissing'),
    (VLLM, 'pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, The repository /models/x contains custom code which must be executed to correctly load the model.', 'RemoteCodeNeeded'),
    (VLLM, "KeyError: 'model.layers.0.mlp.gate_proj.qweight'", 'WeightsMissing'),
    (VLLM, "ValueError: There is no module or parameter named 'lm_head.biases' in Qwen2ForCausalLM", 'WeightsMissing'),
    (VLLM, "ValueError: Model architectures ['Foo'] are not supported for now.", 'UnsupportedArchitecture'),
    (VLLM, 'RuntimeError: Triton Error [CUDA]: an illegal memory access was encountered', 'IllegalMemoryAccess'),
    (VLLM, "torch._dynamo.exc.InternalTorchDynamoError: AttributeError: 'NoneType' object has no attribute 'x'", 'CompileFailed'),
    (VLLM, 'torch._inductor.exc.InductorError: RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set triton.knobs.build.impl.', 'CompilerMissing'),
    (VLLM, "subprocess.CalledProcessError: Command '['/usr/bin/gcc', '/tmp/x/main.c', '-O3', '-shared', '-lcuda']' returned non-zero exit status 1.", 'CompileFailed'),
    (VLLM, '/tmp/x/main.c:4:10: fatal error: Python.h: No such file or directory', 'CompilerMissing'),
    (VLLM, "RuntimeError: can't start new thread", 'ProcessLimit'),
    (VLLM, 'OMP: Error #34: System unable to allocate necessary resources for OMP thread:', 'ProcessLimit'),
    (VLLM, 'libgomp: Thread creation failed: Resource temporarily unavailable', 'ProcessLimit'),
    (VLLM, "vllm: error: argument --kv-cache-dtype: invalid choice: 'int8'", 'InvalidArgument'),
    (VLLM, 'ValueError: max_num_batched_tokens (2048) is smaller than max_model_len (8192).', 'MultimodalTooLong'),
    (LMDEPLOY, 'ImportError: libnccl.so.2: cannot open shared object file: No such file or directory', 'LibraryMissing'),
    (LMDEPLOY, 'RuntimeError: [TM][ERROR] CUDA runtime error: the provided PTX was compiled with an unsupported toolchain. /lmdeploy/x.cu:1', 'DriverTooOld'),
    (LMDEPLOY, 'AssertionError: bf16 is not supported on your device', 'BFloat16NotSupported'),
    (LMDEPLOY, "RuntimeError: Current model arch 'Foo' is not supported by turbomind", 'UnsupportedArchitecture'),
    (LMDEPLOY, 'AssertionError: turbomind does not support /models/x. Plz try pytorch engine instead.', 'UnsupportedArchitecture'),
    (LMDEPLOY, "ModuleNotFoundError: No module named 'timm'", 'PackageMissing'),
    (LMDEPLOY, '2025-01-01 10:00:00,000 - lmdeploy - ERROR - base.py:54 - <transformers> check failed!', 'TokenizerMismatch'),
    (LMDEPLOY, '2025-01-01 10:00:00,000 - lmdeploy - ERROR - base.py:54 - <PyTorch> check failed!', 'PackageMissing'),
    (LMDEPLOY, '2025-01-01 10:00:00,000 - lmdeploy - ERROR - base.py:54 - <CUDA> check failed!\ncuda is not available.', 'NoGPU'),
    (LMDEPLOY, 'lmdeploy serve api_server: error: unrecognized arguments: --foo', 'UnknownArgument'),
]  # fmt: skip


@pytest.mark.parametrize(("engine", "line", "reason"), CASES)
def test_the_wording_gives_the_reason(engine: str, line: str, reason: str) -> None:
    found = diagnose(engine, 1, None, line)
    assert found.reason == reason
    assert found.remedy
