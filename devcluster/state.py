"""What is known about a node outside of its namespaces: its name, its addresses, where its files are, who may touch it.

The record is written before anything is done on the host, and everything to undo follows from it. So `down`
can undo a node whose tool, or whose first process, was killed at any moment.
"""

import fcntl
import ipaddress
import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from devcluster.cache import cache_dir

MAX_NODES = 30
"""Nodes at a time on one machine. 30 keeps the pod, service and link networks apart (10.100-129, 200-229, 231)."""

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")


class ClusterError(Exception):
    """The development cluster cannot do what was asked; the text says why and what to do."""


def cluster_dir() -> Path:
    """Return the directory that holds one folder per node."""
    return cache_dir() / "cluster"


@dataclass(frozen=True)
class NodeState:
    """One node: its name, the index all of its addresses derive from, its folder, and the boot it was started in."""

    name: str
    index: int
    directory: str
    """Absolute path of the node's folder."""
    boot_id: str
    """The host kernel's boot id at start; a record of an earlier boot describes nothing that still exists."""

    @property
    def path(self) -> Path:
        """The node's folder."""
        return Path(self.directory)

    @property
    def hostname(self) -> str:
        """Name of the Node object and hostname inside."""
        return f"llmop-{self.name}"

    @property
    def link(self) -> str:
        """The host's end of the veth pair (an interface name has at most 15 bytes)."""
        return f"llmop{self.index}"

    @property
    def cgroup(self) -> str:
        """Name, under the root of every cgroup hierarchy, of the group that holds the node's pods."""
        return f"llmop{self.index}-{self.name}"

    @property
    def host_ip(self) -> str:
        """Address of the host's end of the veth pair."""
        return f"10.231.{self.index}.1"

    @property
    def node_ip(self) -> str:
        """Address of the node: API server, kubelet."""
        return f"10.231.{self.index}.2"

    @property
    def link_cidr(self) -> str:
        """Network of the veth pair."""
        return f"10.231.{self.index}.0/30"

    @property
    def pod_cidr(self) -> str:
        """Network of the pods."""
        return f"10.{100 + self.index}.0.0/16"

    @property
    def service_cidr(self) -> str:
        """Network of the Services' cluster IPs."""
        return f"10.{200 + self.index}.0.0/16"

    @property
    def api_service_ip(self) -> str:
        """Cluster IP of the Service `kubernetes`."""
        return f"10.{200 + self.index}.0.1"

    @property
    def kubeconfig(self) -> Path:
        """Administrator's kubeconfig; valid on the host and inside."""
        return self.path / "kubeconfig"

    @property
    def spec_file(self) -> Path:
        """What the first process inside is given; its path marks the node's processes."""
        return self.path / "inside.json"

    @property
    def volumes(self) -> Path:
        """Folder for hostPath volumes; the same path on the host and inside."""
        return self.path / "volumes"


def check_name(name: str) -> str:
    """Return `name`, or raise ClusterError if it cannot name a folder, a cgroup and a Kubernetes node."""
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"cluster name {name!r} is not usable: expected 1 to 30 of a-z, 0-9 and '-', starting with a letter and "
            "ending with a letter or digit; choose another with --name"
        )
    return name


def boot_id() -> str:
    """Return the identity of the host kernel's current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def record_path(name: str) -> Path:
    """Return the file that records the node while there is anything of it to undo."""
    return cluster_dir() / name / "node.json"


def read(name: str) -> NodeState | None:
    """Return the record of the node, or None if nothing is up (or left over) under that name."""
    try:
        data = json.loads(record_path(name).read_text())
        return NodeState(**data)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ClusterError(f"{record_path(name)} cannot be read ({error}); delete it if no such node runs") from error


def write(state: NodeState) -> None:
    """Record the node, durably and in one step."""
    path = record_path(state.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump(asdict(state), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def known() -> list[NodeState]:
    """Return every recorded node of this cache directory, by name."""
    return [state for path in sorted(cluster_dir().glob("*/node.json")) if (state := read(path.parent.name))]


@contextmanager
def lock(name: str, timeout: float = 900.0) -> Iterator[None]:
    """Hold the lock `name` (a node's, or `.index`); the kernel releases it when the holder dies.

    Raises ClusterError after `timeout` seconds.
    """
    cluster_dir().mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    with (cluster_dir() / f".{name}.lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ClusterError(f"another process has worked on cluster {name!r} for {timeout:.0f} s") from None
                time.sleep(0.1)
        yield


def free_index(taken: Iterable[int], routes: Iterable[str], preferred: int = 0) -> int:
    """Return an index that no other node has and whose networks no route of the host overlaps.

    `routes` are networks in CIDR form. `preferred` is tried first. Raises ClusterError if none is free.
    """
    busy = set(taken)
    networks = [ipaddress.ip_network(route, strict=False) for route in routes]
    index: int
    for index in [preferred, *range(MAX_NODES)]:
        probe = NodeState(name="probe", index=index, directory="/", boot_id="")
        own = [ipaddress.ip_network(cidr) for cidr in (probe.link_cidr, probe.pod_cidr, probe.service_cidr)]
        if index not in busy and not any(
            mine.overlaps(other) for mine in own for other in networks if other.version == 4
        ):
            return index
    raise ClusterError(
        f"no free network: all {MAX_NODES} candidates overlap a route (see `ip route`) or a running node; "
        "take a node down with `python -m devcluster down --name NAME`"
    )


def host_routes() -> list[str]:
    """Return the networks that the host routes other than by its default route."""
    output = subprocess.run(["ip", "-j", "-4", "route", "show"], check=True, capture_output=True, text=True).stdout
    return [str(route["dst"]) for route in json.loads(output or "[]") if route.get("dst", "default") != "default"]


def allocate(name: str) -> NodeState:
    """Record and return a new node under `name`: nothing of it exists yet."""
    with lock("index", timeout=30.0):
        others = [state.index for state in known() if state.name != name]
        state = NodeState(
            name=check_name(name),
            index=free_index(others, host_routes()),
            directory=str(cluster_dir() / name),
            boot_id=boot_id(),
        )
        write(state)
        return state
