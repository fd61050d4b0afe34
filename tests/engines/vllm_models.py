"""Small models of the decoders that only vLLM has code for, as vLLM itself builds them on the CPU.

    python -m tests.engines.vllm_models            # says what has changed; the exit status is 1 then
    python -m tests.engines.vllm_models --write    # writes tests/unit/models/data/vllm_models.json anew

To add an architecture, put its config into that file with "parameters" 0 and "kept" [], and write.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.engines.environments import VLLM_INSTALLED, interpreter

DATA = Path(__file__).parents[1] / "unit" / "models" / "data" / "vllm_models.json"
WORKER = Path(__file__).parent / "workers" / "vllm_models.py"


def built(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What vLLM makes of each config.

    Raises:
        RuntimeError: it cannot build one of them.
    """
    lines = "".join(f"{json.dumps(config)}\n" for config in configs)
    command = [str(interpreter("vllm")), "-W", "ignore", str(WORKER)]
    done = subprocess.run(command, check=False, input=lines, capture_output=True, text=True, timeout=600)
    answers: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) != len(configs):
        raise RuntimeError(f"vLLM {VLLM_INSTALLED} answered {len(answers)} of {len(configs)}: {done.stderr[-2000:]}")
    for config, answer in zip(configs, answers, strict=True):
        if "error" in answer:
            raise RuntimeError(f"vLLM {VLLM_INSTALLED} built no {config['architectures'][0]}: {answer['error']}")
    return answers


def main() -> int:
    """Compare or write."""
    models: dict[str, dict[str, Any]] = json.loads(DATA.read_text())
    answers = built([model["config"] for model in models.values()])
    pairs = zip(models.items(), answers, strict=True)
    changed = [name for (name, model), answer in pairs if model != {"config": model["config"], **answer}]
    if "--write" in sys.argv[1:]:
        made = {
            name: {"config": model["config"], **answer}
            for (name, model), answer in zip(models.items(), answers, strict=True)
        }
        DATA.write_text(json.dumps(made, indent=1) + "\n")
        return 0
    print(f"{len(models)} models, {len(changed)} differ: {', '.join(changed)}" if changed else f"{len(models)} models")
    return 1 if changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
