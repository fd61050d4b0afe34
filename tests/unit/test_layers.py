"""Unit tests need no server, and nothing that is made for one."""

import ast
from pathlib import Path

UNIT = Path(__file__).parent
SERVERS = ("tests.cluster", "tests.e2e", "tests.faults", "tests.web")


def imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def foreign(source: str) -> list[str]:
    return sorted(name for name in imported(source) if name.startswith(tuple(f"{place}." for place in SERVERS)))


def test_unit_tests_import_nothing_from_tests_with_servers() -> None:
    found = {str(path.relative_to(UNIT)): foreign(path.read_text()) for path in UNIT.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


def test_such_an_import_is_seen() -> None:
    assert foreign("from tests.cluster.helpers import llm\nimport tests.e2e.space") == [
        "tests.cluster.helpers.llm",
        "tests.e2e.space",
    ]
    assert foreign("from tests.support.objects import llm") == []
