"""Files that the hub offers by Xet: the real client hf_xet, with its store in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import xet_store
from tests.unit.modeltools.tool import REPOSITORY, Tool

SHARD = "model-00002-of-00002.safetensors"
NAME = f"{REPOSITORY}/{SHARD}"


def store(tool: Tool, path: Path) -> None:
    """Put a file into the store, and offer it as NAME."""
    tool.hub.xet[NAME] = xet_store.write(tool.folder / "store", path, tool.folder)


@pytest.fixture
def stored(tool: Tool) -> Tool:
    """A hub that offers one file by Xet too."""
    tool.hub.xet_store = f"local://{tool.folder / 'store'}"
    store(tool, tool.hub.root / NAME)
    return tool


def assert_fetched(tool: Tool) -> None:
    assert (tool.directory() / SHARD).read_bytes() == (tool.hub.root / NAME).read_bytes()
    assert not (tool.directory() / ".cache").exists()


def test_xet_is_used_where_the_hub_offers_it(stored: Tool) -> None:
    done = stored.fetch()
    assert done.code == 0, done.errors
    assert_fetched(stored)
    assert stored.hub.sent[NAME] == 0
    assert stored.hub.sent[NAME.replace("00002-of", "00001-of")] > 0


def test_where_xet_does_not_work_plain_http_does(stored: Tool) -> None:
    stored.hub.xet_store = "http://127.0.0.1:9"
    done = stored.fetch("--stall-seconds", "2")
    assert done.code == 0, done.errors
    assert_fetched(stored)
    stored.sent_once()
    assert stored.hub.sent[NAME] > 0


def test_the_user_may_turn_xet_off(stored: Tool) -> None:
    assert stored.fetch(HF_HUB_DISABLE_XET="1").code == 0
    assert_fetched(stored)
    assert stored.hub.sent[NAME] > 0


def test_other_bytes_out_of_the_store_are_noticed(stored: Tool, tmp_path: Path) -> None:
    # The store has another file under the hash that the hub tells.
    other = tmp_path / "other"
    other.write_bytes(bytes(1000) + (stored.hub.root / NAME).read_bytes()[1000:])
    store(stored, other)
    failed = stored.fetch()
    assert failed.code != 0
    assert failed.reason == "WeightsCorrupt"
    assert not stored.directory().exists()
