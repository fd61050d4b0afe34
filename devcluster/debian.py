"""Debian packages that the cluster needs from the machine."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from devcluster.cache import cache_dir, locked
from devcluster.state import ClusterError

NODE_PACKAGES = (
    "runc",
    "containernetworking-plugins",
    "iptables",
    "conntrack",
    "iproute2",
    "kmod",
    "openssl",
    "gcc",
    "libc6-dev",
    "util-linux",
)
"""What a node needs beside the binaries that the tool chain builds."""


def missing_packages(names: Sequence[str]) -> list[str]:
    """Return those of `names` that are not installed; all of them where the machine has no dpkg."""
    if shutil.which("dpkg-query") is None:
        return list(names)
    shown = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *names],
        check=False,
        capture_output=True,
        text=True,
    ).stdout
    installed = {line.split()[0] for line in shown.splitlines() if line.split()[1:2] == ["ii"]}
    return [name for name in names if name not in installed]


def ensure_packages(names: Sequence[str]) -> list[str]:
    """Install those of `names` that are missing with one apt-get run, and return them.

    Raises ClusterError if they cannot be installed: no apt-get, no root, or apt-get's own error.
    """
    missing = missing_packages(names)
    if not missing:
        return []
    wanted = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise ClusterError(f"this machine has no apt-get; install what gives you: {wanted} (names of Debian 12)")
    if os.geteuid() != 0:
        raise ClusterError(f"Debian packages are missing and only root may install them: apt-get install {wanted}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
    result = subprocess.CompletedProcess[str](install, 1)
    for command in (install, ["apt-get", "update", "-q"], install):
        result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=900)
        if result.returncode == 0 and command is install:
            return missing
    tail = "\n".join((result.stdout + result.stderr).splitlines()[-8:])
    raise ClusterError(f"apt-get could not install {wanted}:\n{tail}")


def unpacked(name: str, *programs: str) -> Path:
    """The folder of a Debian package's files, in the cache, without installing it: nothing of it is started.

    Only for packages whose programs need no other package.

    Args:
        name: the package.
        programs: files that must be there, relative to the folder.

    Raises:
        ClusterError: the package cannot be downloaded, or lacks one of the files.
    """
    folder = cache_dir() / "debian" / name
    with locked(f"debian-{name}"):
        if not all((folder / program).is_file() for program in programs):
            _unpack(name, folder)
    missing = [program for program in programs if not (folder / program).is_file()]
    if missing:
        raise ClusterError(f"the Debian package {name} has no {', '.join(missing)}")
    return folder


def _unpack(name: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache_dir()) as scratch:
        # apt downloads as its own user, who may not write to root's folders.
        download = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", name]
        for command in (download, ["apt-get", "update", "-q"], download):
            result = subprocess.run(command, cwd=scratch, check=False, capture_output=True, text=True, timeout=600)
            if result.returncode == 0 and command is download:
                break
        else:
            tail = "\n".join((result.stdout + result.stderr).splitlines()[-4:])
            raise ClusterError(f"apt-get could not download {name}:\n{tail}")
        (archive,) = Path(scratch).glob("*.deb")
        made = Path(scratch) / "files"
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(made)], check=True, timeout=600)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.rename(folder)
