"""The full node: control plane, containerd, kubelet and kube-proxy in separate namespaces, with real pods.

One network, mount, PID, UTS and IPC namespace holds everything, so that one kill removes it. There is no cluster DNS:
a Service is reached by its cluster IP, which the host routes to, or through the API server's proxy.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster import host, toolchain
from devcluster.archive import images_in
from devcluster.cache import Steps, cache_dir
from devcluster.client import ApiClient, ApiError
from devcluster.debian import NODE_PACKAGES, ensure_packages
from devcluster.node_config import CONTAINERD_SOCKET, api_names, files, programs
from devcluster.pause import pause_archive
from devcluster.pki import TOKEN, make_pki, write_kubeconfig
from devcluster.state import (
    ClusterError,
    NodeState,
    allocate,
    boot_id,
    check_name,
    cluster_dir,
    lock,
    read,
    record_path,
)

DEFAULT_NAME = "dev"
READY_SECONDS = 120.0
FAKE_GPUS = 4
"""nvidia.com/gpu of the node. They do not exist: pods that request them are scheduled and see no device."""

# What one run leaves in the node's folder; images and volumes stay for the next.
_OF_ONE_RUN = ("pki", "etcd", "kubelet", "certs", "logs", "pod-logs", "cni", "opt")


@dataclass(frozen=True)
class Node:
    """A running node."""

    state: NodeState
    binaries: Path

    @property
    def kubeconfig(self) -> Path:
        """Administrator's kubeconfig for this host."""
        return self.state.kubeconfig

    @property
    def volumes(self) -> Path:
        """Folder for hostPath volumes; it outlives the node."""
        return self.state.volumes

    @classmethod
    def up(cls, name: str = DEFAULT_NAME) -> Node:
        """Start the node of that name, or take the one that runs.

        Raises:
            ClusterError: it did not get ready, or this machine cannot run one; says what to do.
            toolchain.BuildError: a program could not be built.
        """
        if os.geteuid() != 0:
            raise ClusterError("a node needs root: it makes namespaces, a network link and cgroups")
        check_name(name)
        ensure_packages(NODE_PACKAGES)
        binaries = toolchain.ensure()
        with lock(name):
            running = find(name, binaries)
            if running is not None:
                print(f"node {name!r} runs already", flush=True)
                return running
            left = read(name)
            if left is not None:
                _clean(left)
            node = cls(allocate(name), binaries)
            try:
                node._start()
            except BaseException as error:
                tails = node._tails()
                _clean(node.state)
                if isinstance(error, ClusterError):
                    raise ClusterError(f"{error}\n{tails}") from error
                raise
            return node

    def down(self) -> None:
        """Remove the node; images and volumes stay in its folder."""
        down(self.state.name)

    def holds(self, keys: Mapping[str, str]) -> bool:
        """Whether the node has images, by reference, that were loaded under these keys."""
        return recorded(self.state.name, keys) and self._images().keys() >= keys.keys()

    def load(self, archives: Sequence[Path], keys: Mapping[str, str] | None = None) -> None:
        """Load images into the node; those that are there already are passed over.

        Args:
            archives: uncompressed docker archives.
            keys: what `holds` knows an image by afterwards, by its reference.
        """
        record, present = _record(self.state.name), self._images()
        held = [(path, images_in(path)) for path in dict.fromkeys(archives)]
        wanted = [
            (path, images)
            for path, images in held
            if any(
                image.name not in present or record.get(image.name, {}).get("digest") != image.config_digest
                for image in images
            )
        ]
        steps = Steps("load", len(wanted))
        for path, images in wanted:
            with steps.step(images[0].name):
                # Layers are kept as snapshots only: a second copy of each would lie in the content store.
                self._ctr("images", "import", "--local", "--discard-unpacked-layers", str(path))
        for image in (image for _, images in held for image in images):
            record[image.name] = {"digest": image.config_digest, "key": (keys or {}).get(image.name, "")}
        _record_path(self.state.name).write_text(json.dumps(record))
        if wanted:
            self._remove_superseded()

    def _images(self) -> dict[str, str]:
        """Digests by name of what containerd has."""
        lines = self._ctr("images", "ls").splitlines()[1:]
        return {fields[0]: fields[2] for line in lines if len(fields := line.split()) > 2}

    def _remove_superseded(self) -> None:
        """Remove the images whose names have gone to later ones.

        The kubelet's interface to containerd keeps a second name of each image, made of its digest. It would hold the
        content and the snapshots of every earlier build for ever.
        """
        images = self._images()
        current = {digest for name, digest in images.items() if not name.startswith("sha256:")}
        old = [name for name, digest in images.items() if name.startswith("sha256:") and digest not in current]
        if old:
            self._ctr("images", "rm", "--sync", *old)

    def _ctr(self, *arguments: str) -> str:
        return self.inside("ctr", "-a", CONTAINERD_SOCKET, "-n", "k8s.io", *arguments)

    def inside(self, *command: str, seconds: float = 600) -> str:
        """Run a command in the node's namespaces; its output.

        Raises:
            ClusterError: it failed.
        """
        init = host.find_processes(self.state).init
        if init is None:
            raise ClusterError(
                f"node {self.state.name!r} does not run: python -m devcluster up --name {self.state.name}"
            )
        enter = ["nsenter", "--target", str(init), "--mount", "--net", "--pid", "--ipc", "--uts", "--"]
        environment = {**os.environ, "PATH": f"{self.binaries}:{os.environ['PATH']}"}
        done = subprocess.run(
            [*enter, *command], capture_output=True, text=True, env=environment, timeout=seconds, check=False
        )
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-1000:]}")
        return done.stdout

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl as administrator; its output."""
        command = [str(self.binaries / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        environment = {**os.environ, "NO_PROXY": "*"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _start(self) -> None:
        steps = Steps("node", 4)
        with steps.step("prepare"):
            self._prepare()
        with steps.step("start the control plane"):
            init = self._unshare()
            host.make_link(self.state, init)
            client = self.client()
            self._wait(client.ready, "the API server")
        with steps.step("wait until the node is Ready"):
            self._wait(lambda: self._node_ready(client), "the node")
        with steps.step("sandbox image and fake GPUs"):
            self.load([pause_archive()])
            amounts = {"nvidia.com/gpu": str(FAKE_GPUS)}
            body = {"status": {"capacity": amounts, "allocatable": amounts}}
            path = f"/api/v1/nodes/{self.state.hostname}/status"
            client.request("PATCH", path, body, "application/merge-patch+json")

    def client(self) -> ApiClient:
        """Requests to the node's API server."""
        return ApiClient(f"https://{self.state.node_ip}:6443", TOKEN, self.state.path / "pki" / "ca.crt")

    def _prepare(self) -> None:
        folder = self.state.path
        _remove_run(folder)
        for name in ("logs", "pod-logs", "volumes", "cni", "opt"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        make_pki(folder / "pki", api_names(self.state))
        server = f"https://{self.state.node_ip}:6443"
        write_kubeconfig(self.state.kubeconfig, server, folder / "pki" / "ca.crt")
        for name, text in files(self.state).items():
            (folder / name).write_text(text)
        inside = {
            "hostname": self.state.hostname,
            "host_ip": self.state.host_ip,
            "node_ip": self.state.node_ip,
            "cache": str(cache_dir()),
            "logs": str(folder / "logs"),
            "programs": programs(self.state, self.binaries),
            "environment": {
                "PATH": f"{self.binaries}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": "/root",
                "NO_PROXY": "*",
            },
        }
        self.state.spec_file.write_text(json.dumps(inside))
        host.make_cgroups(self.state)

    def _unshare(self) -> int:
        """Start the first process; its process id on the host."""
        command = [
            "setsid", "--fork", "unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork",
            "--mount-proc", "--propagation", "private",
            sys.executable, "-I", str(Path(__file__).with_name("node_inside.py")), str(self.state.spec_file),
        ]  # fmt: skip
        with (self.state.path / "logs" / "node.log").open("ab") as log:
            # Forked away: the node outlives this process, and no process has to wait for it.
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
        self._wait(lambda: host.find_processes(self.state).init is not None, "the first process")
        init = host.find_processes(self.state).init
        assert init is not None
        return init

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        started = time.monotonic()
        while not ready():
            alive = host.find_processes(self.state)
            if time.monotonic() - started > 2 and alive.init is None:
                raise ClusterError(f"the node ended while waiting for {what}")
            if time.monotonic() > deadline:
                raise ClusterError(f"{what} was not ready within {READY_SECONDS:.0f} s")
            time.sleep(0.2)

    def _node_ready(self, client: ApiClient) -> bool:
        try:
            body = client.request("GET", f"/api/v1/nodes/{self.state.hostname}")
        except (ApiError, OSError):
            return False
        conditions = body.get("status", {}).get("conditions", [])
        return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)

    def _tails(self, lines: int = 6) -> str:
        texts = []
        for log in sorted((self.state.path / "logs").glob("*.log")):
            end = log.read_text(errors="replace").splitlines()[-lines:]
            texts.append(f"--- {log.name}\n" + "\n".join(line[:300] for line in end))
        return "\n".join(texts)


