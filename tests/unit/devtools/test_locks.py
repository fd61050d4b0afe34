"""Every lock names a hash for every package; what the audit makes of its tool's answers."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from typing import Any

import pytest

from devcluster.cache import ROOT
from devtools import audit
from devtools.locks import LOCKS, pins

ENTRY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*==\S+( ;[^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def lines_without_hash(text: str) -> list[str]:
    """Packages of a lock that no hash follows, and lines that are no part of a lock."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    wrong = [line for line in lines if not ENTRY.match(line) and not HASH.match(line)]
    followed = zip(lines, [*lines[1:], ""], strict=True)
    return wrong + [line for line, after in followed if ENTRY.match(line) and not HASH.match(after)]


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_a_version_and_a_hash(name: str) -> None:
    text = (ROOT / name).read_text()
    assert len(pins(text)) >= 5
    assert lines_without_hash(text) == []


def test_a_package_without_a_hash_is_found() -> None:
    assert lines_without_hash("a==1\n") == ["a==1"]
    assert lines_without_hash(f"a==1 \\\nb==2 \\\n    --hash=sha256:{'0' * 64}\n") == ["a==1 \\"]
    assert lines_without_hash("a>=1 \\\n") == ["a>=1 \\"]


def test_no_list_of_packages_is_left_out() -> None:
    listed = {
        str(path.relative_to(ROOT))
        for pattern in ("*.lock", "images/*/requirements.*", "tests/**/requirements/*", "docs/requirements*")
        for path in ROOT.glob(pattern)
    }
    assert listed == set(LOCKS)


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["operator"]]
    asked += project["dependency-groups"]["dev"]

    def normal(pin: str) -> str:
        name, _, version = pin.partition("==")
        return f"{re.sub('[-_.]+', '-', name.partition('[')[0]).lower()}=={version}"

    dev = {normal(pin) for pin in pins((ROOT / "requirements-dev.lock").read_text())}
    assert [pin for pin in asked if normal(pin) not in dev] == []
    runtime = {normal(pin) for pin in pins((ROOT / "requirements.lock").read_text())}
    assert [pin for pin in asked[: -len(project["dependency-groups"]["dev"])] if normal(pin) not in runtime] == []
    assert runtime <= dev
    build = {normal(pin) for pin in pins((ROOT / "images/operator/requirements.build.lock").read_text())}
    assert {normal(pin) for pin in project["build-system"]["requires"]} <= build


def package(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", **more}


VULNERABLE = package("a", vulns=[{"id": "PYSEC-1", "fix_versions": ["1.1"]}, {"id": "PYSEC-2", "fix_versions": []}])


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ([package("a", vulns=[])], 0, "1 packages audited, 0 known vulnerabilities"),
        ([VULNERABLE], 1, "a 1.0: PYSEC-2, fixed in none"),
        ([package("a", skip_reason="not found")], 0, "SKIPPED: no database"),
        ([package("a", vulns=[]), package("b", skip_reason="x")], 0, "1 packages are not in the database"),
        (None, 0, "SKIPPED: no database"),
    ],
)
def test_an_audit_that_could_not_ask_says_so(
    capsys: pytest.CaptureFixture[str], answer: list[dict[str, Any]] | None, code: int, said: str
) -> None:
    def run(_arguments: Sequence[str]) -> str:
        return "" if answer is None else json.dumps({"dependencies": answer})

    assert audit.audit(run, LOCKS[:1]) == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
