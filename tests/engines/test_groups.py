"""The blocks of packed caches, held against vLLM's own grouping of the same layers."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

from llm_operator.engines.vllm.packed import Hold, Kept, Pages, packed, tuples
from tests.engines.environments import interpreter, sources

WORKER = Path(__file__).parent / "workers" / "groups.py"
CONTEXT, BATCHED = 30_000, 8192


def deepseek(four: int, many: int, alone: int) -> list[Kept]:
    """The layers of a DeepSeek V4: with rate 4 and an indexer, with rate 128, and with a window alone."""
    kept = [
        Kept(Hold.EVERYTHING, four, 37_440, 256),
        Kept(Hold.EVERYTHING, four, 8640, 256),
        Kept(Hold.EVERYTHING, many, 1728, 256),
        Kept(Hold.WINDOW, four + many + alone, 37_440, 64, 128),
        Kept(Hold.WINDOW, four, 32_832, 4, 8),
        Kept(Hold.WINDOW, four, 8640, 4, 8),
        Kept(Hold.WINDOW, many, 32_832, 8, 128),
    ]
    return [each for each in kept if each.layers]


def drawn(seed: int) -> list[Kept]:
    """Layers as other models have them: full and indexed, windows, rings, states, in any numbers."""
    dice = random.Random(seed)
    page = 512 * dice.randint(8, 64)
    full = dice.randint(1, 24)
    kept = [Kept(Hold.EVERYTHING, full, page, 64), Kept(Hold.EVERYTHING, full, 512 * dice.randint(1, 7), 64)]
    if dice.random() < 0.5:
        kept.append(Kept(Hold.WINDOW, dice.randint(1, 40), 512 * dice.randint(1, 64), 32, 512))
    if dice.random() < 0.5:
        kept.append(Kept(Hold.RING, full, 64 * dice.randint(1, 40), 8))
    if dice.random() < 0.5:
        kept.append(Kept(Hold.STATE, dice.randint(1, 60), 4096 * dice.randint(1, 600), 64))
    return kept


def asked(version: str, layers: list[list[Kept]]) -> list[dict[str, int]]:
    """What vLLM says a request of the context holds."""
    lines = "".join(
        json.dumps(
            {
                "kept": [[each.hold, each.layers, each.page, each.tokens, each.window] for each in kept],
                "context": CONTEXT,
                "batched": BATCHED,
            }
        )
        + "\n"
        for kept in layers
    )
    folder = sources("vllm", version)
    more: dict[str, Any] = {} if folder is None else {"env": {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}}
    done = subprocess.run(
        [str(interpreter("vllm")), "-W", "ignore", str(WORKER)],
        check=False,
        input=lines,
        capture_output=True,
        text=True,
        timeout=300,
        **more,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(layers), done.stderr[-2000:]
    return answers


def held(pages: Pages) -> dict[str, int]:
    """What one request of the context holds by our count."""
    blocks = pages.needed(CONTEXT, 2 * BATCHED)
    return {"bytes": blocks * pages.block_bytes, "blocks": blocks}


SHAPES = [deepseek(21, 20, 2), deepseek(30, 31, 0), deepseek(2, 2, 0), deepseek(20, 23, 0), deepseek(5, 1, 7)]


def test_tuples_are_those_of_vllm() -> None:
    assert asked("0.26.0", SHAPES) == [held(tuples(kept)) for kept in SHAPES]


def test_packed_blocks_are_those_of_vllm() -> None:
    layers = [*SHAPES, *(drawn(seed) for seed in range(60))]
    assert asked("0.33.0", layers) == [held(packed(kept)) for kept in layers]
