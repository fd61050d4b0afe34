"""Taking a node down leaves the machine as it was, also after the node or the tool itself was killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import host
from devcluster.archive import image_archive
from devcluster.cache import ROOT
from devcluster.node import Node, down
from devcluster.state import NodeState, read
from tests.waiting import eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        os.environ.get("LLM_OPERATOR_E2E_USE_EXISTING") == "1", reason="runs on a cluster that is not ours to take down"
    ),
]

NAME = "e2e-down"
SYSCTLS = ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables", "kernel/panic", "kernel/panic_on_oops",
           "vm/overcommit_memory", "net/netfilter/nf_conntrack_max")  # fmt: skip


def machine() -> dict[str, object]:
    """What a node could leave behind. Other nodes may run beside it: theirs carry other names and do not change."""

    def command(*line: str) -> list[str]:
        return sorted(subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines())

    sysctls = {name: path.read_text() for name in SYSCTLS if (path := Path("/proc/sys") / name).exists()}
    # A conntrack table that another node's kube-proxy sizes is not this node's doing, but here none starts or stops.
    return {
        "links": sorted(line.split(": ")[1].split("@")[0] for line in command("ip", "-o", "link")),
        "routes": [line.replace(" linkdown", "") for line in command("ip", "route")],
        "rules": command("iptables-save", "-t", "filter") if shutil.which("iptables-save") else [],
        "mounts": sorted(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()),
        "cgroups": sorted(
            str(path) for path in Path("/sys/fs/cgroup").rglob("*") if path.is_dir() and NAME in path.name
        ),
        "sysctls": sysctls,
    }


def comparable(seen: dict[str, object]) -> dict[str, object]:
    """Without iptables-save's packet counts and dates."""
    rules = seen["rules"]
    assert isinstance(rules, list)
    return {**seen, "rules": [line.split(" [")[0] for line in rules if not line.startswith("#")]}


@pytest.fixture
def before() -> Iterator[dict[str, object]]:
    down(NAME)
    yield comparable(machine())
    down(NAME)


def processes(state: NodeState) -> list[int]:
    found = host.find_processes(state)
    return [*found.outer, *([found.init] if found.init else [])]


def test_down_leaves_nothing(before: dict[str, object]) -> None:
    node = Node.up(NAME)
    assert comparable(machine()) != before, "the comparison sees a running node"
    node.down()
    assert processes(node.state) == []
    assert comparable(machine()) == before


def test_down_after_the_first_process_was_killed(before: dict[str, object]) -> None:
    node = Node.up(NAME)
    init = host.find_processes(node.state).init
    assert init is not None
    os.kill(init, signal.SIGKILL)
    assert down(NAME)
    assert processes(node.state) == []
    assert comparable(machine()) == before


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_down_after_the_tool_was_killed_while_starting(before: dict[str, object], seconds: float) -> None:
    tool = subprocess.Popen(
        [sys.executable, "-m", "devcluster", "up", "--name", NAME],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def recorded() -> bool:
        if read(NAME) is not None:
            return True
        assert tool.poll() is None
        return False

    eventually(recorded, why="the tool records what it is about to do", every=0.02)
    time.sleep(seconds)
    tool.kill()
    tool.wait()
    assert down(NAME)
    assert comparable(machine()) == before


def test_an_image_of_an_earlier_build_goes_with_the_import_of_a_later_one(tmp_path: Path) -> None:
    name = "docker.io/local/rebuilt:1"
    node = Node.up(NAME)
    try:
        for build in range(3):
            archive = tmp_path / f"{build}.tar"
            archive.write_bytes(image_archive(name, {"content": os.urandom(4_000_000)}, {}))
            node.load([archive], {name: str(build)})
        assert node.holds({name: "2"})
        assert not node.holds({name: "1"})
        # One layer of 4 MB as a snapshot: neither earlier builds nor a second copy in the content store.
        eventually(
            lambda: 4e6 < used(node.state.path / "images") < 7e6, 30, lambda: f"{used(node.state.path / 'images')}"
        )
    finally:
        node.down()


def used(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
