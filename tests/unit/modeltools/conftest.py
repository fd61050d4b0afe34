"""A hub on loopback with one model, and the tools with an empty volume."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faulty_hub import FaultyHub

pytest.register_assert_rewrite("tests.unit.modeltools.tool")

from tests.unit.modeltools.tool import COPIES, REPOSITORY, Tool, write_model  # noqa: E402 - after the line above


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model acme/tiny, by several names; nothing changes it."""
    root = tmp_path_factory.mktemp("hub")
    write_model(root / REPOSITORY)
    for name in COPIES:
        (root / name).symlink_to(root / REPOSITORY)
    return root


@pytest.fixture
def tool(model_root: Path, tmp_path: Path) -> Iterator[Tool]:
    """The command line beside a hub of its own."""
    (tmp_path / "cache").mkdir()
    with FaultyHub(model_root) as hub:
        yield Tool(hub, tmp_path)


@pytest.fixture(scope="session")
def fetched_cache(model_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume with the model, fetched once for all tests."""
    folder = tmp_path_factory.mktemp("fetched")
    (folder / "cache").mkdir()
    with FaultyHub(model_root) as hub:
        done = Tool(hub, folder).fetch()
        assert done.code == 0, done.errors
    return folder / "cache"


@pytest.fixture
def fetched(tool: Tool, fetched_cache: Path) -> Tool:
    """The command line with a volume that has the model."""
    shutil.copytree(fetched_cache, tool.cache, dirs_exist_ok=True)
    return tool
