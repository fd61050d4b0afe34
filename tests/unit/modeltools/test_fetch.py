"""`fetch` from Hugging Face, when all goes well and when it is interrupted: whole, once, and never half visible."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
from pathlib import Path

import pytest

from tests.faulty_hub import Fault, FaultyHub
from tests.unit.modeltools.tool import LEFT_OUT, PIECE, REPOSITORY, STAGES, Done, Tool, gone, write_model
from tests.waiting import eventually

FIRST = "model-00001-of-00002.safetensors"
SECOND = "model-00002-of-00002.safetensors"
FETCHED = {
    "config.json", "model.safetensors.index.json", "tokenizer.json", "templates/chat.jinja", FIRST, SECOND,
    ".llm-operator.json",
}  # fmt: skip


def names(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def assert_complete(tool: Tool, done: Done) -> None:
    assert done.code == 0, done.errors
    assert done.result is not None
    directory = tool.directory()
    assert tool.cache / done.result["directory"] == directory
    assert names(directory) == FETCHED
    for name in FETCHED - {".llm-operator.json"}:
        assert (directory / name).read_bytes() == (tool.hub.root / REPOSITORY / name).read_bytes()
    assert sorted(os.listdir(directory.parent)) == [directory.name, f"{directory.name}.lock"]


def test_a_model_is_fetched_whole_and_told(tool: Tool) -> None:
    done = tool.fetch()
    assert_complete(tool, done)
    tool.sent_once()
    files = [path for path in tool.directory().rglob("*") if path.is_file() and path.name != ".llm-operator.json"]
    size = sum(path.stat().st_size for path in files)
    assert done.result is not None
    assert done.result["bytes"] == done.result["fetchedBytes"] == size
    assert done.result["revision"] == tool.hub.commit(REPOSITORY)
    assert done.result["weightsBytes"] == 2 << 20
    config = gzip.decompress(base64.b64decode(done.result["config"]))
    assert json.loads(config) == {"model_type": "llama", "hidden_size": 64}


def test_only_what_an_engine_loads_is_fetched(fetched: Tool) -> None:
    assert names(fetched.hub.root / REPOSITORY) - names(fetched.directory()) == set(LEFT_OUT)


def test_the_marker_has_the_hashes_and_the_directory_is_the_groups(fetched: Tool) -> None:
    directory = fetched.directory()
    marker = json.loads((directory / ".llm-operator.json").read_text())
    assert marker["version"] == 1
    assert marker["source"] == {"kind": "hf", "repository": REPOSITORY}
    assert marker["revision"] == directory.name
    assert set(marker["files"]) == FETCHED - {".llm-operator.json"}
    for name, facts in marker["files"].items():
        path = directory / name
        assert facts == {"bytes": path.stat().st_size, "sha256": fetched.hub.hashes(path)[0]}
    # Jobs with other user ids write beside it and remove it.
    assert all(path.stat().st_mode & 0o060 == 0o060 for path in [directory.parent, directory, *directory.rglob("*")])


def test_progress_grows_to_the_end(tool: Tool) -> None:
    tool.fail(Fault("hold", "file/*.safetensors", after=2 * PIECE))
    with tool.fetching() as started:
        eventually(lambda: started.told_bytes() > 0)
        tool.fail()
        done = started.end()
    assert {line["stage"] for line in done.progress} == {"Resolving", "Fetching", "Verifying"}
    order = [STAGES.index(line["stage"]) for line in done.progress]
    assert order == sorted(order)
    lines = [line for line in done.progress if line["stage"] == "Fetching"]
    assert lines[0]["bytes"] == 0
    assert any(0 < line["percent"] < 100 for line in lines)
    for field in ("bytes", "percent"):
        values = [line[field] for line in lines]
        assert values == sorted(values)
    assert lines[-1]["percent"] == 100
    told = max(lines, key=lambda line: int(line.get("bytesPerSecond", 0)))
    assert told["bytesPerSecond"] < 3_000_000
    assert told["secondsLeft"] == pytest.approx((told["totalBytes"] - told["bytes"]) / told["bytesPerSecond"], abs=1)
    assert told["detail"] in (FIRST, SECOND)
    assert all(
        isinstance(value, int) for line in lines for name, value in line.items() if name not in ("stage", "detail")
    )


def test_what_is_complete_is_not_asked_for_again(fetched: Tool) -> None:
    done = fetched.fetch()
    assert_complete(fetched, done)
    assert done.result is not None
    assert done.result["fetchedBytes"] == 0
    # The branch may have moved: that is asked, and no more.
    assert fetched.hub.requests == [f"GET api/{REPOSITORY}"]


def test_a_complete_commit_needs_no_hub(fetched: Tool) -> None:
    commit = fetched.hub.commit(REPOSITORY)
    assert_complete(fetched, fetched.fetch("--revision", commit))
    assert fetched.hub.requests == []


def test_killed_midway_the_next_one_goes_on(tool: Tool) -> None:
    tool.fail(Fault("stall", f"file/*/{SECOND}", after=2 * PIECE, times=1))
    with tool.fetching() as started:
        eventually(lambda: tool.stands_at(SECOND, 2 * PIECE))
        assert not tool.directory().exists()
        [child] = started.children()
        assert started.end(signal.SIGKILL).code == -signal.SIGKILL
        # A child that went on would write beside the next one.
        eventually(lambda: gone(child))
    assert_complete(tool, tool.fetch())
    tool.sent_once()
    assert f"GET file/{REPOSITORY}/{SECOND} {2 * PIECE}-" in tool.hub.requests


def test_sigterm_leaves_what_the_next_one_continues(tool: Tool) -> None:
    tool.fail(Fault("stall", f"file/*/{SECOND}", after=3 * PIECE, times=1))
    with tool.fetching() as started:
        eventually(lambda: tool.stands_at(SECOND, 3 * PIECE))
        [child] = started.children()
        done = started.end(signal.SIGTERM)
    assert done.code == 143
    assert done.reason == "Interrupted"
    assert gone(child)
    assert not tool.directory().exists()
    assert_complete(tool, tool.fetch())
    tool.sent_once()


def test_two_at_once_download_it_once(tool: Tool) -> None:
    tool.fail(Fault("hold", f"file/*/{SECOND}", after=PIECE))
    with tool.fetching() as first:
        eventually(lambda: tool.stands_at(SECOND, PIECE))
        with tool.fetching() as second:
            eventually(lambda: "Waiting" in {line["stage"] for line in second.progress()})
            tool.fail()
            done = [first.end(), second.end()]
    for each in done:
        assert_complete(tool, each)
    tool.sent_once()
    assert [each.result["fetchedBytes"] for each in done if each.result][1] == 0
    assert "Fetching" not in {line["stage"] for line in done[1].progress}


def test_the_revisions_of_a_model_stand_beside_each_other(tool: Tool, tmp_path: Path) -> None:
    write_model(tmp_path / "hub" / REPOSITORY, shards=1, size=1000)
    with FaultyHub(tmp_path / "hub") as hub:
        other = Tool(hub, tool.folder)
        old = hub.commit(REPOSITORY)
        other.fetch()
        (hub.root / REPOSITORY / "tokenizer.json").write_text('{"a": 1}')
        other.fetch()
        assert {path.name for path in other.directory().parent.iterdir() if path.is_dir()} == {
            old,
            hub.commit(REPOSITORY),
        }


def test_of_a_damaged_directory_only_the_damaged_files_are_fetched(fetched: Tool) -> None:
    for name in (FIRST, "config.json"):
        with (fetched.directory() / name).open("r+b") as file:
            file.truncate(10)
    assert_complete(fetched, fetched.fetch())
    assert set(fetched.hub.sent) == {f"{REPOSITORY}/{FIRST}", f"{REPOSITORY}/config.json"}
    fetched.sent_once()


def test_without_a_marker_files_are_checked_and_kept(fetched: Tool) -> None:
    (fetched.directory() / ".llm-operator.json").unlink()
    assert_complete(fetched, fetched.fetch())
    assert not fetched.hub.sent


def test_hashes_are_checked_where_asked_for(fetched: Tool) -> None:
    with (fetched.directory() / FIRST).open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    assert fetched.fetch("--revision", fetched.hub.commit(REPOSITORY)).code == 0
    assert not fetched.hub.sent
    assert_complete(fetched, fetched.fetch("--verify-hashes"))
    assert set(fetched.hub.sent) == {f"{REPOSITORY}/{FIRST}"}


def test_a_volume_of_its_own_gets_the_files_themselves(tool: Tool) -> None:
    target = tool.folder / "model"
    target.mkdir()
    done = tool.fetch("--flat", str(target))
    assert done.code == 0, done.errors
    assert done.result is not None
    assert done.result["directory"] == "."
    assert names(target) == FETCHED
    tool.hub.reset()
    assert tool.fetch("--flat", str(target)).code == 0
    assert tool.hub.requests == []


def test_a_volume_of_its_own_killed_midway(tool: Tool) -> None:
    target = tool.folder / "model"
    target.mkdir()
    tool.fail(Fault("stall", f"file/*/{SECOND}", after=PIECE, times=1))
    with tool.fetching("--flat", str(target)) as started:
        eventually(lambda: tool.stands_at(SECOND, PIECE, target / ".partial"))
        started.end(signal.SIGKILL)
    assert names(target) == {name for name in names(target) if name.startswith(".partial/")}
    # As if it had been killed while it moved the files to their place.
    (target / ".partial" / FIRST).rename(target / FIRST)
    assert tool.fetch("--flat", str(target)).code == 0
    assert names(target) == FETCHED
    tool.sent_once()
