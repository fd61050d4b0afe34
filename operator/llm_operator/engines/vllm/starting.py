"""What vLLM says while it loads.

0.20 to 0.33: model_executor/model_loader/weight_utils.py, compilation/, v1/worker/gpu_model_runner.py and
v1/engine/core.py; the server is uvicorn's.
"""

from __future__ import annotations

import re

STEPS: tuple[tuple[str, re.Pattern[str]], ...] = (
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
)
"""Name of the step, and what the log says at it; a group is the percentage."""
