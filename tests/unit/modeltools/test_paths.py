"""Text of somebody else becomes a path in one place, and none that leaves its root."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_operator.modeltools import inspection, layout, paths
from llm_operator.modeltools.hub import RemoteFile
from llm_operator.modeltools.report import ToolError

OPERATOR = Path(__file__).parents[3] / "operator" / "llm_operator"

HOSTILE = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(
            ["..", ".", "", "a", "models", "..\0", "~", "$HOME", "\\..", "%2e%2e", "\u2024\u2024", "a" * 300, "\ud800"]
        ),
        max_size=20,
    ).map("/".join),
    st.text(alphabet="./\\\0\n\u202ea", max_size=30),
    st.one_of(st.none(), st.integers(), st.binary(max_size=5), st.lists(st.text(max_size=3), max_size=2)),
)  # fmt: skip


def made(make: Callable[[], Path], reason: str = "ModelPathMissing") -> Path | None:
    """What it makes; None if it refuses, for that reason and in a few words."""
    try:
        return make()
    except ToolError as error:
        refused = error
    assert refused.reason == reason
    assert len(str(refused)) < 600
    return None


@settings(max_examples=1_500, deadline=None)
@given(text=HOSTILE)
@example(text="models/hf--a--b/" + "c" * 40)
@example(text="/etc/passwd")
@example(text="a/../../b")
def test_no_text_leaves_the_root(text: object) -> None:
    root = Path("/nonexistent/root")
    path = made(lambda: paths.below(root, text), "ModelPathMissing")
    if path is None:
        return
    assert isinstance(text, str)
    assert os.path.normpath(path) == str(path)
    assert str(path).startswith(f"{root}/")
    assert "\0" not in str(path)
    str(path).encode()


@settings(max_examples=1_500, deadline=None)
@given(text=HOSTILE)
def test_no_file_of_a_listing_an_index_or_a_marker_leaves_its_folder(text: object) -> None:
    named = made(lambda: RemoteFile(text, 1).within(Path("/nonexistent")), "WeightsCorrupt")  # type: ignore[arg-type]
    assert named is None or str(named).startswith("/nonexistent/")
    if isinstance(text, str):
        for repository, revision in (("org/name", text), (text, "c" * 40)):
            directory = made(
                functools.partial(layout.model_directory, Path("/nonexistent"), "hf", repository, revision)
            )
            assert directory is None or (directory.parts[:3] == ("/", "nonexistent", "models"))
            assert directory is None or len(directory.parts) == 5


@pytest.mark.parametrize("size", [-1, 1 << 62, None, "12", 1.5, float("inf")])
def test_a_file_has_a_size(size: object) -> None:
    with pytest.raises(ToolError, match="bytes"):
        RemoteFile("model.safetensors", size)  # type: ignore[arg-type]


def test_a_link_leads_nowhere_else(tmp_path: Path) -> None:
    victim, mine = tmp_path / "victim", tmp_path / "mine"
    victim.mkdir()
    mine.mkdir()
    (mine / "sub").symlink_to(victim)
    (mine / "file").symlink_to(victim / "secret")
    (mine / "inside").symlink_to(mine / "there")
    for name in ("sub/model.safetensors", "file", "sub"):
        with pytest.raises(ToolError, match="symbolic link") as caught:
            RemoteFile(name, 1).within(mine)
        assert caught.value.reason == "WeightsCorrupt"
    assert RemoteFile("inside", 1).within(mine) == mine / "inside"


def test_a_marker_and_an_index_are_not_followed_out_of_their_directory(tmp_path: Path) -> None:
    (tmp_path / "outside.safetensors").write_bytes(b"x")
    mine = tmp_path / "mine"
    mine.mkdir()
    facts = '{"bytes": 1, "sha256": ""}'
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "link"):
        (mine / "link").unlink(missing_ok=True)
        (mine / "link").symlink_to(tmp_path / "outside.safetensors")
        (mine / layout.MARKER).write_text(
            f'{{"version": 1, "source": {{}}, "revision": "x", "files": {{"{name}": {facts}}}}}'
        )
        assert layout.read_marker(mine) is not None
        assert layout.complete(mine) is None
        (mine / inspection.INDEX).write_text(f'{{"weight_map": {{"a": "{name}"}}}}')
        with pytest.raises(ToolError) as caught:
            inspection.weight_files(mine)
        assert caught.value.reason == "WeightsCorrupt"


# What is joined elsewhere, and why that is not text of somebody else.
ALLOWED = {
    "cli": {  # files that a person names, and constants beside them
        "path.with_name(QUANTIZATION_BESIDE)",
        "config.with_name(INDEX)", "config.with_name(SINGLE)", "Path(config)", "Path(path)", "Path(name)",
        "Path(folder)", "Path(rest.strip())",
    },
    "modeltools": {
        "Path(__file__)", "Path(__file__).with_name('data')", "Path(HUB_CACHE_TOP, 'huggingface')",
        "directory / PACKAGE.parent.name", "directory / f'.{PACKAGE.parent.name}.partial'",
        "written / PACKAGE.name",  # ours
        "root / name",  # machine.py: constants
        "root.joinpath(*parts_of(text, reason))", "path.with_name(f'{path.name}{ending}')",  # paths.py itself
        "os.path.join(folder, name)", "Path(folder, name)",  # os.walk
        "path.with_name(path.name.removesuffix(layout.PARTIAL))",  # of what glob found
        "Path(work)", "Path(name)",  # tempfile
        "Path(options.directory)", "Path(given)", "Path(result_file)", "Path(sys.argv[1])", "Path(words[0])",
        "Path(path)",
        "Path(fields['folder'])", "Path(given.get('HOME', '/'))", "Path(certifi.where())",  # the operator's own words
        "Path(os.environ.get('LLM_TERMINATION_LOG', '/dev/termination-log'))",
    },
    "": {
        "Path(tempfile.mkdtemp(prefix='llm-operator-'))",
        # kubeconfig.py: what the kubeconfig names that this process was started with
        "cluster_folder / cluster['certificate-authority']", "folder / command", "folder / file", "folder / user[name]",
        "folder / user['tokenFile']", "Path(folder) / name", "Path(path)", "Path(DEFAULT_KUBECONFIG)", "Path(folder)",
    },
    "engines": {"resources.files(__package__).joinpath(FILE)",
                "resources.files('llm_operator.engines').joinpath('data', f'{engine.lower()}.json')"},
    "kube": {"Path(llm_operator.__file__)"},
    "monitoring": {"(options.write or options.check) / name"},
    "reasons": {"Path(name)"},
}  # fmt: skip
NUMBERS = (ast.Mult, ast.Sub, ast.Add, ast.Pow, ast.FloorDiv, ast.LShift, ast.Mod)


def joins(source: str) -> list[str]:
    """The expressions that make a path of anything but constants."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            if not (_constant(node.right) or _number(node)):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            path = name in ("joinpath", "with_name", "with_stem", "Path", "PurePath", "PosixPath", "PurePosixPath")
            path = path or ast.unparse(node.func) in ("os.path.join", "posixpath.join")
            if path and not all(isinstance(argument, ast.Constant) for argument in node.args):
                found.append(ast.unparse(node))
    return found


