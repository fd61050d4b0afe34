"""Unit tests need no server, and nothing that is made for one; what several stages share is in tests/support."""

import ast
from pathlib import Path

import pytest

UNIT = Path(__file__).parent
TESTS = UNIT.parent
SERVERS = ("tests.cluster", "tests.e2e", "tests.faults", "tests.web")
STAGES = (*SERVERS, "tests.bench", "tests.engines", "tests.unit")


def imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def foreign(source: str, places: tuple[str, ...] = SERVERS) -> list[str]:
    return sorted(name for name in imported(source) if f"{name}.".startswith(tuple(f"{place}." for place in places)))


def importers(folder: Path, places: tuple[str, ...]) -> dict[str, list[str]]:
    found = {str(path.relative_to(TESTS)): foreign(path.read_text(), places) for path in folder.rglob("*.py")}
    assert found, folder
    return {path: names for path, names in found.items() if names}


def test_unit_tests_import_nothing_from_other_stages() -> None:
    assert importers(UNIT, tuple(name for name in STAGES if name != "tests.unit")) == {}


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "tests.unit"])
def test_no_other_stage_imports_from_unit_tests(stage: str) -> None:
    assert importers(TESTS / stage.removeprefix("tests."), ("tests.unit",)) == {}


def test_what_stages_share_knows_no_stage() -> None:
    assert importers(TESTS / "support", STAGES) == {}


def test_such_an_import_is_seen() -> None:
    assert foreign("from tests.cluster.helpers import llm\nimport tests.e2e.space\nfrom tests import web") == [
        "tests.cluster.helpers.llm",
        "tests.e2e.space",
        "tests.web",
    ]
    assert foreign("from tests.support.objects import llm") == []
    assert foreign("from tests.unit.helm.rendering import Helm", ("tests.unit",)) == ["tests.unit.helm.rendering.Helm"]
