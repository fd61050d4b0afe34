"""Every remedy is a sentence that somebody on call can follow: a verb first, and a field or a command by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.engines import failures
from llm_operator.engines.parts import PARTS
from llm_operator.engines.registry import ENGINES
from llm_operator.reasons import REASONS, Reason

VERBS = frozenset(
    {
        "accept",
        "add",
        "allow",
        "ask",
        "change",
        "check",
        "choose",
        "compare",
        "correct",
        "create",
        "delete",
        "do",
        "download",
        "drain",
        "enlarge",
        "exempt",
        "free",
        "give",
        "label",
        "let",
        "look",
        "lower",
        "make",
        "name",
        "put",
        "quantize",
        "raise",
        "read",
        "remove",
        "rename",
        "resize",
        "run",
        "see",
        "serve",
        "set",
        "shorten",
        "start",
        "stop",
        "take",
        "update",
        "upgrade",
        "use",
        "wait",
    }
)
CRD = Path(__file__).parents[3] / "crds" / "llm-operator.dev_llmdeployments.yaml"
SPEC: dict[str, Any] = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"][
    "properties"
]["spec"]
CONDITIONS = ("if ", "when ", "where ", "with ")
"""A clause that says when the rest of it is for."""
COMMAND = re.compile(r"`(?:kubectl|nvidia-smi|chmod)\b|\bkubectl (?:logs|describe)\b")
ELSEWHERE = re.compile(r"the message|the chart's|\(pods\.md|nvidia-fabricmanager|the network policies|`[\w.]+`")
"""Where the name is that the table cannot know: in the condition's own message, or a value of the chart."""
DECLARED = re.compile(
    r"^(?:startupTimeoutSeconds ends it|`?kubectl [\w -]+`? (?:shows|has) .+|libcuda\.so\.1 comes from .+)"
)
"""What follows by itself from what was to be done, or where to see more."""


def clauses(remedy: str) -> list[str]:
    return [clause.strip() for clause in remedy.split("; ")]


def is_imperative(clause: str) -> bool:
    if DECLARED.search(clause):
        return True
    if clause.startswith(CONDITIONS):
        return len(clause.split(" ")) > 3
    first = re.split(r"[ :,]", clause.removeprefix("or ").removeprefix("else ").removeprefix("then "), maxsplit=1)[0]
    return first in VERBS


@pytest.mark.parametrize("reason", [one for one in REASONS if one.remedy], ids=lambda one: f"{one.area}-{one.name}")
def test_a_remedy_of_the_table_is_a_sentence(reason: Reason) -> None:
    assert [clause for clause in clauses(reason.remedy) if not is_imperative(clause)] == []
    tails = {field.removeprefix("spec.") for field in reason.fields}
    tails |= {tail.rpartition(".")[2] for tail in tails}
    named = any(re.search(rf"(?<![\w-]){re.escape(tail)}(?![\w-])", reason.remedy) for tail in tails)
    assert named or COMMAND.search(reason.remedy) or ELSEWHERE.search(reason.remedy) or reason.severity == "Info"


@pytest.mark.parametrize(
    "reason", [one for one in REASONS if one.fields and one.remedy], ids=lambda one: f"{one.area}-{one.name}"
)
def test_the_fields_of_a_remedy_are_in_it(reason: Reason) -> None:
    """What the table says that the remedy changes is said to the reader too."""
    tails = [field.removeprefix("spec.") for field in reason.fields]
    missing = [tail for tail in tails if tail.rpartition(".")[2] not in reason.remedy and tail not in reason.remedy]
    assert missing == [] or "the message" in reason.remedy


SPOKEN = sorted(
    {text for signature in failures.signatures() for text in (signature.remedy, *signature.at.values())}
    | {found.remedy for found in failures._SIGNALS.values()}
    | {engine.log.unlinked for engine in ENGINES.values()}
    | {part.remedy for engine in ENGINES.values() for part in (*engine.log.parts, *PARTS)}
    | {failures.SHOWN}
)


FIELD = re.compile(r"(?<![\w./+-])[a-z]+(?:[A-Z]\w*|(?=\.[a-z]))(?:\.[a-zA-Z]+)*(?![\w/=])")
NO_FIELDS = frozenset({"config.json", "podPidsLimit", "hostNetwork", "libcuda.so"})
"""Of a model's files, the kubelet, pods and the driver."""


@pytest.mark.parametrize("remedy", SPOKEN, ids=lambda text: str(text)[:50])
def test_a_remedy_of_a_death_names_fields_that_exist(remedy: str) -> None:
    for field in set(FIELD.findall(remedy)) - NO_FIELDS:
        place: Any = SPEC
        for part in field.split("."):
            place = place.get("properties", {}).get(part) or place.get("additionalProperties")
            assert place, f"{field} is not in the CRD"


def test_the_fields_of_the_remedies_of_deaths_are_seen() -> None:
    """The test above finds them: these are in remedies today."""
    seen = {field for remedy in SPOKEN for field in FIELD.findall(remedy)}
    fields = {"kvCache.memoryPercent", "startupTimeoutSeconds", "resources.limits.memory", "sharedMemory", "engine.env"}
    assert fields <= seen


@pytest.mark.parametrize("remedy", SPOKEN, ids=lambda text: str(text)[:50])
def test_a_remedy_of_a_death_is_a_sentence(remedy: str) -> None:
    assert [clause for clause in clauses(remedy) if not is_imperative(clause)] == []
