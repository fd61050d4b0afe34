"""The last lines of engines that really died (H200, LMDeploy 0.18.0, vLLM 0.26.0) become a reason and a remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_operator.engines.failures import diagnose, known_failure

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "failures.json").read_text())
REASONS = {
    "pt7b-q0-r08": "EngineProcessDied",
    "f-norepo": "ModelNotReachable",
    "f-q3": "InvalidArgument",
    "f-badflag": "UnknownArgument",
    "f-loglevel": "InvalidArgument",
    "f-nopath": "ModelPathMissing",
    "f-r1-pt": "InvalidKVCacheShare",
    "f-q16-tm": "UnsupportedKVQuantization",
    "f-toolparser": "UnknownParser",
    "f-awq-as-hf": "FormatMismatch",
    "f-r0-tm": "InvalidKVCacheShare",
    "f-tp2-tm": "NotEnoughGPUs",
    "f-r1-tm": "InvalidKVCacheShare",
    "f-tp2-pt": "EngineProcessDied",
    "f-fallback-hf": "EngineProcessDied",
    "f-hf-as-awq-pt": "EngineProcessDied",
    "f-nokv-pt": "EngineProcessDied",
    "f-oom-load": "EngineProcessDied",
    "f-u005": "EngineProcessDied",
    "f-tp2": "NotEnoughGPUs",
    "f-awq-on-plain": "FormatMismatch",
    "f-kv4gi": "InvalidArgument",
    "f-kvint8": "InvalidArgument",
    "f-port": "PortInUse",
}
BY_ENGINE = {
    ("LMDeploy", "f-nogpu"): "NoGPU",
    ("VLLM", "f-nogpu"): "EngineProcessDied",
    ("LMDeploy", "f-missshard"): "WeightsMissing",
    ("VLLM", "f-missshard"): "EngineProcessDied",
    ("LMDeploy", "f-unkarch"): "EngineProcessDied",
    ("VLLM", "f-unkarch"): "UnsupportedArchitecture",
}
DIED = [case for case in CASES if case["exitCode"] is not None]
SERVED = [case for case in CASES if case["exitCode"] is None]


def _id(case: dict[str, Any]) -> str:
    return f"{case['engine']}-{case['job']}"


@pytest.mark.parametrize("case", DIED, ids=_id)
def test_a_death_has_its_reason_and_a_remedy(case: dict[str, Any]) -> None:
    found = diagnose(case["engine"], case["exitCode"], None, "\n".join(case["tail"]))
    key = (case["engine"], case["job"])
    assert found.reason == (BY_ENGINE[key] if key in BY_ENGINE else REASONS[case["job"]])
    assert found.remedy
    assert "{" not in found.remedy
    assert len(found.message) < 1000


@pytest.mark.parametrize("case", SERVED, ids=_id)
def test_a_healthy_log_has_no_signature(case: dict[str, Any]) -> None:
    assert known_failure(case["engine"], "\n".join(case["tail"])) is None


@pytest.mark.parametrize(
    ("code", "signal", "reason"),
    [
        (137, None, "EngineKilled"),
        (0, 9, "EngineKilled"),
        (-6, None, "EngineAborted"),
        (139, None, "EngineCrashed"),
        (135, None, "SharedMemoryTooSmall"),
        (143, None, "EngineTerminated"),
        (0, None, "EngineExited"),
        (1, None, "EngineFailed"),
    ],
)
def test_without_a_known_text_the_exit_tells(code: int, signal: int | None, reason: str) -> None:
    assert diagnose("VLLM", code, signal, "nothing known").reason == reason
    assert "nothing known" in diagnose("VLLM", code, signal, "nothing known").message
