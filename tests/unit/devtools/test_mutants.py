"""Mutants: each is valid code with one change, and one that no test notices is found."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from devtools import mutants

KIND = "    return value if isinstance(value, dict) else NOTHING"


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("a == b", ["a == b  ->  a != b"]),
        ("a < 1", ["a < 1  ->  a <= 1", "1  ->  2"]),
        ("a and not b", ["a and (not b)  ->  a or not b", "not b  ->  b"]),
        (
            "a + b if c else True",
            ["a + b if c else True  ->  True if c else a + b", "a + b  ->  a - b", "True  ->  False"],
        ),
        ("f'{a}' 'text'", []),
    ],
)
def test_every_change_that_can_be_made(source: str, changes: list[str]) -> None:
    found = list(mutants.mutants(source))
    assert sorted(one.change.replace("(", "").replace(")", "") for one in found) == sorted(
        change.replace("(", "").replace(")", "") for change in changes
    )


def test_every_mutant_of_a_real_module_is_code() -> None:
    source = Path(mutants.__file__).read_text()
    found = list(mutants.mutants(source))
    assert len(found) > 20
    for mutant in found:
        assert ast.dump(ast.parse(mutant.source)) != ast.dump(ast.parse(source))
        assert '"""Whether the tests pass with another source' in mutant.source


def test_one_that_no_test_notices_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = mutants.PACKAGE / "llm_operator" / "foreign.py"
    (tmp_path / "test_it.py").write_text(
        "from llm_operator.foreign import read_object\n\n\ndef test_it() -> None:\n    assert read_object('[]') == {}\n"
    )
    lines = module.read_text().splitlines()
    after = lines.index(next(line for line in lines if line.startswith("def read_object")))
    absent, kind = (lines.index(text, after) + 1 for text in ("    if text is None:", KIND))
    assert mutants.main([str(module), str(tmp_path), "--lines", f"{absent}-{absent}"]) == 1
    assert "text is None  ->  text is not None\n1 mutants, 1 survived" in capsys.readouterr().out
    assert mutants.main([str(module), str(tmp_path), "--lines", f"{kind}-{kind}"]) == 0
