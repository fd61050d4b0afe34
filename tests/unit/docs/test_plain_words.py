"""What people read is in plain English: none of the phrases that CONTRIBUTING.md warns of.

Docs, descriptions of the CRD, values of the chart, every text in the code: messages, remedies, docstrings, comments.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BANNED = {
    r"\b(told|tells)\b(?! you)": "reported, reports, shows, says",
    r"\bwhoever\b": "anyone who, a user who",
    r"\b(any|no)body\b": "anyone, no one; or make it passive",
    r"\bof (its|their|his|our) own\b": "separate, its",
    r"\b(for|after|within|until|but for) so (long|many|much)\b": "this long, after this many seconds",
    r"(?<!there )\b(is|are|was|were) no (?!longer\b)[a-z]": "is not a",
    r"\basked for\b|\basks? for\b": "request, need, use",
    r"\bone's\b": "your, the",
    r"\bheeds?\b": "respects, takes effect",
    r"\bwish(es)?\b": "request",
    r"\bat the least\b": "at least",
    r"\b(brings?|brought)\b": "installs, transfers, contains",
    r"\bany more\b": "no longer",
    r"\blast words\b": "last log line, termination message",
    r"\bbeforehand\b": "first, in advance",
    r"\bin the place of\b": "instead of",
    r"\bis another thing\b": "is different",
    r"\ball else\b": "everything else",
    r"\bwaits? for nothing\b": "starts at once, does not wait",
}
"""A phrase, and what to write instead."""
PHRASES = re.compile("|".join(BANNED), re.IGNORECASE)
PAGES = sorted(
    [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "helm/llm-operator").rglob("*.md"),
        ROOT / "helm/llm-operator/values.yaml",
        ROOT / "helm/llm-operator/templates/NOTES.txt",
        *(ROOT / "crds").glob("*.yaml"),
    ]
)
SOURCES = sorted([*(ROOT / "operator").rglob("*.py"), *(ROOT / "images" / "web").rglob("*.py")])


TEMPLATED = ROOT / "operator/llm_operator/engines/guard/sitecustomize.py"
"""A part of every pod template, word by word: another text would replace every running engine."""
EXPLAINED = [*(path for path in SOURCES if path != TEMPLATED), *sorted((ROOT / "devcluster").rglob("*.py"))]


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string but docstrings; of an f-string, its constant parts."""
    tree = ast.parse(source)
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def explanations(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring's line and every comment."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from enumerate(node.value.value.splitlines(), start=node.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def found(lines: Iterator[tuple[int, str]]) -> list[str]:
    return [
        f"{number}: {phrase[0]!r} in {text.strip()[:120]!r}"
        for number, text in lines
        if (phrase := PHRASES.search(text)) is not None
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_is_in_plain_words(page: Path) -> None:
    assert found(enumerate(page.read_text().splitlines(), start=1)) == []


def test_messages_are_in_plain_words() -> None:
    wrong = [f"{path.relative_to(ROOT)}:{one}" for path in SOURCES for one in found(texts(path.read_text()))]
    assert wrong == []


def test_docstrings_and_comments_are_in_plain_words() -> None:
    wrong = [f"{path.relative_to(ROOT)}:{one}" for path in EXPLAINED for one in found(explanations(path.read_text()))]
    assert wrong == []


def test_the_search_reads_docstrings_and_comments() -> None:
    source = '"""Fine.\n\nIs told.\n"""\nx = "is told"  # whoever\n'
    assert found(explanations(source)) == ["3: 'told' in 'Is told.'", "5: 'whoever' in '# whoever'"]


def test_the_search_finds_what_it_is_for() -> None:
    source = '"""Is told."""\ndef f(x):\n    """Is told."""\n    return f"{x} is no size", "there is no size"\n'
    assert found(texts(source)) == ["4: 'is no s' in 'is no size'"]
