"""The health check for Argo CD, run by Lua 5.1, the language level of Argo CD's own interpreter."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Sequence
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


def healths(documents: Sequence[Any]) -> list[tuple[str, str]]:
    """What health.lua says of each object, by one interpreter."""
    lua = unpacked("lua5.1", "usr/bin/lua5.1") / "usr" / "bin" / "lua5.1"
    script = (FOLDER / "health.lua").read_text()
    # Each in a function, because Lua bounds the constants of one.
    objects = "".join(f"function()\nreturn {literal(document)}\nend,\n" for document in documents)
    program = (
        f"local function check()\n{script}\nend\n"
        f"for _, document in ipairs({{\n{objects}}}) do\nobj = document()\nlocal hs = check()\n"
        'io.write(hs.status, "\\0", hs.message, "\\0")\nend'
    )
    done = subprocess.run([lua, "-"], input=program, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split("\0")
    return list(zip(words[0:-1:2], words[1:-1:2], strict=True))


def health(document: Any) -> tuple[str, str]:
    """What health.lua says of an object."""
    (found,) = healths([document])
    return found


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


def condition(kind: str, status: str, reason: str, message: str = "words") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 2}


def with_conditions(*conditions: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"generation": 2, **metadata},
        "status": {"observedGeneration": 2, "conditions": list(conditions)},
    }


OF_READY = sorted({reason.name for reason in REASONS if "Ready" in reason.conditions} | {"ReasonOfTomorrow"})
OTHERS = [
    condition(kind, status, reason.name)
    for reason in REASONS
    for kind in reason.conditions
    if kind not in ("Ready", "Stalled")
    for status in ("True", "False", "Unknown")
]
"""What stands beside Ready does not change what Argo CD shows: alerts speak of it."""


def test_every_reason_has_the_health_of_its_condition() -> None:
    """A reason that this version does not know, too: an operator may be newer than the ConfigMap of Argo CD."""
    cases = list(itertools.product(OF_READY, ("True", "False", "Unknown"), ("True", "False", None)))
    documents = []
    for (reason, ready, stalled), beside in zip(cases, itertools.cycle(OTHERS), strict=False):
        more = [] if stalled is None else [condition("Stalled", stalled, reason, "stalled words")]
        documents.append(with_conditions(*more, beside, condition("Ready", ready, reason)))
    for (reason, ready, stalled), found in zip(cases, healths(documents), strict=True):
        if stalled == "True":
            expected = ("Degraded", f"{reason}: stalled words")
        else:
            health_of = {"True": "Healthy", "False": "Degraded", "Unknown": "Progressing"}[ready]
            health_of = "Suspended" if (ready, reason) == ("True", "Stopped") else health_of
            expected = (health_of, f"{reason}: words")
        assert found == expected, (reason, ready, stalled)


@pytest.mark.parametrize("beside", [OTHERS[i : i + 40] for i in range(0, len(OTHERS), 40)], ids=len)
def test_conditions_beside_ready_change_nothing(beside: list[dict[str, Any]]) -> None:
    ready = condition("Ready", "True", "ReplicasReady")
    for found in healths([with_conditions(one, ready) for one in beside]):
        assert found == ("Healthy", "ReplicasReady: words")


ODD = {
    "no metadata": ({"status": {"conditions": [condition("Ready", "True", "ReplicasReady")]}}, "Healthy"),
    "an old generation of a stalled spec": (
        {
            "metadata": {"generation": 3},
            "status": {"observedGeneration": 2, "conditions": [condition("Stalled", "True", "InvalidSpec")]},
        },
        "Progressing",
    ),
    "no generation observed": (
        {"metadata": {"generation": 1}, "status": {"conditions": [condition("Ready", "True", "ReplicasReady")]}},
        "Progressing",
    ),
    "being deleted": (
        with_conditions(condition("Ready", "True", "ReplicasReady"), deletionTimestamp="2026-01-01T00:00:00Z"),
        "Progressing",
    ),
    "a message in several lines, with quotes": (
        with_conditions(condition("Ready", "False", "GPUOutOfMemory", 'it\'s "full":\n\ttwo lines \\ %s')),
        "Degraded",
    ),
    "a condition without a reason": (with_conditions({"type": "Ready", "status": "False"}), "Degraded"),
    "a condition without a type": (
        with_conditions({"status": "True"}, condition("Ready", "True", "ReplicasReady")),
        "Healthy",
    ),
    "a condition that is no object": (
        {"status": {"conditions": ["Ready", condition("Ready", "True", "ReplicasReady")]}},
        "Healthy",
    ),
    "conditions that are no list": ({"status": {"conditions": "none"}}, "Progressing"),
    "a status that is no object": ({"status": "none"}, "Progressing"),
}


@pytest.mark.parametrize(("document", "expected"), ODD.values(), ids=ODD)
def test_an_odd_object_has_a_health_and_no_error_of_lua(document: dict[str, Any], expected: str) -> None:
    """An error of the script shows as Unknown, without a word about the object."""
    status, message = health(document)
    assert status == expected
    assert message
