"""What a node is on the host: processes, a link with routes, cgroups. Finding, making and undoing each of them.

Every undoing may be repeated and does not mind what is already gone.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from devcluster.state import ClusterError, NodeState

GONE_TIMEOUT = 30.0
"""Seconds that the kernel gets to end processes, remove cgroups and links."""


@dataclass(frozen=True)
class Processes:
    """The node's two processes that the host knows by name."""

    outer: list[int]
    """unshare(1), which waits for the first process and takes it along."""
    init: int | None
    """The first process inside, by its process id on the host."""


def find_processes(state: NodeState) -> Processes:
    """Find the node's processes by their command line.

    That needs no record of process ids, which a killed tool could have failed to write and the kernel gives out again.
    """
    outer: list[int] = []
    init: int | None = None
    marker = os.fsencode(state.spec_file)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            if arguments[-1] != marker or not any(part.endswith(b"node_inside.py") for part in arguments):
                continue
            status = (entry / "status").read_text()
            if Path(os.fsdecode(arguments[0])).name == "unshare":
                # Between fork and exec the first process still carries this name; it is in a PID namespace already.
                outer.append(int(entry.name))
            if _namespaced_pid(status) == 1:
                init = int(entry.name)
    return Processes([pid for pid in outer if pid != init], init)


def _namespaced_pid(status: str) -> int | None:
    """Return the process id in the innermost PID namespace, or None for a process of the reader's own namespace."""
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            pids = line.split()[1:]
            return int(pids[-1]) if len(pids) > 1 else None
    return None


def kill_processes(state: NodeState) -> None:
    """End the node; returns when the last process of its PID namespace is gone."""
    deadline = time.monotonic() + GONE_TIMEOUT
    while True:
        found = find_processes(state)
        pids = [*found.outer, *([] if found.init is None else [found.init])]
        if not pids:
            return
        if time.monotonic() > deadline:
            raise ClusterError(
                f"processes {pids} of cluster {state.name!r} do not end though killed; see `ps {pids[0]}`"
            )
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def make_link(state: NodeState, init: int) -> None:
    """Connect the host with the node and route to its pods and Services. It vanishes with the node's namespace."""
    _ip("link", "add", state.link, "type", "veth", "peer", "name", "eth0", "netns", str(init))
    _ip("addr", "add", f"{state.host_ip}/30", "dev", state.link)
    _ip("link", "set", state.link, "up")
    for network in (state.pod_cidr, state.service_cidr):
        _ip("route", "add", network, "via", state.node_ip, "dev", state.link)


def remove_link(state: NodeState) -> None:
    """Remove the link and with it the routes; the kernel may be about to do so itself."""
    deadline = time.monotonic() + GONE_TIMEOUT
    while state.link in [name for _, name in socket.if_nameindex()]:
        subprocess.run(["ip", "link", "delete", state.link], check=False, capture_output=True)
        if time.monotonic() > deadline:
            raise ClusterError(f"network link {state.link} cannot be removed; try `ip link delete {state.link}`")
        time.sleep(0.05)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}; a node needs root and veth")


def cgroup_roots() -> list[Path]:
    """Return the mount points of all cgroup hierarchies, of version 1 and 2."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(fields[1]) for fields in lines if fields[2] in {"cgroup", "cgroup2"}]


def make_cgroups(state: NodeState) -> None:
    """Make the group that the kubelet is given as its root, in every hierarchy."""
    for root in cgroup_roots():
        group = root / state.cgroup
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            # A cpuset of version 1 starts empty and cannot hold a process until it is filled.
            if (root / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((root / name).read_text())


def remove_cgroups(state: NodeState) -> None:
    """Remove the node's cgroups; processes that are still being ended delay it."""
    deadline = time.monotonic() + GONE_TIMEOUT
    for root in cgroup_roots():
        while (root / state.cgroup).exists():
            for folder, _, _ in os.walk(root / state.cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            if time.monotonic() > deadline:
                raise ClusterError(f"cgroup {root / state.cgroup} still holds processes; see its cgroup.procs")
            if (root / state.cgroup).exists():
                time.sleep(0.05)


def undo(state: NodeState) -> None:
    """Leave nothing of the node on the host but its folder; safe at any moment of its life and when run again."""
    kill_processes(state)
    remove_link(state)
    remove_cgroups(state)
