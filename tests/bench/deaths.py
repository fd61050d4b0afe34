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
from tests.support.hostile_logs import HOSTILE


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
