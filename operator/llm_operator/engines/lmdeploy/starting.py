"""What LMDeploy says while it loads.

0.9 to 0.18: turbomind/deploy, turbomind/checkpoint.py, pytorch/weight_loader and the engines' start; the server is
uvicorn's.
"""

from __future__ import annotations

import re

STEPS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("Starting", re.compile(r"input backend=")),
    (
        "Reading weights",
        re.compile(r"\b(?:Convert to turbomind format|Loading weights from safetensors|Loading): {1,4}(\d{1,3})%"),
    ),
    ("Making the KV cache", re.compile(r"Object cache budget|Building CacheEngine")),
    ("Opening the server", re.compile(r"Started server process")),
)
"""Name of the step, and what the log says at it; a group is the percentage."""
