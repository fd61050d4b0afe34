"""`fetch` from ModelScope: its own client against its protocol on loopback."""

from __future__ import annotations

import json
import signal

from tests.faulty_hub import Fault
from tests.unit.modeltools.tool import COPIES, MIB, REPOSITORY, Tool
from tests.waiting import eventually

SHARD = "model-00002-of-00002.safetensors"


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
    tool.fail(Fault("stall", f"file/{REPOSITORY}/{SHARD}", after=MIB // 2, times=1))
    partial = tool.directory("ms").with_name(f"{tool.hub.commit(REPOSITORY)}.partial")
    with tool.fetching(source="modelScope", MODELSCOPE_HOME=str(tool.folder / "home")) as started:
        eventually(lambda: tool.stands_at(SHARD, MIB // 2, partial))
        started.end(signal.SIGKILL)
    assert tool.fetch(source="modelScope").code == 0
    tool.sent_once()


def test_faults_of_the_transfer(tool: Tool) -> None:
    stall, limit, corrupt = COPIES[:3]
    tool.fail(
        Fault("stall", f"file/{stall}/{SHARD}", after=MIB // 2, times=1),
        Fault("status", f"file/{limit}/{SHARD}", status=429, headers={"Retry-After": "1"}, times=1),
        Fault("corrupt", f"file/{corrupt}/{SHARD}"),
    )
    stalled, limited, corrupted = tool.fetch_each(
        stall, limit, corrupt, more=["--stall-seconds", "4"], source="modelScope"
    )
    for name, done in ((stall, stalled), (limit, limited)):
        assert done.code == 0, done.errors
        tool.sent_once(name)
    assert any("HubRateLimited: next attempt in 1 s" in str(line.get("detail")) for line in limited.progress)
    assert (corrupted.code, corrupted.reason) == (3, "WeightsCorrupt")
    assert not tool.directory("ms", corrupt).exists()


def test_a_refusal_has_its_own_reason(tool: Tool) -> None:
    refusals = [("tree/{}", 401, "ModelAccessDenied"), ("tree/{}", 403, "ModelGated"), ("file/{}/*", 403, "ModelGated")]
    tool.fail(
        *(
            Fault("status", subject.format(name), status=status)
            for (subject, status, _), name in zip(refusals, COPIES, strict=False)
        )
    )
    done = tool.fetch_each(*COPIES[:3], source="modelScope")
    assert [(each.code, each.reason) for each in done] == [(3, reason) for _, _, reason in refusals]


def test_a_repository_that_does_not_exist(tool: Tool) -> None:
    done = tool.fetch(source="modelScope", repository="acme/none")
    assert (done.code, done.reason) == (3, "ModelNotFound")


def test_a_revision_that_does_not_exist(tool: Tool) -> None:
    done = tool.fetch("--revision", "v9", source="modelScope")
    assert (done.code, done.reason) == (3, "RevisionNotFound")
