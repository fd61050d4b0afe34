"""`python -m devtools.mutants MODULE TESTS...`: changes in a module that no test notices (`make mutants`).

Each mutant is the module with one small change: another comparison, `and` for `or`, a condition turned round, a number
that is one larger, an addition for a subtraction. The tests run once for each, in a copy of the package. A mutant that
they all pass with is printed: a test is missing, or the code does nothing there. The exit code is 1 if any survives.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.cache import ROOT

PACKAGE = ROOT / "operator"
SECONDS = 300
"""For the tests with one mutant; a mutant that never ends is noticed."""
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one change. line: where; change: what was there and what is there now; source: all of it."""

    line: int
    change: str
    source: str


def changed(node: ast.AST) -> ast.AST | None:  # noqa: PLR0911 - one kind of change each
    """Return a node with another meaning; None for one that is left as it is."""
    new = copy.deepcopy(node)
    match new:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            new.ops = [COMPARISONS[type(operator)]()]
            return new
        case ast.BoolOp(op=ast.And()):
            new.op = ast.Or()
            return new
        case ast.BoolOp(op=ast.Or()):
            new.op = ast.And()
            return new
        case ast.UnaryOp(op=ast.Not()):
            return new.operand
        case ast.BinOp(op=operator) if type(operator) in OPERATORS:
            new.op = OPERATORS[type(operator)]()
            return new
        case ast.Constant(value=bool()):
            new.value = not new.value
            return new
        case ast.Constant(value=int()):
            new.value = int(str(new.value)) + 1
            return new
        case ast.IfExp():
            new.body, new.orelse = new.orelse, new.body
            return new
    return None


def mutants(source: str) -> Iterator[Mutant]:
    """Yield a module with each change that can be made to it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        new = changed(node)
        if new is None or not isinstance(node, ast.expr):
            continue
        yield Mutant(node.lineno, f"{ast.unparse(node)}  ->  {ast.unparse(new)}", _replaced(source, node, new))


def _replaced(source: str, node: ast.expr, new: ast.AST) -> str:
    """The text with one node's place taken by another, in brackets; all else stays, comments too."""
    lines = source.encode().splitlines(keepends=True)
    start = sum(len(line) for line in lines[: node.lineno - 1]) + node.col_offset
    end = sum(len(line) for line in lines[: (node.end_lineno or node.lineno) - 1]) + (node.end_col_offset or 0)
    whole = source.encode()
    return (whole[:start] + f"({ast.unparse(new)})".encode() + whole[end:]).decode()


def survives(package: Path, module: Path, source: str, tests: Sequence[str]) -> bool:
    """Whether the tests pass with another source of one module of a copy of the package."""
    target = package / module.relative_to(PACKAGE)
    before = target.read_text()
    target.write_text(source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-o",
        f"pythonpath={package} . images/web",
    ]
    # Bytecode is found by time and size, which two mutants may share.
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *tests], cwd=ROOT, env=environment, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        target.write_text(before)
    if done.returncode > 1:
        sys.exit(done.stdout.decode()[-2000:] + done.stderr.decode()[-2000:])
    return done.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests with each mutant, and print the ones that survive."""
    parser = argparse.ArgumentParser(prog="devtools.mutants", description="Changes in a module that no test notices.")
    parser.add_argument("module", type=Path, help="such as operator/llm_operator/pipeline/retention.py")
    parser.add_argument("tests", nargs="+", help="what pytest runs")
    parser.add_argument("--lines", metavar="FIRST-LAST", default="1-1000000", help="only changes in these lines")
    options = parser.parse_args(arguments)
    first, last = (int(number) for number in options.lines.split("-"))
    module = options.module.resolve()
    source = module.read_text()
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "operator"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        if not survives(package, module, source, options.tests):
            sys.exit("the tests fail without any change")
        found = [mutant for mutant in mutants(source) if first <= mutant.line <= last]
        left = 0
        for mutant in found:
            if survives(package, module, mutant.source, options.tests):
                left += 1
                print(f"{options.module}:{mutant.line}: {mutant.change}", flush=True)
    print(f"{len(found)} mutants, {left} survived")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
