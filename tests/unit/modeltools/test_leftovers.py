"""What is left half-done: told in the last words, continued under another commit, and removed by itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_operator.modeltools import layout
from tests.faulty_hub import Fault, FaultyHub
from tests.unit.modeltools.tool import MIB, PIECE, REPOSITORY, Done, Tool, write_model
from tests.waiting import eventually

SECOND = "model-00002-of-00002.safetensors"


def relative(tool: Tool) -> str:
    return str(tool.directory().relative_to(tool.cache))


def half(tool: Tool) -> Path:
    return layout.partial(tool.directory())


def begin(tool: Tool, *more: str) -> None:
    """Fetch all but the end of the second file."""
    tool.fail(Fault("stall", f"file/*/{SECOND}", after=2 * PIECE))
    with tool.fetching(*more) as started:
        eventually(lambda: tool.stands_at(SECOND, 2 * PIECE))
        assert started.end(signal.SIGTERM).code == 143
    tool.hub.reset()


##### Last words


def test_a_failure_tells_what_is_there_so_far(tool: Tool) -> None:
    tool.fail(Fault("stall", f"file/*/{SECOND}", after=2 * PIECE))
    done = tool.fetch("--attempts", "1", "--stall-seconds", "3")
    assert (done.code, done.reason) == (4, "DownloadStalled")
    assert done.result is not None
    assert (done.result["directory"], done.result["bytes"]) == (relative(tool), layout.size_of(half(tool)))
    assert MIB + 2 * PIECE < done.result["bytes"] < 2 * MIB


def test_a_repository_that_vanishes_midway(tool: Tool) -> None:
    tool.fail(Fault("status", f"file/*/{SECOND}", status=404))
    done = tool.fetch()
    assert done.code == 3
    assert done.result is not None
    assert (done.result["directory"], done.result["bytes"]) == (relative(tool), layout.size_of(half(tool)))


def test_where_nothing_was_written_nothing_is_told(tool: Tool) -> None:
    tool.fail(Fault("status", "api/*", status=403))
    done = tool.fetch()
    assert done.result is not None
    assert done.result.keys() == {"ok", "reason", "message", "retry"}


@pytest.mark.parametrize("given", ["branch", "commit"])
def test_a_hub_that_is_away_later_hides_nothing(tool: Tool, given: str) -> None:
    more = ("--revision", tool.hub.commit(REPOSITORY)) if given == "commit" else ()
    begin(tool)
    tool.fail(Fault("status", "api/*", status=500), Fault("status", "tree/*", status=500))
    done = tool.fetch("--attempts", "1", *more)
    assert done.reason == "HubUnreachable"
    assert done.result is not None
    assert (done.result["directory"], done.result["bytes"]) == (relative(tool), layout.size_of(half(tool)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whoever_is_killed_has_told_before(tool: Tool, number: signal.Signals) -> None:
    tool.fail(Fault("stall", f"file/*/{SECOND}", after=2 * PIECE))
    with tool.fetching() as started:
        eventually(lambda: tool.stands_at(SECOND, 2 * PIECE))
        eventually(lambda: started.told_bytes() >= MIB + 2 * PIECE)
        done = started.end(number)
    assert done.code in (143, -signal.SIGKILL)
    assert done.reason == "Interrupted"
    assert done.result is not None
    assert (done.result["directory"], done.result["retry"]) == (relative(tool), True)
    assert MIB + 2 * PIECE <= done.result["bytes"] < 2 * MIB


@pytest.mark.parametrize("command", ["quantize", "convert"])
def test_a_weight_maker_tells_what_an_earlier_one_left(tool: Tool, command: str) -> None:
    output = "models/hf--acme--tiny/abc--made"
    line = (command, "--root", str(tool.cache), "--model", "models/none", "--output", output)
    nothing = tool.run(*line)
    assert nothing.reason == "ModelPathMissing"
    assert nothing.result is not None
    assert "directory" not in nothing.result
    written = layout.partial(tool.cache / output)
    written.mkdir(parents=True)
    (written / "w").write_bytes(bytes(1000))
    written.with_name(f"{written.name}.ladder.json").write_bytes(bytes(24))
    told = tool.run(*line)
    assert told.reason == "ModelPathMissing"
    assert told.result is not None
    assert (told.result["directory"], told.result["bytes"]) == (output, 1024)


##### A branch that moves


@pytest.fixture
def moving(tool: Tool, tmp_path: Path) -> Iterator[Tool]:
    """A hub whose model may change, and half of it on the volume."""
    write_model(tmp_path / "hub" / REPOSITORY)
    with FaultyHub(tmp_path / "hub") as hub:
        yield Tool(hub, tool.folder)


def move(tool: Tool) -> None:
    (tool.hub.root / REPOSITORY / "tokenizer.json").write_text('{"other": 1}')


def test_a_moved_branch_goes_on_with_what_was_begun(moving: Tool) -> None:
    begin(moving)
    earlier = moving.directory()
    move(moving)
    assert moving.directory() != earlier
    done = moving.fetch()
    assert done.code == 0, done.errors
    directory = moving.directory()
    assert sorted(os.listdir(directory.parent)) == [directory.name, f"{directory.name}.lock"]
    assert (directory / "tokenizer.json").read_text() == '{"other": 1}'
    assert {name for name, sent in moving.hub.sent.items() if sent} == {
        f"{REPOSITORY}/{SECOND}",
        f"{REPOSITORY}/tokenizer.json",
    }
    assert moving.hub.sent[f"{REPOSITORY}/{SECOND}"] < MIB, "the beginning of the file was kept"
    assert layout.complete(directory, verify_hashes=True) is not None


def test_where_both_were_begun_the_older_one_goes(moving: Tool) -> None:
    begin(moving)
    earlier = half(moving)
    move(moving)
    begin(moving, "--revision", moving.hub.commit(REPOSITORY))
    assert (earlier.exists(), half(moving).exists()) == (True, True)
    assert moving.fetch().code == 0
    directory = moving.directory()
    assert sorted(os.listdir(directory.parent)) == [directory.name, f"{directory.name}.lock"]


def test_what_somebody_else_asked_for_is_left_alone(moving: Tool) -> None:
    begin(moving, "--revision", moving.hub.commit(REPOSITORY))
    earlier, size = half(moving), layout.size_of(half(moving))
    move(moving)
    assert moving.fetch().code == 0
    assert layout.size_of(earlier) == size


def test_what_somebody_works_on_is_left_alone(moving: Tool) -> None:
    begin(moving)
    earlier, size = half(moving), layout.size_of(half(moving))
    with layout.lock(moving.directory()):
        move(moving)
        assert moving.fetch().code == 0
    assert layout.size_of(earlier) == size


##### Removal


def remove(tool: Tool, path: str) -> Done:
    return tool.run("remove", "--root", str(tool.cache), "--directory", path)


def test_a_beginning_is_removed_by_its_own_name(tool: Tool) -> None:
    begin(tool)
    half(tool).with_name(f"{half(tool).name}.ladder.json").write_bytes(bytes(10))
    (half(tool).with_name(f"{tool.directory().name}.removed-1")).mkdir()
    size = layout.size_of(half(tool)) + 10
    path = f"{relative(tool)}.partial"
    assert remove(tool, path).result == {"ok": True, "directory": path, "bytes": size}
    assert list((tool.cache / "models").iterdir()) == []
    assert remove(tool, path).result == {"ok": True, "directory": path, "bytes": 0}


def test_what_is_whole_stays_when_a_beginning_is_removed(fetched: Tool) -> None:
    half(fetched).mkdir()
    (half(fetched) / "w").write_bytes(bytes(10))
    done = remove(fetched, f"{relative(fetched)}.partial")
    assert done.result is not None
    assert done.result["bytes"] == 10
    assert layout.complete(fetched.directory()) is not None
    assert not half(fetched).exists()


def test_whoever_finishes_it_meanwhile_keeps_it(fetched: Tool) -> None:
    """The removal comes while somebody writes: it waits for the lock, and then there is nothing half-done."""
    fetched.directory().rename(half(fetched))
    ended: list[Done] = []
    removal = threading.Thread(target=lambda: ended.append(remove(fetched, f"{relative(fetched)}.partial")))
    with layout.lock(fetched.directory()):
        removal.start()
        removal.join(2)
        assert ended == []
        half(fetched).rename(fetched.directory())
    removal.join(20)
    assert ended[0].result is not None
    assert ended[0].result["bytes"] == 0
    assert layout.complete(fetched.directory()) is not None


@pytest.mark.parametrize("path", ["models/hf--acme--tiny.partial", "models/a/b.partial.partial", "models/a/.partial"])
def test_a_beginning_of_no_model_is_refused(tool: Tool, path: str) -> None:
    done = remove(tool, path)
    assert (done.code, done.reason) == (3, "ModelPathMissing")
