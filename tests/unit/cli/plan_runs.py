"""Runs of `kubectl llm plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_operator.cli.main import run
from llm_operator.cli.plan import NOT_CHECKED

CONFIGS = Path(__file__).parents[1] / "models" / "configs"
LLAMA = str(CONFIGS / "llama-3.1-8b.json")
SMALL = str(CONFIGS / "llama-3.2-1b.json")
LARGE = str(CONFIGS / "llama-3.3-70b.json")
ITEM = {"name", "verdict", "reasons", "plan", "counterOffers"}
PLAN_INTEGERS = {
    "tensor",
    "gpusPerReplica",
    "gpuMemoryBytes",
    "weightBytesPerGpu",
    "kvBytesPerToken",
    "kvTokens",
    "kvTokensLow",
    "maxConcurrentRequests",
    "contextLength",
}

OFFLINE = f"kubectl llm plan: {NOT_CHECKED}\n"
"""What standard error has where no cluster is asked."""


def manifest(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "llm-operator.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"huggingFace": {"repository": "org/model"}}, "engine": {"type": "LMDeploy"}, **spec},
    }


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    try:
        code = run(["plan", *arguments])
    except SystemExit as left:  # argparse
        code = int(str(left.code))
    output, errors = capsys.readouterr()
    assert "Traceback" not in output + errors
    return code, output, errors


def items(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    """The items of `-o json`."""
    found, output, errors = ran(capsys, *arguments, "-o", "json")
    assert found == code, errors
    body = json.loads(output)
    assert set(body) == {"items"}
    entries: list[dict[str, Any]] = body["items"]
    return entries


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines of standard error of a command that ends with 2 and prints nothing else."""
    code, output, errors = ran(capsys, *arguments)
    assert (code, output) == (2, ""), errors
    return errors.splitlines()


def check_plan(body: dict[str, Any]) -> None:
    assert set(body) == PLAN_INTEGERS | {"explanation"}
    assert all(type(body[name]) is int and body[name] >= 0 for name in PLAN_INTEGERS)
    assert isinstance(body["explanation"], str)
