"""`fetch` from a hub that fails: every failure has its own reason, and what can be overcome is."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faulty_hub import Fault, FaultyHub
from tests.unit.modeltools.tool import MIB, PIECE, REPOSITORY, Tool, wait_for, write_model, write_safetensors

SHARD = "model-00002-of-00002.safetensors"
FILE = f"file/{REPOSITORY}/{SHARD}"
RETRY, FINAL = 4, 3


def assert_nothing_visible(tool: Tool) -> None:
    models = tool.cache / "models"
    entries = [entry.name for folder in models.glob("*") for entry in folder.iterdir()]
    assert all(name.endswith((".partial", ".lock")) for name in entries)


def assert_fetched(tool: Tool) -> None:
    assert (tool.directory() / SHARD).read_bytes() == (tool.hub.root / REPOSITORY / SHARD).read_bytes()


def test_a_stall_is_ended_and_the_file_continued(tool: Tool) -> None:
    tool.fail(Fault("stall", FILE, after=2 * PIECE, times=1))
    done = tool.fetch("--stall-seconds", "1")
    assert done.code == 0, done.errors
    assert_fetched(tool)
    tool.sent_once()
    assert f"GET {FILE} {2 * PIECE}-" in tool.hub.requests
    assert any("DownloadStalled" in str(line.get("detail")) for line in done.progress)


def test_a_stall_for_ever_fails_with_what_is_there(tool: Tool) -> None:
    tool.fail(Fault("stall", FILE))
    done = tool.fetch("--stall-seconds", "1", "--attempts", "2")
    assert (done.code, done.reason) == (RETRY, "DownloadStalled")
    assert done.result is not None
    assert done.result["retry"] is True
    assert "no byte of acme/tiny arrived" in done.result["message"]
    assert_nothing_visible(tool)


def test_a_cut_connection_is_continued(tool: Tool) -> None:
    tool.fail(Fault("cut", FILE, after=PIECE, times=2))
    assert tool.fetch().code == 0
    assert_fetched(tool)
    assert [request for request in tool.hub.requests if request.startswith(f"GET {FILE}")][:2] == [
        f"GET {FILE} 0-",
        f"GET {FILE} {PIECE}-",
    ]
    tool.sent_once()


@pytest.mark.parametrize("match", [f"tree/{REPOSITORY}", FILE])
def test_a_rate_limit_is_waited_for(tool: Tool, match: str) -> None:
    tool.fail(Fault("status", match, status=429, headers={"Retry-After": "1"}, times=1))
    start = time.monotonic()
    done = tool.fetch()
    assert done.code == 0, done.errors
    assert time.monotonic() - start >= 1
    assert any("HubRateLimited: next attempt in 1 s" in str(line.get("detail")) for line in done.progress)
    tool.sent_once()


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "3600"}, {"RateLimit": '"api";r=0;t=3600', "RateLimit-Policy": '"api";q=1;w=3600'}]
)
def test_a_long_rate_limit_is_left_to_another_pod(tool: Tool, headers: dict[str, str]) -> None:
    tool.fail(Fault("status", f"api/{REPOSITORY}", status=429, headers=headers))
    done = tool.fetch()
    assert (done.code, done.reason) == (RETRY, "HubRateLimited")
    assert done.result is not None
    assert "3600 s" in done.result["message"]


def test_a_rate_limit_without_an_end(tool: Tool) -> None:
    tool.fail(Fault("status", f"api/{REPOSITORY}", status=429))
    done = tool.fetch("--attempts", "2")
    assert (done.code, done.reason) == (RETRY, "HubRateLimited")
    assert len(tool.hub.requests) == 2


@pytest.mark.parametrize(
    ("match", "status", "reason"),
    [
        (f"api/{REPOSITORY}", 401, "ModelAccessDenied"),
        (f"api/{REPOSITORY}", 403, "ModelGated"),
        (f"tree/{REPOSITORY}", 403, "ModelGated"),
        # Everybody may see the list of a gated model's files.
        (f"resolve/{REPOSITORY}/*", 403, "ModelGated"),
        (f"resolve/{REPOSITORY}/{SHARD}", 404, "WeightsMissing"),
    ],
)
def test_a_refusal_is_final_and_has_its_own_reason(tool: Tool, match: str, status: int, reason: str) -> None:
    tool.fail(Fault("status", match, status=status))
    done = tool.fetch(HF_TOKEN="hf_something")
    assert (done.code, done.reason) == (FINAL, reason)
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


@pytest.mark.parametrize("repository", ["../../etc", "a/b/c", "acme/..", "no spaces", ""])
def test_a_name_that_is_none(tool: Tool, repository: str) -> None:
    done = tool.fetch(repository=repository)
    assert (done.code, done.reason) == (FINAL, "ModelNotFound")
    assert tool.hub.requests == []


def test_a_hub_that_is_away(tool: Tool) -> None:
    done = tool.fetch("--attempts", "2", HF_ENDPOINT="http://127.0.0.1:9")
    assert (done.code, done.reason) == (RETRY, "HubUnreachable")
    assert done.result is not None
    assert "http://127.0.0.1:9" in done.result["message"]


def test_an_error_of_the_hub_is_tried_again(tool: Tool) -> None:
    tool.fail(Fault("status", FILE, status=503, times=1))
    assert tool.fetch().code == 0
    assert_fetched(tool)


def test_a_hub_that_lies_about_sizes(tool: Tool) -> None:
    tool.fail(Fault("size", f"tree/{REPOSITORY}", delta=1000))
    done = tool.fetch()
    assert (done.code, done.reason) == (FINAL, "WeightsCorrupt")
    assert_nothing_visible(tool)


def test_other_bytes_than_the_hub_says_are_fetched_once_more(tool: Tool) -> None:
    tool.fail(Fault("corrupt", FILE, times=1))
    assert tool.fetch().code == 0
    assert_fetched(tool)


@pytest.mark.parametrize("match", [FILE, f"file/{REPOSITORY}/config.json"])
def test_other_bytes_every_time(tool: Tool, match: str) -> None:
    tool.fail(Fault("corrupt", match))
    done = tool.fetch()
    assert (done.code, done.reason) == (FINAL, "WeightsCorrupt")
    assert_nothing_visible(tool)


@pytest.mark.parametrize(
    ("file", "reason", "advice"),
    [
        ("pytorch_model.bin", "WeightsMissing", "pickle"),
        ("model.Q4_K_M.gguf", "WeightsMissing", "llama.cpp"),
        ("README.md", "WeightsMissing", "no weights"),
    ],
)
def test_weights_in_other_formats(tmp_path: Path, file: str, reason: str, advice: str) -> None:
    folder = tmp_path / "hub" / REPOSITORY
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / file).write_bytes(b"weights")
    (tmp_path / "cache").mkdir()
    with FaultyHub(tmp_path / "hub") as hub:
        done = Tool(hub, tmp_path).fetch()
        assert (done.code, done.reason) == (FINAL, reason)
        assert done.result is not None
        assert advice in done.result["message"]
        assert not hub.sent
    assert os.listdir(tmp_path / "cache") == []


def test_weights_without_a_configuration(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "hub" / REPOSITORY / "model.safetensors", 100)
    (tmp_path / "cache").mkdir()
    with FaultyHub(tmp_path / "hub") as hub:
        done = Tool(hub, tmp_path).fetch()
    assert (done.code, done.reason) == (FINAL, "ModelConfigMissing")


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
            wait_for(lambda: hub.sent[f"{REPOSITORY}/model-00001-of-00001.safetensors"] > 0)
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
