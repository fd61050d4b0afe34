"""What it costs to look for the reason of a death in hostile logs, in milliseconds of processor time.

    python -m tests.bench.deaths [--rounds 5]

It prints one JSON object: the best of the rounds for each log, and the worst of these. The bound is 50 ms.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

from llm_operator.engines.failures import diagnose

HOSTILE: tuple[str, ...] = (
    "\x00\xff" * 50_000,
    "a" * 1_000_000,
    "\n" * 1_000_000,
    "E\n" * 500_000,
    "Free memory on device (" * 50_000,
    "Error: " * 200_000,
    "(" * 100_000,
    "[TM][ERROR]" * 50_000,
    "model's max seq len (1) " * 50_000,
    "sm_1 is not divisible by " * 50_000,
    ("'gcc' " * 160 + "\n") * 1000,
    ("No valid attention backend found kv_cache_dtype=x " * 19 + "\n") * 1000,
    ("ValueError: " + "please install " * 60 + "\n") * 1000,
    ("CUDA error: " * 80 + "\n") * 1000,
    ("x requires " * 90 + "\n") * 1000,
    ("1 Workers " * 95 + "\n") * 1000,
    ("Permission denied: " * 50 + "\n") * 1000,
    ("huggingface " * 80 + "\n") * 1000,
    ("(a pid=1) " * 90 + "\n") * 1000,
    "Traceback\n  File x\nAssertionError\n" * 30_000,
    ("ValueError: " + "max_len " * 120 + "\n") * 1000,
    ("ValueError: " + "not must be max_x " * 50 + "\n") * 1000,
    ("RuntimeError: " + "is not " * 130 + "\n") * 1000,
    ("Error: " + "GGUF " * 190 + "\n") * 1000,
    ("Error: x requires y 1 " * 45 + "\n") * 1000,
    ("AttributeError: quantize quantize " * 29 + "\n") * 1000,
    "x[\"type\"]\nKeyError: 'type'\n" * 30_000,
    "ValueError: a_b\n" * 60_000,
    "".join(chr(32 + number % 0x2FFF) for number in range(100_000)),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a diagnosis of hostile logs costs.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args(arguments).rounds
    best = [min(_milliseconds(text) for _ in range(rounds)) for text in HOSTILE]
    print(json.dumps({"milliseconds": best, "worst": max(best)}))


def _milliseconds(text: str) -> float:
    begin = time.process_time()
    diagnose("VLLM", 1, None, text)
    return round((time.process_time() - begin) * 1000, 1)


if __name__ == "__main__":
    main()