def _constant(node: ast.expr) -> bool:
    if isinstance(node, ast.Name | ast.Attribute):
        return (node.id if isinstance(node, ast.Name) else node.attr).isupper()
    return isinstance(node, ast.Constant)


def _number(node: ast.BinOp) -> bool:
    """Whether it divides: a path has no minus, no len() and no number beside it."""
    sides = [node.left, node.right]
    return any(
        (isinstance(side, ast.BinOp) and isinstance(side.op, NUMBERS))
        or (isinstance(side, ast.Constant) and isinstance(side.value, int | float))
        or (isinstance(side, ast.Call) and ast.unparse(side.func) in ("len", "sum", "max", "min"))
        or ast.unparse(side).split(".")[-1] in DIVISORS
        for side in sides
    )


DIVISORS = {
    "_layers", "_rate", "original", "count", "rate", "took", "group_size", "seconds", "planned", "block", "first",
}  # fmt: skip
"""Names of numbers that something is divided by."""


def test_nobody_joins_a_path_of_foreign_text() -> None:
    unknown = []
    for file in sorted(OPERATOR.rglob("*.py")):
        package = file.relative_to(OPERATOR).parts[0] if file.parent != OPERATOR else ""
        text = file.read_text()
        if "Path" not in text and "os.path" not in text and "resources" not in text:
            continue
        unknown += [f"{file.name}: {join}" for join in joins(text) if join not in ALLOWED.get(package, set())]
    assert not unknown, "make it with modeltools/paths.py; if no text of somebody else is in it, add it to ALLOWED"


def test_the_search_finds_what_it_looks_for() -> None:
    for line in ("folder / name", "root / f'{a}'", "Path(a, b)", "a.joinpath(*b)", "os.path.join(a, b)", "x / y.name"):
        assert joins(line) == [line]
    for line in ("folder / 'name'", "folder / NAME", "a / 2", "(a - b) / c", "a / len(b)", "Path('/etc')"):
        assert joins(line) == []
