"""A remedy is something that can be done: its options are the engine's, and it says it in whole words."""

from __future__ import annotations

import re

import pytest

from llm_operator.engines.registry import ENGINES
from llm_operator.engines.signature import Signature
from llm_operator.engines.signatures import COMMON

OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]+")
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


def options(text: str) -> set[str]:
    return set(OPTION.findall(text.replace("kubectl logs --previous", "")))


def of_any_version(engine: str) -> set[str]:
    table = ENGINES[engine].options
    versions = [table.capabilities(version) for version in table.versions]
    return {name for version in versions if version is not None for name in version.options}
