"""What LMDeploy's log looks like.

0.9 to 0.18: turbomind/deploy, turbomind/checkpoint.py, pytorch/weight_loader and the engines' start; the server is
uvicorn's. Its Python code logs as Python does.
"""

from __future__ import annotations

import re

from llm_operator.engines.lmdeploy.parts import PARTS
from llm_operator.engines.log_form import LogForm

FORM = LogForm(
    steps=(
        ("Starting", re.compile(r"input backend=")),
        (
            "Reading weights",
            re.compile(r"\b(?:Convert to turbomind format|Loading weights from safetensors|Loading): {1,4}(\d{1,3})%"),
        ),
        ("Making the KV cache", re.compile(r"Object cache budget|Building CacheEngine")),
        ("Opening the server", re.compile(r"Started server process")),
    ),
    stages=(
        (
            "Loading",
            re.compile(
                r"Convert to turbomind format|Loading: +\d+%|"
                r"\bin (?:load_model_weights|model_loader|export|_build_model)\b"
            ),
        ),
        ("Profiling", re.compile(r"\bin (?:build_cache_engine|_?allocate_kv_cache\w*)\b|Object cache budget")),
        ("Capturing", re.compile(r"Capturing cuda ?graph|\bin (?:warmup|_capture\w*)\b")),
        ("Serving", re.compile(r"Engine loop failed")),
    ),
    levels=(re.compile(r"^\[TM\]\[(INFO|DEBUG|WARN|WARNING|ERROR|FATAL)\](?:\[[\d.:]{1,40}\])? ?"),),
    # TurboMind tries the longest first, healthy too.
    harmless=re.compile(r"^(?:\[[\w.]{1,60}:\d+\] )?Warm-up for \d+ tokens failed"),
    parts=PARTS,
)
