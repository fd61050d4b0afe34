"""`fetch` from a hub that fails: every failure has its own reason, and what can be overcome is."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faulty_hub import Fault, FaultyHub
from tests.unit.modeltools.tool import COPIES, MIB, PIECE, REPOSITORY, Tool, write_model, write_safetensors
from tests.waiting import eventually

SHARD = "model-00002-of-00002.safetensors"
RETRY, FINAL = 4, 3


def assert_nothing_visible(tool: Tool) -> None:
    models = tool.cache / "models"
    entries = [entry.name for folder in models.glob("*") for entry in folder.iterdir()]
    assert all(name.endswith((".partial", ".lock")) for name in entries)


def test_what_can_be_overcome_is_and_nothing_is_sent_twice(tool: Tool) -> None:
    stall, cut, error, ever = COPIES[:4]
    tool.fail(
        Fault("stall", f"file/{stall}/{SHARD}", after=2 * PIECE, times=1),
        Fault("cut", f"file/{cut}/{SHARD}", after=PIECE, times=2),
        Fault("status", f"file/{error}/{SHARD}", status=503, times=1),
        Fault("stall", f"file/{ever}/{SHARD}"),
    )
    *done, never = tool.fetch_each(stall, cut, error, ever, more=["--stall-seconds", "2", "--attempts", "2"])
    for name, each in zip((stall, cut, error), done, strict=True):
        assert each.code == 0, each.errors
        assert (tool.directory(repository=name) / SHARD).read_bytes() == (tool.hub.root / name / SHARD).read_bytes()
        tool.sent_once(name)
    assert f"GET file/{stall}/{SHARD} {2 * PIECE}-" in tool.hub.requests
    assert any("DownloadStalled" in str(line.get("detail")) for line in done[0].progress)
    assert f"GET file/{cut}/{SHARD} {2 * PIECE}-" in tool.hub.requests
    # The client itself goes on after a cut: that is no failure.
    assert not any("next attempt" in str(line.get("detail")) for line in done[1].progress)
    assert (never.code, never.reason) == (RETRY, "DownloadStalled")
    assert never.result is not None
    assert never.result["retry"] is True
    assert f"no byte of {ever} arrived" in never.result["message"]
    assert not tool.directory(repository=ever).exists()


def test_a_rate_limit_is_waited_for(tool: Tool) -> None:
    headers = {"Retry-After": "1"}
    subjects = ["api/{}", "tree/{}", "resolve/{}/*", "file/{}/model-00002*"]
    matches = [subject.format(name) for subject, name in zip(subjects, COPIES, strict=False)]
    tool.fail(*(Fault("status", match, status=429, headers=headers, times=1) for match in matches))
    start = time.monotonic()
    for done in tool.fetch_each(*COPIES[: len(subjects)]):
        assert done.code == 0, done.errors
        assert any("HubRateLimited: next attempt in 1 s" in str(line.get("detail")) for line in done.progress)
    assert time.monotonic() - start >= 1


def test_a_rate_limit_that_lasts_is_left_to_another_pod(tool: Tool) -> None:
    limits: list[dict[str, str]] = [
        {"Retry-After": "3600"},
        {"RateLimit": '"api";r=0;t=3600', "RateLimit-Policy": '"api";q=1;w=3600'},
        {},
    ]
    tool.fail(
        *(
            Fault("status", f"api/{name}", status=429, headers=limit)
            for name, limit in zip(COPIES, limits, strict=False)
        )
    )
    done = tool.fetch_each(*COPIES[:3], more=["--attempts", "2"])
    assert [(each.code, each.reason) for each in done] == [(RETRY, "HubRateLimited")] * 3
    messages = [str(each.result["message"]) for each in done if each.result]
    assert ["3600 s" in message for message in messages] == [True, True, False]
    # The long ones at once, the other one after as many attempts as it has.
    assert [tool.hub.requests.count(f"GET api/{name}") for name in COPIES[:3]] == [1, 1, 2]


def test_a_refusal_is_final_and_has_its_own_reason(tool: Tool) -> None:
    refusals = [
        ("api/{}", 401, "ModelAccessDenied"),
        ("api/{}", 403, "ModelGated"),
        ("tree/{}", 403, "ModelGated"),
        # Everybody may see the list of a gated model's files.
        ("resolve/{}/*", 403, "ModelGated"),
        ("resolve/{}/model-00002*", 404, "WeightsMissing"),
    ]
    tool.fail(
        *(
            Fault("status", subject.format(name), status=status)
            for (subject, status, _), name in zip(refusals, COPIES, strict=True)
        )
    )
    done = tool.fetch_each(*COPIES, HF_TOKEN="hf_something")
    assert [(each.code, each.reason) for each in done] == [(FINAL, reason) for _, _, reason in refusals]
    assert_nothing_visible(tool)


@pytest.mark.parametrize("token", ["", "hf_something"])
def test_a_repository_that_does_not_exist(tool: Tool, token: str) -> None:
    # To strangers the hub answers 401 for it.
    done = tool.fetch(repository="acme/none", HF_TOKEN=token)
    assert done.result is not None
    assert ("give a token" in done.result["message"]) == (token == "")
    assert (done.code, done.reason) == (FINAL, "ModelNotFound")


@pytest.mark.parametrize("revision", ["v9", "0" * 40])
def test_a_revision_that_does_not_exist(tool: Tool, revision: str) -> None:
    done = tool.fetch("--revision", revision)
    assert (done.code, done.reason) == (FINAL, "RevisionNotFound")
    assert done.result is not None
    assert revision in done.result["message"]


def test_a_name_that_is_none(tool: Tool) -> None:
    for done in tool.fetch_each("../../etc", "a/b/c", "acme/..", "no spaces", ""):
        assert (done.code, done.reason) == (FINAL, "ModelNotFound")
    assert tool.hub.requests == []


def test_a_hub_that_is_away(tool: Tool) -> None:
    done = tool.fetch("--attempts", "2", HF_ENDPOINT="http://127.0.0.1:9")
    assert (done.code, done.reason) == (RETRY, "HubUnreachable")
    assert done.result is not None
    assert "http://127.0.0.1:9" in done.result["message"]


def test_other_content_than_the_hub_lists(tool: Tool) -> None:
    lies, shard, config, once = COPIES[:4]
    tool.fail(
        Fault("size", f"tree/{lies}", delta=1000),
        Fault("corrupt", f"file/{shard}/model-00002*"),
        Fault("corrupt", f"file/{config}/config.json"),
        Fault("corrupt", f"file/{once}/model-00002*", times=1),
    )
    *damaged, mended = tool.fetch_each(lies, shard, config, once)
    assert [(each.code, each.reason) for each in damaged] == [(FINAL, "WeightsCorrupt")] * 3
    assert mended.code == 0, mended.errors
    assert (tool.directory(repository=once) / SHARD).read_bytes() == (tool.hub.root / once / SHARD).read_bytes()
    for name in (lies, shard, config):
        assert not tool.directory(repository=name).exists()


def test_weights_that_cannot_be_served(tmp_path: Path) -> None:
    others = {"pytorch_model.bin": "pickle", "model.Q4_K_M.gguf": "llama.cpp", "README.md": "no weights"}
    for number, file in enumerate(others):
        folder = tmp_path / "hub" / COPIES[number]
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / file).write_bytes(b"weights")
    write_safetensors(tmp_path / "hub" / COPIES[3] / "model.safetensors", 100)
    (tmp_path / "cache").mkdir()
    with FaultyHub(tmp_path / "hub") as hub:
        *missing, unconfigured = Tool(hub, tmp_path).fetch_each(*COPIES[:4])
    for done, advice in zip(missing, others.values(), strict=True):
        assert (done.code, done.reason) == (FINAL, "WeightsMissing")
        assert done.result is not None
        assert advice in done.result["message"]
    assert (unconfigured.code, unconfigured.reason) == (FINAL, "ModelConfigMissing")
    assert not hub.sent
    assert os.listdir(tmp_path / "cache") == []


def test_a_volume_that_is_too_small_is_told_before(tool: Tool) -> None:
    tool.fail(Fault("size", f"tree/{REPOSITORY}", delta=1 << 50))
    done = tool.fetch()
    assert (done.code, done.reason) == (FINAL, "DiskFull")
    assert done.result is not None
    assert f"needs {2 * (1 << 50) + 2 * MIB}"[:12] in done.result["message"]
    assert not tool.hub.sent


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """4 MiB in memory."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small volume needs root")
def test_a_volume_that_becomes_full_meanwhile(tmp_path: Path, small_volume: Path) -> None:
    write_model(tmp_path / "hub" / REPOSITORY, shards=1, size=2 * MIB)
    with FaultyHub(tmp_path / "hub") as hub:
        tool = Tool(hub, tmp_path)
        hub.faults = [Fault("rate", rate=2 * MIB)]
        with tool.running(*tool.arguments("--flat", str(small_volume))) as started:
            eventually(lambda: hub.sent[f"{REPOSITORY}/model-00001-of-00001.safetensors"] > 0)
            filler = small_volume / "filler"
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(bytes(8 * MIB))
            done = started.end()
        assert (done.code, done.reason) == (FINAL, "DiskFull")
        assert done.result is not None
        assert "0 free" in done.result["message"]
        assert not (small_volume / "config.json").exists()
        # Room again: it goes on.
        filler.unlink()
        hub.faults = []
        assert tool.fetch("--flat", str(small_volume)).code == 0


def test_a_volume_that_is_not_mounted(tool: Tool) -> None:
    tool.cache.rmdir()
    done = tool.fetch()
    assert (done.code, done.reason) == (FINAL, "ModelPathMissing")
