"""What the machine has: memory within the container's limit, and free disk space."""

from __future__ import annotations

import shutil
from pathlib import Path

CGROUP_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of cgroup v2 and v1, as a container sees them. `max`, or a number beyond any machine, means no limit."""


def host_memory_bytes(root: Path = Path("/")) -> int | None:
    """Memory that processes here may use: the container's limit or the machine's memory, whichever is less.

    Args:
        root: Where /proc and /sys are; for tests.
    """
    found = [limit for name in CGROUP_LIMITS if (limit := _number(root / name)) is not None]
    total = _total(root / "proc" / "meminfo")
    if total is not None:
        found.append(total)
    return min(found, default=None)


def free_disk_bytes(path: Path) -> int:
    """Free space for a directory that need not exist yet."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(existing).free


def readable(count: int) -> str:
    """Bytes for a message: exact enough to compare two of them."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**27 else f"{count / 2**20:.2f} MiB"


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _total(path: Path) -> int | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
