"""The health check for Argo CD, run by Lua 5.1, the language level of Argo CD's own interpreter."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cache import ROOT
from devcluster.debian import unpacked
from llm_operator.api import GROUP, KIND, LLMDeployment
from llm_operator.reasons import REASONS

FOLDER = ROOT / "gitops" / "argocd" / GROUP / KIND
CASES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "health_test.yaml").read_text())["tests"]


def literal(value: Any) -> str:
    """A value as a Lua expression."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{literal(key)}] = {literal(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(literal(entry) for entry in value) + "}"
    if value is None:
        return "nil"
    return json.dumps(value)


def health(document: Any) -> tuple[str, str]:
    """What health.lua says of an object."""
    lua = unpacked("lua5.1", "usr/bin/lua5.1") / "usr" / "bin" / "lua5.1"
    script = (FOLDER / "health.lua").read_text()
    check = f"local function check()\n{script}\nend\nlocal hs = check()\n"
    program = f"obj = {literal(document)}\n{check}print(hs.status)\nprint(hs.message)"
    done = subprocess.run([lua, "-"], input=program, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    status, _, message = done.stdout.partition("\n")
    return status, message.rstrip("\n")


@pytest.mark.parametrize("case", CASES, ids=[Path(case["inputPath"]).stem for case in CASES])
def test_each_case_has_its_health(case: dict[str, Any]) -> None:
    document = yaml.safe_load((FOLDER / case["inputPath"]).read_text())
    assert health(document) == (case["healthStatus"]["status"], case["healthStatus"]["message"])


def test_the_cases_cover_every_health_and_are_valid_objects() -> None:
    assert {case["healthStatus"]["status"] for case in CASES} == {"Progressing", "Healthy", "Suspended", "Degraded"}
    known = {reason.name for reason in REASONS}
    for case in CASES:
        document = yaml.safe_load((FOLDER / case["inputPath"]).read_text())
        LLMDeployment.parse(document)
        for condition in document.get("status", {}).get("conditions", []):
            assert condition["reason"] in known, condition
    assert {path.name for path in (FOLDER / "testdata").iterdir()} == {Path(case["inputPath"]).name for case in CASES}


@pytest.mark.parametrize("status", [{}, {"conditions": []}, {"observedGeneration": 1}, {"observedGeneration": 9}])
def test_a_status_that_is_not_complete_is_progressing(status: dict[str, Any]) -> None:
    assert health({"metadata": {"generation": 1}, "status": status})[0] == "Progressing"
