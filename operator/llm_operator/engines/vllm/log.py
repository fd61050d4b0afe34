"""What vLLM's log looks like.

Prefixes: vllm/logging_utils/formatter.py, 0.8 to 0.33. Steps: model_executor/model_loader/weight_utils.py,
compilation/, v1/worker/gpu_model_runner.py and v1/engine/core.py, 0.20 to 0.33; the server is uvicorn's.
"""

from __future__ import annotations

import re

from llm_operator.engines.log_form import LogForm
from llm_operator.engines.vllm.parts import PARTS
from llm_operator.engines.vllm.remedies import UNLINKED

_WAITING = r"No available shared memory broadcast block found"

FORM = LogForm(
    steps=(
        ("Starting", re.compile(r"vLLM API server version|Initializing a V1 LLM engine")),
        ("Reading weights", re.compile(r"Starting to load model")),
        (
            "Reading weights",
            re.compile(r"\b(?:checkpoint shards|loading shards|Model Streamer|InstantTensor loader): {1,4}(\d{1,3})%"),
        ),
        ("Profiling memory", re.compile(r"Loading weights took|Model loading took")),
        ("Compiling", re.compile(r"Dynamo bytecode transform time|Compiling a graph|torch\.compile (?:took|takes)")),
        ("Making the KV cache", re.compile(r"Available KV cache memory:|GPU KV cache size:")),
        ("Capturing CUDA graphs", re.compile(r"Capturing CUDA graphs? ?[^%\n:]{0,60}: {1,4}(\d{1,3})%")),
        ("Opening the server", re.compile(r"Graph capturing finished|init engine \(profile|Started server process")),
    ),
    stages=(
        (
            "Loading",
            re.compile(
                r"Starting to load model|Loading (?:safetensors|pt) checkpoint shards|\bin (?:load_model|load_weights|"
                r"_load_weights|create_weights|initialize_model|process_weights_after_loading)\b"
            ),
        ),
        (
            "Profiling",
            re.compile(
                r"Model loading took|Loading weights took|\bin (?:profile_run|determine_available_memory|"
                r"determine_num_available_blocks|initialize_kv_cache\w*|_?allocate_kv_cache\w*|_initialize_kv_caches|"
                r"_dummy_run)\b"
            ),
        ),
        (
            "Capturing",
            re.compile(r"GPU KV cache size:|Capturing CUDA ?graph|\bin (?:capture_model|_capture\w*)\b"),
        ),
        ("Serving", re.compile(r"EngineCore encountered|output_handler failed")),
    ),
    levels=(
        re.compile(
            r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d(?::\d\d)? "
            r"(?:\[[^\]]{1,80}\]|[\w./]{1,60}:\d+\]) ?"
        ),
    ),
    # vllm/v1/engine/dump_input.py, 0.9 to 0.33: after a failed step the settings and the requests, as an error.
    harmless=re.compile(r"^Dumping (?:input data|scheduler)"),
    # vllm/v1/engine/utils.py, wait_for_engine_startup, 0.8 to 0.33; executor/multiproc_worker_utils.py, 0.4.3 to 0.10.
    child=re.compile(
        r"(?:Failed core proc\(s\): \{[^}]{0,200}: |Worker \S{1,40} pid \d+ died, exit code: )(-\d{1,3})\b"
    ),
    # vllm/v1/executor/multiproc_executor.py, get_response, 0.8 to 0.33.
    quoting=re.compile(r"^RuntimeError: Worker failed with error '(\w.{0,900}?)', please check the stack trace"),
    # vllm/distributed/device_communicators/shm_broadcast.py; logged at INFO or DEBUG once a minute.
    waiting=re.compile(rf"{_WAITING} in \d+ second"),
    joining=re.compile(r"\busing nccl==|Found nccl from|world_size=\d+ rank=\d+|in world size \d+ is assigned"),
    repeated=re.compile(rf"{_WAITING}|Waiting for \d+ (?:local|core)"),
    unlinked=UNLINKED,
    parts=PARTS,
)
