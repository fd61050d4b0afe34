"""What a hub may say of a repository's files: it is bounded, refused by name, and touches nothing else."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.modeltools import bounds, hub
from llm_operator.modeltools.hub import RemoteFile, listing
from llm_operator.modeltools.modelscope import ModelScope
from llm_operator.modeltools.report import ToolError
from tests.hostile_hub import COMMIT, ELSEWHERE, hostile_hub
from tests.unit.modeltools.tool import OPERATOR


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with hostile_hub() as address:
        yield address


def fetched(endpoint: str, folder: Path, kind: str, before: str = "") -> tuple[int, str]:
    """Exit code and last words of the real `fetch` of one repository, with the real client."""
    cache, result = folder / "cache", folder / "result"
    cache.mkdir()
    (cache / "models" / "hf--victim--model").mkdir(parents=True)
    words = ["fetch", "--root", str(cache), "--source", "huggingFace", "--repository", f"evil/{kind}"]
    words += ["--revision", COMMIT, "--attempts", "1", "--result", str(result)]
    program = f"import sys; sys.argv[1:] = {words!r}; {before}\n"
    program += "from llm_operator.modeltools.__main__ import main\nsys.exit(main())"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(OPERATOR),
        "HOME": str(folder),
        "HF_ENDPOINT": endpoint,
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert list((cache / "models" / "hf--victim--model").iterdir()) == []
    assert not list(folder.rglob("*.safetensors"))
    return done.returncode, result.read_text() if result.exists() else done.stderr


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("twice", "lists 'a.safetensors' of evil/twice twice"),
        ("folder", "lists 'a' of evil/folder as a file and as a folder"),
        ("climbing", "leads elsewhere"),
        ("absolute", "leads elsewhere"),
        ("marker", "with -1 bytes"),
        ("oid", "expected hexadecimal digits"),
        ("names", "is not a path"),
        ("sizes", "with 1111"),
        ("html", "no weights"),
    ],
)
def test_a_hostile_list_of_files_is_refused_and_writes_nothing(
    endpoint: str, tmp_path: Path, kind: str, said: str
) -> None:
    code, words = fetched(endpoint, tmp_path, kind)
    assert code in (3, 4)
    assert said in words
    assert "ToolFailed" not in words


def test_an_answer_without_an_end_takes_no_more_memory(endpoint: str, tmp_path: Path) -> None:
    code, words = fetched(
        endpoint, tmp_path, "listed", "import llm_operator.modeltools.bounds as b; b.MEMORY_BYTES = 64 << 20"
    )
    assert code == 3
    assert "takes more memory to read" in words


def test_pages_without_an_end_take_no_more_time(endpoint: str, tmp_path: Path) -> None:
    code, words = fetched(endpoint, tmp_path, "pages", "import llm_operator.modeltools.bounds as b; b.SECONDS = 2.0")
    assert code == 4
    assert "did not come to an end of its answer within 2 s" in words


def test_a_list_without_an_end_is_cut(endpoint: str, tmp_path: Path) -> None:
    code, words = fetched(endpoint, tmp_path, "many", "import llm_operator.modeltools.hub as h; h.MOST_FILES = 3000")
    assert code in (3, 4)
    assert "no weights" in words


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MOST_FILES", 10)
    assert len(listing((RemoteFile(f"{number}", 1) for number in range(10)), "org/a")) == 10
    with pytest.raises(ToolError, match="more than 10 files") as caught:
        listing((RemoteFile(f"{number}", 1) for number in range(10**9)), "org/a")
    assert caught.value.reason == "WeightsCorrupt"


NAMES = st.lists(
    st.lists(st.sampled_from(["a", "b", "A", "config.json"]), min_size=1, max_size=3).map("/".join), max_size=6
)


@settings(max_examples=1000, deadline=None)
@given(NAMES)
def test_what_is_listed_has_a_place_of_its_own(names: list[str]) -> None:
    clash = len(set(names)) < len(names) or any(other.startswith(f"{name}/") for name in names for other in names)
    with pytest.raises(ToolError, match=r"twice|as a file and as a folder") if clash else contextlib.nullcontext():
        assert [file.name for file in listing((RemoteFile(name, 1) for name in names), "org/a")] == names


HOSTILE: list[Any] = [
    [None], [1], ["a"], [{"CommittedDate": "x"}], [{"CommittedDate": 1, "Revision": ["a" * 40]}],
    [{"Revision": "main"}], [{"CommittedDate": float("inf")}], [{"CommittedDate": [1]}],
]  # fmt: skip


@pytest.mark.parametrize("entries", HOSTILE, ids=str)
def test_modelscope_names_a_commit_or_a_failure(entries: Any) -> None:
    client = ModelScope()
    legacy = SimpleNamespace(list_repo_files=lambda *_, **__: entries, endpoint="http://hub")
    client.__dict__["_api"] = SimpleNamespace(legacy=legacy)
    with pytest.raises(ToolError) as caught:
        client.commit("org/a", None)
    assert caught.value.reason == "HubUnreachable"


def test_the_bounds_end_with_the_question() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(ToolError, match="within 0 s") as caught, bounds.asking(seconds=0.05):
        time.sleep(30)
    assert caught.value.retry
    with pytest.raises(ToolError, match="more memory"), bounds.asking(memory_bytes=64 << 20):
        bytearray(512 << 20)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert len(bytearray(512 << 20)) == 512 << 20


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_a_hub_cannot_send_the_job_into_its_node(endpoint: str, tmp_path: Path, kind: str) -> None:
    code, said = fetched(endpoint, tmp_path, kind)
    assert code != 0
    assert "which is not followed" in said, said
