# ruff: noqa: E501 - modules are named whole
"""What the engines' general code says when it raises an error: each text has a reason, or is frozen as general on purpose.

test_parts.py holds the modules that belong to a part; this holds the texts of those that belong to none. A text that a new
version brings fails here: write a signature for it, or accept it with LLM_OPERATOR_WRITE_GOLDEN=yes, which writes the list.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_operator.engines.failures import GENERIC, diagnose
from tests.engines.environments import TESTED
from tests.engines.test_parts import ON_PURPOSE, RAISES, modules, package, text

FROZEN = Path(__file__).with_name("general_messages.json")
# Code that no start of a server runs, for other devices, or of one request.
ELSEWHERE = {
    "VLLM": r"vllm/(?:benchmarks|assets|collect_env|tracing|profiler|usage|logging_utils|kernels|entrypoints|renderers|exceptions|inputs|outputs|sampling_params"
    r"|pooling_params|sequence|beam_search|logits_process|logprobs|tasks|snapshot|engine/(?:protocol|input)|distributed/(?:weight_transfer|elastic_ep|eplb)"
    r"|model_executor/(?:determinism|warmup|models)|v1/(?:sample|pool|metrics|request|outputs|serial_utils|engine/(?:input_processor|output_processor|detokenizer|logprobs|async_llm))"
    r"|v1/worker/gpu/(?:sample|pool)|cute_utils|tilelang_utils|third_party|_\w*ops)|.*(?:xpu|rocm|cpu_|tpu|_cpu|aiter)",
    "LMDeploy": r"lmdeploy/(?:lite|profiler|metrics|monitoring|serve|pytorch/tools|pytorch/strategies)\b",
}  # fmt: skip
ERRORS = re.compile(
    r"(?:ValueError|RuntimeError|AssertionError|TypeError|ImportError|OSError|FileNotFoundError|MemoryError|Exception)$"
)
ENGINES = ("VLLM", "LMDeploy")


def messages(engine: str, version: str) -> Iterator[tuple[str, str]]:
    """Module and `class: text` of every error with a text in the engine's general code; values are 7."""
    general, elsewhere = re.compile("|".join(ON_PURPOSE[engine])), re.compile(ELSEWHERE[engine])
    root = package(engine, version).parent
    for module in modules(engine, version):
        if not general.match(module) or elsewhere.match(module):
            continue
        source = (root / module).read_text(errors="replace")
        for node in ast.walk(ast.parse(source)) if RAISES.search(source) else ():
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                error, said = ast.unparse(node.exc.func), text(node.exc.args[0])
            elif isinstance(node, ast.Assert) and node.msg is not None:
                error, said = "AssertionError", text(node.msg)
            else:
                continue
            first = said.strip().splitlines()[0] if said.strip() else ""
            if ERRORS.fullmatch(error) and re.search(r"[a-z]{3}", first):
                yield module, f"{error}: {first}"


@functools.cache
def told(engine: str) -> frozenset[tuple[str, str]]:
    """The messages of all tested versions."""
    return frozenset(message for version in TESTED[engine.lower()] for message in messages(engine, version))


@functools.cache
def general(engine: str) -> dict[str, list[str]]:
    """By module, the texts of all tested versions whose reason is generic."""
    found: dict[str, list[str]] = {}
    for module, said in sorted(told(engine)):
        trace = f'Traceback (most recent call last):\n  File "/usr/lib/python3/site-packages/{module}", line 7, in f'
        if diagnose(engine, 1, None, f"{trace}\n{said}").reason in GENERIC:
            found.setdefault(module, []).append(said)
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_of_the_general_code_has_a_reason_or_is_general_on_purpose(engine: str) -> None:
    if os.environ.get("LLM_OPERATOR_WRITE_GOLDEN") == "yes":
        FROZEN.write_text(json.dumps({name: general(name) for name in ENGINES}, indent=1) + "\n")
    assert general(engine) == json.loads(FROZEN.read_text())[engine]


@pytest.mark.parametrize("engine", ENGINES)
def test_most_texts_have_a_reason(engine: str) -> None:
    without = sum(len(texts) for texts in json.loads(FROZEN.read_text())[engine].values())
    assert 0 < without * 2 < len(told(engine))
