"""A remedy is something that can be done: its options are the engine's, and it says it in whole words."""

from __future__ import annotations

import re

import pytest

from llm_operator.engines.parts import PARTS
from llm_operator.engines.registry import ENGINES
from llm_operator.engines.signature import Signature
from llm_operator.engines.signatures import COMMON

OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]+")
ADVICE = sorted(
    {
        (engine.name, remedy)
        for engine in ENGINES.values()
        for remedy in (
            *(text for known in (*engine.signatures, *COMMON) for text in (known.remedy, *known.at.values())),
            *(part.remedy for part in (*engine.log.parts, *PARTS)),
        )
    }
)
ROWS = [
    (engine.name, signature, remedy)
    for engine in ENGINES.values()
    for signature in (*engine.signatures, *COMMON)
    for remedy in (signature.remedy, *signature.at.values())
]


@pytest.mark.parametrize(
    ("engine", "signature", "remedy"), ROWS, ids=[f"{engine}-{row.reason}-{text[:30]}" for engine, row, text in ROWS]
)
def test_the_options_of_a_remedy_are_the_engines(engine: str, signature: Signature, remedy: str) -> None:
    """Whoever follows it would else see UnknownArgument next."""
    assert options(remedy) - of_any_version(engine) == set()


@pytest.mark.parametrize("name", ENGINES)
def test_so_are_those_of_processes_that_wait(name: str) -> None:
    assert options(ENGINES[name].log.unlinked) - of_any_version(name) == set()


@pytest.mark.parametrize(("engine", "remedy"), ADVICE)
def test_an_option_that_a_remedy_adds_is_in_every_version(engine: str, remedy: str) -> None:
    """What is removed or corrected was there; what is added to a version without it ends as UnknownArgument."""
    added = {option for step in steps(remedy) for option in options(step)}
    table = ENGINES[engine].options
    since = re.search(r"(--[a-z-]+) to engine\.extraArgs if engine\.version is at least ([\d.]+)$", remedy)
    if since is not None:
        has = [version for version in table.versions if since[1] in known_options(engine, version)]
        assert has[0] == since[2]
    for version in table.versions:
        assert added - known_options(engine, version) == set(), version


def test_what_a_remedy_adds_is_found() -> None:
    assert steps("remove --a and --b from x; or add --c to y, or use z") == ["or add --c to y", "or use z"]
    assert steps("add --c to y if engine.version is at least 1.0") == []


def known_options(engine: str, version: str) -> set[str]:
    known = ENGINES[engine].options.capabilities(version)
    assert known is not None
    return set(known.options)


def steps(remedy: str) -> list[str]:
    """The steps of a remedy that may add an option to any version."""
    return [
        step
        for step in re.split(r"; |, (?=or |else |add |set |use |name |where )", remedy)
        if not re.search(r"\b(?:remove|correct)\b", step) and "if engine.version is at least" not in step
    ]


def options(text: str) -> set[str]:
    return set(OPTION.findall(text.replace("kubectl logs --previous", "")))


def of_any_version(engine: str) -> set[str]:
    table = ENGINES[engine].options
    versions = [table.capabilities(version) for version in table.versions]
    return {name for version in versions if version is not None for name in version.options}