def recorded(name: str, keys: Mapping[str, str]) -> bool:
    """Whether images were loaded into a node, running or not, under these keys (see `Node.load`)."""
    record = _record(name)
    return all(record.get(reference, {}).get("key") == key for reference, key in keys.items())


def _record(name: str) -> dict[str, dict[str, str]]:
    path = _record_path(name)
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    # Earlier versions wrote a digest alone.
    return {reference: entry for reference, entry in found.items() if isinstance(entry, dict)}


def _record_path(name: str) -> Path:
    return cluster_dir() / name / "loaded.json"


def find(name: str, binaries: Path) -> Node | None:
    """The running node of a name; None if there is none, or only remains of one."""
    state = read(name)
    if state is None or state.boot_id != boot_id() or host.find_processes(state).init is None:
        return None
    node = Node(state, binaries)
    return node if (state.path / "pki" / "ca.crt").exists() and node.client().ready() else None


def down(name: str) -> bool:
    """Undo everything that a node of that name did to the host; whether there was anything.

    Works on what is recorded, so it also undoes a node whose tool or first process was killed.
    """
    with lock(check_name(name)):
        state = read(name)
        if state is None:
            return False
        _clean(state)
        return True


def _clean(state: NodeState) -> None:
    host.undo(state)
    _remove_run(state.path)
    record_path(state.name).unlink(missing_ok=True)


def _remove_run(folder: Path) -> None:
    for name in _OF_ONE_RUN:
        if (folder / name).exists():
            shutil.rmtree(folder / name)
