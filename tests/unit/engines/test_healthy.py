# ruff: noqa: E501 - lines of logs are quoted whole
"""What engines that work say of what does no harm: warnings, retries, plugins that are not there, refused requests.

The lines are of public reports in which the engine started, and of the demo's engines.
"""

from __future__ import annotations

import pytest

from llm_operator.engines.failures import diagnose, known_failure

STARTING: dict[str, tuple[str, ...]] = {
    "VLLM": (
        "(APIServer pid=1) INFO 11-24 16:04:03 [utils.py:253] non-default args: {'model': '/models/CUDA-error-out-of-memory', 'trust_remote_code': True}",
        "(APIServer pid=1) The argument `trust_remote_code` is to be used with Auto classes. It has no effect here and is ignored.",
        "(APIServer pid=1) INFO 11-24 16:04:03 [config.py:508] Replacing legacy 'type' key with 'rope_type'",
        "(APIServer pid=1) Encountered exception while importing decord: No module named 'decord'",
        "(APIServer pid=1) ERROR 12-24 13:41:28 [transformers_utils/repo_utils.py:65] Error retrieving safetensors: 'mistralai/Mistral-Large-3-675B-Instruct-2512-NVFP4' is not a safetensors repo. Couldn't find 'model.safetensors.index.json' or 'model.safetensors' files., retrying 1 of 2",
        "ERROR 03-18 09:23:40 config.py:102] Error retrieving file list: cannot import name '_try_login' from 'modelscope.utils.hf_util' (/data/modelscope/utils/hf_util/__init__.py), retrying 1 of 2",
        "DEBUG 04-21 14:30:53 [__init__.py:44] TPU platform is not available because: No module named 'libtpu'",
        "WARNING 06-13 11:42:20 _custom_ops.py:11] Failed to import from vllm._C with ImportError('libcudart.so.12: cannot open shared object file: No such file or directory')",
        "(EngineCore_DP0 pid=9526) /home/spark/.vllm/lib/python3.12/site-packages/tvm_ffi/_optional_torch_c_dlpack.py:174: UserWarning: Failed to JIT torch c dlpack extension, EnvTensorAllocator will not be enabled.",
        "(EngineCore_DP0 pid=9526) We recommend installing via `pip install torch-c-dlpack-ext`",
        "(EngineCore_DP0 pid=9526)   warnings.warn(",
        "WARNING 07-29 18:42:00 [topk_topp_sampler.py:59] FlashInfer is not available. Falling back to the PyTorch-native implementation of top-p & top-k sampling. For the best performance, please install FlashInfer.",
        "WARNING 03-31 16:53:11 [profiling.py:222] The sequence length used for profiling (max_num_batched_tokens / max_num_seqs = 16384) is too short to hold the multi-modal embeddings in the worst case (32768 tokens in total).",
        "WARNING 04-01 02:45:50 ray_utils.py:320] The number of required GPUs exceeds the total number of available GPUs in the placement group.",
        "2024-07-14 08:10:33,156\tWARNING services.py:1996 -- WARNING: The object store is using /tmp instead of /dev/shm because /dev/shm has only 67108864 bytes available.",
        "Using a slow image processor as `use_fast` is unset and a slow processor was saved with this model. `use_fast=True` will be the default behavior in v4.52, even if the model was saved with a slow processor.",
        "`torch_dtype` is deprecated! Use `dtype` instead!",
        "Unrecognized keys in `rope_scaling` for 'rope_type'='linear': {'type'}",
        "omega:53277:53277 [0] NCCL INFO NET/Plugin : dlerror=libnccl-net.so: cannot open shared object file: No such file or directory No plugin found (libnccl-net.so), using internal implementation",
        "omega:53277:53277 [0] NCCL INFO Failed to open libibverbs.so[.1]",
        "libibverbs: Warning: couldn't load driver 'libhns-rdmav34.so': libhns-rdmav34.so: cannot open shared object file: No such file or directory",
        "[W502 23:41:23.622182416 socket.cpp:464] [c10d] The server socket has failed to bind to [::]:29500 (errno: 98 - Address already in use).",
        "[rank0]:[W502 23:41:23.622182416 ProcessGroupNCCL.cpp:1575] Warning: WARNING: destroy_process_group() was not called before program exit, which can leak resources.",
        "'(ReadTimeoutError(\"HTTPSConnectionPool(host='huggingface.co', port=443): Read timed out. (read timeout=10)\"), '(Request ID: 7)')' thrown while requesting HEAD https://huggingface.co/x/y/resolve/main/config.json",
        "Retrying in 1s [Retry 1/5].",
        "WARNING:huggingface_hub.utils._http:Retrying in 2s [Retry 2/5]: ConnectTimeout",
        "Error while downloading from https://cas-bridge.xethub.hf.co/xet-bridge-us/7: HTTPSConnectionPool(host='cas-bridge.xethub.hf.co', port=443): Read timed out.",
        "Trying to resume download...",
        "/usr/lib/python3.12/multiprocessing/resource_tracker.py:254: UserWarning: resource_tracker: There appear to be 1 leaked shared_memory objects to clean up at shutdown",
        "(EngineCore pid=51) WARNING 05-02 23:41:24 [marlin_utils_fp8.py:80] Your GPU does not have native support for FP8 computation but FP8 quantization is being used. Weight-only FP8 compression will be used leveraging the Marlin kernel.",
        "INFO 04-28 20:50:23 model_runner.py:795] CUDA graphs can take additional 1~3 GiB memory per GPU. If you are running out of memory, consider decreasing `gpu_memory_utilization` or enforcing eager mode.",
        "(EngineCore pid=51) INFO 05-02 23:41:24 [kv_cache_utils.py:1314] GPU KV cache size: 188,640 tokens",
        "INFO:     Started server process [1]",
        "(APIServer pid=956833) INFO 06-12 23:17:24 [api_utils.py:339]   ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.22.1rc1.dev490+g4a560dd8d",
        "WARNING 06-06 12:16:50 [envs.py:2088] Unknown vLLM environment variable detected: VLLM_BASE_DIR",
        "(EngineCore pid=4140) Failed to get device capability: SM 12.x requires CUDA >= 12.9.",
        "(EngineCore pid=4140) Warning: You are sending unauthenticated requests to the HF Hub. Please set a HF_TOKEN to enable higher rate limits and faster downloads.",
        "(EngineCore pid=4140) INFO 08-03 17:45:57 [weight_utils.py:892] Auto-prefetch is disabled because the filesystem (OVERLAY) is not a recognized network FS (NFS/Lustre).",
        "WARNING 05-20 10:00:00 [utils.py:2282] Methods determine_num_available_blocks,device_config,get_cache_block_size_bytes,initialize_cache not implemented in <vllm.v1.worker.gpu_worker.Worker object at 0x7f42473cda20>",
        "(Worker_TP0 pid=60) WARNING 05-03 00:18:16 [symm_mem.py:67] SymmMemCommunicator: Device capability 12.0 not supported, communicator is not available.",
        "(Worker_TP0 pid=60) WARNING 05-03 00:18:16 [custom_all_reduce.py:154] Custom allreduce is disabled because it's not supported on more than two PCIe-only GPUs. To silence this warning, specify disable_custom_all_reduce=True explicitly.",
        "(EngineCore_DP0 pid=469) WARNING 03-11 17:57:09 [multiproc_executor.py:921] Reducing Torch parallelism from 112 threads to 1 to avoid unnecessary CPU contention. Set OMP_NUM_THREADS in the external environment to tune this value as needed.",
        "[Gloo] Rank 0 is connected to 31 peer ranks. Expected number of connected peer ranks is : 31",
        "(RayWorkerWrapper pid=297851) [Gloo] Rank 0 is connected to 31 peer ranks. Expected number of connected peer ranks is : 31",
        "/usr/local/lib/python3.12/dist-packages/torch/cuda/__init__.py:61: FutureWarning: The pynvml package is deprecated. Please install nvidia-ml-py instead. If you did not install pynvml directly, please report this to the maintainers of the package that installed pynvml for you.",
        "The following generation flags are not valid and may be ignored: ['top_p']. Set `TRANSFORMERS_VERBOSITY=info` for more details.",
        "WARNING[XFORMERS]: xFormers can't load C++/CUDA extensions. xFormers was built for:",
        "[1746690477.974497] [llm206:611  :0]     ucp_context.c:1268 UCX  WARN  transports 'cuda_ipc','cuda_copy' are not available, please use one or more of: mm, posix, self, shm, sm, sysv, tcp",
        "Some weights of the model checkpoint at /models/x were not used when initializing InternVLChatModel: ['language_model.model.layers.0.attention.wo.qweight']",
        "Unrecognized keys in `rope_parameters` for 'rope_type'='default': {'mrope_section'}",
        "You are using the default legacy behaviour of the <class 'transformers.models.llama.tokenization_llama.LlamaTokenizer'>. This is expected, and simply means that the `legacy` (previous) behavior will be used so nothing changes for you.",
        "[2025-05-21 20:51:33,343] LMCache WARNING: No LMCache configuration file is set. Trying to read configurations from the environment variables. (utils.py:35:lmcache.integration.vllm.utils)",
        "[rank0]:[W503 00:18:16.797904992 ProcessGroupNCCL.cpp:1575] Warning: WARNING: destroy_process_group() was not called before program exit, which can leak resources.",
        "Some attention backends are not valid for cuda with AttentionSelectorConfig(has_sink=True). Reasons: {FLASH_ATTN: [sink setting not supported]}",
        "Loading safetensors checkpoint shards:  43% Completed | 3/7 [00:11<00:18,  4.56s/it]",
        "(APIServer pid=1) The tokenizer you are loading from '/models/x' with an incorrect regex pattern: https://huggingface.co/x. This will lead to incorrect tokenization. You should set the `fix_mistral_regex=True` flag when loading this tokenizer to fix this issue.",
        "Skipping import of cpp extensions due to incompatible torch version 2.9.0+cu128 for torchao version 0.14.0",
        "No ROCm runtime is found, using ROCM_HOME='/opt/rocm'",
        "[Errno 2] No such file or directory: '/models/x/generation_config.json'",
        "/bin/bash: line 1: nvidia-smi: command not found",
        "(EngineCore pid=9) [aiter] import [module_aiter_enum] under /x/jit/module_aiter_enum.so",
        "(APIServer pid=1) `torch_dtype` is deprecated! Use `dtype` instead!",
    ),
    "LMDeploy": (
        "[WARNING] gemm_config.in is not found; using default GEMM algo",
        "WARNING: Can not find tokenizer.json. It may take long time to initialize the tokenizer.",
        "Special tokens have been added in the vocabulary, make sure the associated word embeddings are fine-tuned or trained.",
        "Device does not support bf16.",
        "You are using a model of type glm4_moe_lite to instantiate a model of type . This is not supported for all configurations of models and can yield errors.",
        "2026-02-06 03:02:50,837 - lmdeploy - WARNING - transformers.py:22 - LMDeploy requires transformers version: [4.33.0 ~ 4.57.3], but found version: 4.57.6",
        "2024-07-18 10:00:00,000 - lmdeploy - WARNING - Fallback to pytorch engine because turbomind engine is not installed correctly. If you insist to use turbomind engine, you may need to reinstall lmdeploy from pypi or build from source and try again.",
        "[TM][WARNING] [LlamaTritonModel] `max_context_token_num` is not set, default to 32768.",
        "[TM][WARNING] Device 0 peer access Device 1 is not available.",
        "2026-11-23 20:05:41,950 - lmdeploy - INFO - async_engine.py:259 - input backend=turbomind, backend_config=TurbomindEngineConfig(dtype='auto', model_format=None, tp=1, cache_max_entry_count=0.8, quant_policy=0)",
        "Loading: 100%|██████████| 64/64 [00:13<00:00,  4.77it/s]",
        "HINT:    Please open http://0.0.0.0:23333 in a browser for detailed api usage!!!",
        "INFO:     Started server process [689]",
    ),
}
SERVING: tuple[str, ...] = (
    "INFO:     Application startup complete.",
    "INFO:     Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)",
    'INFO:     10.42.31.1:56700 - "GET /health HTTP/1.1" 200 OK',
    "WARNING:  Invalid HTTP request received.",
    "ERROR 05-07 12:00:00 [serving_completion.py:117] Error in preprocessing prompt inputs",
    "ERROR 05-07 12:00:00 [serving_completion.py:117] ValueError: This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in the messages, which must be less.",
    "ERROR 05-07 12:00:00 [serving_chat.py:200] ValueError: The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens.",
    "ERROR 05-07 12:00:00 [serving_chat.py:200] jinja2.exceptions.TemplateError: Conversation roles must alternate user/assistant/user/assistant/...",
    "ERROR 05-07 12:00:00 [serving_chat.py:200] ValueError: guided_json is not supported with this backend",
    "ERROR:    Exception in ASGI application",
    "starlette.requests.ClientDisconnect",
    '2025-03-19 04:28:52,017 - lmdeploy - ERROR - async_engine.py:777 - session 85 finished, reason "error"',
    'INFO:     10.42.4.0:58264 - "POST /v1/chat/completions HTTP/1.1" 400 Bad Request',
    "INFO 05-24 12:44:43 [loggers.py:271] Engine 000: Avg prompt throughput: 1310.1 tokens/s, Avg generation throughput: 50.9 tokens/s, Running: 1 reqs, Waiting: 0 reqs, GPU KV cache usage: 0.6%",
    "Task exception was never retrieved",
    "OSError: [Errno 107] Transport endpoint is not connected",
    "ConnectionResetError: [Errno 104] Connection reset by peer",
    "BrokenPipeError: [Errno 32] Broken pipe",
    "INFO:     Shutting down",
    "INFO:     Waiting for application shutdown.",
    "INFO:     Application shutdown complete.",
    "INFO:     Finished server process [1]",
    "ImportError: sys.meta_path is None, Python is likely shutting down",
)
LINES = [(engine, line) for engine, lines in STARTING.items() for line in lines]


@pytest.mark.parametrize(("engine", "line"), LINES, ids=[f"{engine}-{line[:60]}" for engine, line in LINES])
def test_a_line_of_a_start_gives_nothing(engine: str, line: str) -> None:
    assert known_failure(engine, line) is None


@pytest.mark.parametrize("engine", STARTING)
@pytest.mark.parametrize("line", SERVING[4:], ids=lambda line: str(line)[:60])
def test_a_line_of_a_server_gives_nothing(engine: str, line: str) -> None:
    assert known_failure(engine, f"{SERVING[0]}\n{line}") is None


@pytest.mark.parametrize(("code", "reason"), [(143, "EngineTerminated"), (0, "EngineExited"), (137, "EngineKilled")])
@pytest.mark.parametrize("engine", STARTING)
def test_whoever_ended_a_healthy_engine_decides(engine: str, code: int, reason: str) -> None:
    log = "\n".join((*STARTING[engine], *SERVING))
    assert known_failure(engine, log) is None
    assert diagnose(engine, code, None, log).reason == reason
