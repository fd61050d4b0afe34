# ruff: noqa: E501 - modules are named whole
"""Every module of the engines that can end them belongs to a part, in each tested version, or is general on purpose.

A module that a new version brings fails here until a part has it: an error of it would else have no reason.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_operator.engines.failures import GENERIC, diagnose
from llm_operator.engines.part import part_of
from llm_operator.engines.registry import ENGINES
from tests.engines.environments import TESTED, interpreter, sources

VERSIONS = [(name, version) for name in ENGINES for version in TESTED[name.lower()]]
RAISES = re.compile(r"^\s*(?:raise \w|assert )", re.MULTILINE)
# What no part has, and why that is so.
ON_PURPOSE = {
    "VLLM": (
        r"vllm/(?:benchmarks|assets|collect_env|tracing|profiler|usage|logging_utils|kernels/helion)\b",  # not the server
        r"vllm/(?:sampling_params|pooling_params|sequence|outputs|beam_search|inputs|logits_process|logprobs|tasks)\b",  # requests
        r"vllm/(?:entrypoints|renderers|exceptions|engine/protocol|engine/input)\b",  # requests
        r"vllm/v1/(?:engine|worker|executor|core/sched|core/encoder|sample|metrics|pool|request|outputs|utils|serial_utils)\b",  # all
        r"vllm/v1/(?:cudagraph_dispatcher|watermarking|fault_tolerance|core/\w+$|core/\w+\.py)",  # all of them
        r"vllm/distributed/(?:parallel_state|stateless_coordinator|utils|device_communicators|communication_op)\b",  # links
        r"vllm/distributed/(?:weight_transfer|elastic_ep|eplb)\b|vllm/(?:snapshot|ray|connections)\b",  # off in a pod
        r"vllm/model_executor/(?:determinism|models/\w+|warmup)",  # switched on for tests
        r"vllm/compilation/(?:counter|decorators|monitor|wrapper)\b",  # in every forward pass
        r"vllm/transformers_utils/(?:__init__|repo_utils)\b",  # the hub's errors say it
        r"vllm/(?:utils|triton_utils|device_allocator|forward_context|scalar_type|model_inspection|logger|version|scripts)\b",
        r"vllm/(?:__init__|_\w+_ops|_version|env_override|sequence|third_party|cute_utils|tilelang_utils)\b|vllm/_\w+\.py",
    ),
    "LMDeploy": (
        r"lmdeploy/(?:lite|profiler|metrics|monitoring|logger|utils|version|__main__)\b",  # other commands, or all of them
        r"lmdeploy/serve\b",  # requests
        r"lmdeploy/pytorch/(?:engine|paging|messages|model_inputs|block|memdecode|long_context|prefix_cache|tools|ray)\b",  # all
        r"lmdeploy/pytorch/(?:utils|distributed|consts|accel|chat|__init__|strategies)\b",  # all of them
        r"lmdeploy/turbomind/(?:turbomind|utils|chat|__init__|generate_gemm_config|deploy/(?:module|loader|converter))\b",  # all of them
    ),
}  # fmt: skip


@functools.cache
def package(engine: str, version: str) -> Path:
    folder = sources(engine.lower(), version)
    if folder is None:
        (folder,) = (interpreter(engine.lower()).parents[1] / "lib").glob("python3.*/site-packages")
    return folder / engine.lower()


def modules(engine: str, version: str) -> Iterator[str]:
    """Paths of the modules that raise or assert anything, from the engine's folder on."""
    root = package(engine, version)
    for path in sorted(root.rglob("*.py")):
        if RAISES.search(path.read_text(errors="replace")):
            yield str(path.relative_to(root.parent))


@pytest.mark.parametrize(("engine", "version"), VERSIONS, ids=[f"{name}-{version}" for name, version in VERSIONS])
def test_every_module_belongs_to_a_part_or_is_general_on_purpose(engine: str, version: str) -> None:
    parts = ENGINES[engine].log.parts
    general = re.compile("|".join(ON_PURPOSE[engine]))
    missing = [
        module
        for module in modules(engine, version)
        if part_of(parts, "ValueError: x", [f"/usr/lib/python3/site-packages/{module}:f"]) is None
        and not general.match(module)
    ]
    assert missing == []


# Settings are checked here, before anything is done.
CHECKS = {
    "VLLM": ("config", "engine/arg_utils.py", "envs.py", "platforms/cuda.py", "platforms/interface.py"),
    "LMDeploy": ("messages.py", "pytorch/envs.py"),
}
CHECKED = ("ValueError", "NotImplementedError", "RuntimeError", "AssertionError")


def checks(engine: str, version: str) -> Iterator[tuple[str, str, str]]:
    """Module, class and text of every error that the checks of settings raise; values are 7."""
    root = package(engine, version)
    for name in CHECKS[engine]:
        paths = sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name]
        for path in (one for one in paths if one.exists()):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                    yield str(path.relative_to(root.parent)), ast.unparse(node.exc.func), text(node.exc.args[0])
                elif isinstance(node, ast.Assert) and node.msg is not None:
                    yield str(path.relative_to(root.parent)), "AssertionError", text(node.msg)


def text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
    if isinstance(node, ast.BinOp):
        return text(node.left) + text(node.right)
    return "7"


@pytest.mark.parametrize(("engine", "version"), VERSIONS, ids=[f"{name}-{version}" for name, version in VERSIONS])
def test_every_check_of_a_setting_has_a_reason(engine: str, version: str) -> None:
    told = 0
    for module, error, said in checks(engine, version):
        if error not in CHECKED:
            continue
        told += 1
        trace = f'Traceback (most recent call last):\n  File "/usr/lib/python3/site-packages/{module}", line 7, in f'
        found = diagnose(engine, 1, None, f"{trace}\n{error}: {said.splitlines()[0] if said else ''}")
        assert found.reason not in GENERIC, f"{module}: {error}: {said}"
    assert told > 5


def test_a_module_of_no_part_is_seen() -> None:
    frame = "/usr/lib/python3/site-packages/vllm/quantum/gate.py:f"
    assert part_of(ENGINES["VLLM"].log.parts, "ValueError: x", [frame]) is None
    assert not re.match("|".join(ON_PURPOSE["VLLM"]), "vllm/quantum/gate.py")
