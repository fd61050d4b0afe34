"""Every architecture of text and images that the newest engines of the tables serve: planned, or why not."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llm_operator.engines.lmdeploy.capability import LMDEPLOY_PYTORCH, TURBOMIND
from llm_operator.engines.vllm.capability import VLLM_FIRST, VLLM_LAST
from llm_operator.memory.versions import release
from llm_operator.models import known_architectures
from tests.engines.environments import TESTED, interpreter, sources

# Not planned: `Unknown` with what its files hold, and exit 0.
TABLE = json.loads((Path(__file__).parent / "not_planned.json").read_text())
NOT_PLANNED: dict[str, str] = {name: reason for reason, names in TABLE.items() for name in names}

REMOVED = """
import json
from vllm.model_executor.models import registry as r
print(json.dumps(r._PREVIOUSLY_SUPPORTED_MODELS))
"""
REGISTRY = """
import json
from vllm.model_executor.models import registry as r
print(json.dumps(sorted({*r._TEXT_GENERATION_MODELS, *r._MULTIMODAL_MODELS, *r._TRANSFORMERS_SUPPORTED_MODELS})))
"""


def printed(script: str) -> Any:
    """What a script prints in vLLM's environment, as JSON."""
    done = subprocess.run(
        [interpreter("vllm"), "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=300, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def vllm_architectures() -> list[str]:
    """What vLLM's registry of text and images names."""
    found: list[str] = printed(REGISTRY)
    return found


def lmdeploy_architectures() -> tuple[set[str], set[str]]:
    """What the pytorch backend's module map and TurboMind's list name."""
    folder = sources("lmdeploy", TESTED["lmdeploy"][-1])
    assert folder is not None
    module_map = (folder / "lmdeploy" / "pytorch" / "models" / "module_map.py").read_text()
    turbomind = (folder / "lmdeploy" / "turbomind" / "supported_models.py").read_text()
    speculative = module_map.index("Eagle")
    pytorch = set(re.findall(r"^\s+'(\w+)':", module_map[:speculative], re.MULTILINE))
    return pytorch, set(re.findall(r"^\s+(\w+)='", turbomind, re.MULTILINE))


@pytest.mark.parametrize("engine", ["vllm", "lmdeploy"])
def test_every_architecture_is_planned_or_has_a_reason(engine: str) -> None:
    names = vllm_architectures() if engine == "vllm" else sorted(set.union(*lmdeploy_architectures()))
    assert len(names) > 60
    missing = [name for name in names if name not in known_architectures() and name not in NOT_PLANNED]
    assert not missing


def test_no_reason_stands_beside_a_plan() -> None:
    assert not set(NOT_PLANNED) & set(known_architectures())


def test_lmdeploy_is_refused_nothing_that_it_serves_and_takes_nothing_else() -> None:
    pytorch, turbomind = lmdeploy_architectures()
    known = set(known_architectures())
    assert (pytorch & known) ^ LMDEPLOY_PYTORCH <= {"BaichuanForCausalLM", "ChatGLMModel"}
    assert (turbomind & known) == TURBOMIND


def test_what_vllm_removed_is_planned_for_its_last_version_alone() -> None:
    removed: dict[str, str] = printed(REMOVED)
    known = set(known_architectures())
    assert {name: release(last)[:2] for name, last in removed.items() if name in known} == VLLM_LAST


def test_what_older_releases_of_vllm_lack_is_planned_from_the_first_that_has_it() -> None:
    older = {version: _registry(version) for version in TESTED["vllm"][:-1]}
    newest = set(vllm_architectures())
    first = dict.fromkeys(newest & set(known_architectures()), TESTED["vllm"][-1])
    for version in reversed(older):
        first |= dict.fromkeys(set(first) & older[version], version)
    oldest = TESTED["vllm"][0]
    assert {name: release(found)[:2] for name, found in first.items() if found != oldest} == VLLM_FIRST


def _registry(version: str) -> set[str]:
    folder = sources("vllm", version)
    assert folder is not None
    text = (folder / "vllm" / "model_executor" / "models" / "registry.py").read_text()
    tables = re.findall(
        r"^_(?:TEXT_GENERATION|MULTIMODAL|TRANSFORMERS_SUPPORTED)_MODELS\b[^{]*\{(.*?)^\}", text, re.M | re.S
    )
    assert len(tables) == 3
    return set(re.findall(r'^\s+"(\w+)":', "".join(tables), re.MULTILINE))
