"""`fetch` from ModelScope: its own client against its protocol on loopback."""

from __future__ import annotations

import json
import signal

import pytest

from tests.faulty_hub import Fault
from tests.unit.modeltools.tool import MIB, REPOSITORY, Tool, wait_for

SHARD = "model-00002-of-00002.safetensors"
FILE = f"file/{REPOSITORY}/{SHARD}"


def test_a_model_is_fetched_whole(tool: Tool) -> None:
    done = tool.fetch(source="modelScope")
    assert done.code == 0, done.errors
    assert done.result is not None
    directory = tool.directory("ms")
    assert tool.cache / done.result["directory"] == directory
    marker = json.loads((directory / ".llm-operator.json").read_text())
    assert marker["source"] == {"kind": "ms", "repository": REPOSITORY}
    for name, facts in marker["files"].items():
        assert (directory / name).read_bytes() == (tool.hub.root / REPOSITORY / name).read_bytes()
        assert tool.hub.hashes(directory / name)[0] == facts["sha256"]
    assert not list(directory.rglob("*.incomplete"))
    tool.sent_once()


def test_what_is_complete_is_not_fetched_again(tool: Tool) -> None:
    tool.fetch(source="modelScope")
    tool.hub.reset()
    done = tool.fetch("--revision", tool.hub.commit(REPOSITORY), source="modelScope")
    assert done.code == 0
    assert tool.hub.requests == []


def test_killed_midway_the_next_one_goes_on(tool: Tool) -> None:
    tool.fail(Fault("stall", FILE, after=MIB // 2, times=1))
    partial = tool.directory("ms").with_name(f"{tool.hub.commit(REPOSITORY)}.partial")
    with tool.fetching(source="modelScope") as started:
        wait_for(lambda: tool.stands_at(SHARD, MIB // 2, partial))
        started.end(signal.SIGKILL)
    assert tool.fetch(source="modelScope").code == 0
    tool.sent_once()


def test_a_stall_is_ended_and_the_file_continued(tool: Tool) -> None:
    tool.fail(Fault("stall", FILE, after=MIB // 2, times=1))
    done = tool.fetch("--stall-seconds", "1", source="modelScope")
    assert done.code == 0, done.errors
    tool.sent_once()


@pytest.mark.parametrize(
    ("match", "status", "reason", "code"),
    [
        (f"tree/{REPOSITORY}", 401, "ModelAccessDenied", 3),
        (f"tree/{REPOSITORY}", 403, "ModelGated", 3),
        (FILE, 403, "ModelGated", 3),
    ],
)
def test_a_refusal_has_its_own_reason(tool: Tool, match: str, status: int, reason: str, code: int) -> None:
    tool.fail(Fault("status", match, status=status))
    done = tool.fetch(source="modelScope")
    assert (done.code, done.reason) == (code, reason)


def test_a_repository_that_does_not_exist(tool: Tool) -> None:
    done = tool.fetch(source="modelScope", repository="acme/none")
    assert (done.code, done.reason) == (3, "ModelNotFound")


def test_a_revision_that_does_not_exist(tool: Tool) -> None:
    done = tool.fetch("--revision", "v9", source="modelScope")
    assert (done.code, done.reason) == (3, "RevisionNotFound")


def test_a_rate_limit_is_waited_for(tool: Tool) -> None:
    tool.fail(Fault("status", FILE, status=429, headers={"Retry-After": "1"}, times=1))
    done = tool.fetch(source="modelScope")
    assert done.code == 0, done.errors
    assert any("HubRateLimited: next attempt in 1 s" in str(line.get("detail")) for line in done.progress)


def test_other_bytes_every_time(tool: Tool) -> None:
    tool.fail(Fault("corrupt", FILE))
    done = tool.fetch(source="modelScope")
    assert (done.code, done.reason) == (3, "WeightsCorrupt")
    assert not tool.directory("ms").exists()
