"""Debian packages that the cluster needs from the machine."""

import os
import shutil
import subprocess
from collections.abc import Sequence

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

    Raises ClusterError where they cannot be installed: no apt-get, no root, or apt-get's own error.
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
