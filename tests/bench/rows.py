"""One size's result, and the table of them."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.operator_process import Usage


@dataclass(frozen=True)
class Row:
    """One size's result."""

    count: int
    overlay: bool
    bare: float
    operator: float
    latencies: list[float]
    bare_cpu_seconds: float
    bare_server_seconds: float
    """CPU of API server and etcd while the bare client writes."""
    server_seconds: float
    """The same while the operator does."""
    creator_seconds: float
    """CPU of this program while it creates the operator's objects."""
    start: Usage
    create: Usage
    writes_per_object: float
    restart_writes: int
    restart_seconds: float

    @property
    def cpu_ratio(self) -> float:
        """What the bare client's side takes for all objects, by what the operator's takes."""
        operator = self.create.cpu_seconds - self.start.cpu_seconds
        bare = self.bare_server_seconds + self.bare_cpu_seconds
        return bare / (self.server_seconds + operator + self.creator_seconds)

    def cells(self) -> list[str]:
        """The row of the table."""
        ordered = sorted(self.latencies)
        return [
            f"{self.count:,}{', with podTemplate' if self.overlay else ''}",
            f"{self.bare:.0f}",
            f"{self.operator:.0f}",
            f"{self.operator / self.bare:.2f}",
            f"{self.cpu_ratio:.2f}",
            f"{statistics.median(ordered) * 1000:.0f}",
            f"{ordered[int(len(ordered) * 0.99) - 1] * 1000:.0f}",
            f"{(self.create.cpu_seconds - self.start.cpu_seconds) / self.count * 1000:.1f}",
            f"{self.bare_cpu_seconds / self.count * 1000:.1f}",
            f"{self.start.cpu_seconds:.1f}",
            f"{self.create.peak_mib:.0f}",
            f"{self.writes_per_object:.2f}",
            f"{self.restart_writes}",
            f"{self.restart_seconds:.1f}",
        ]


HEADINGS = [
    "objects",
    "bare client, objects/s",
    "operator, objects/s",
    "ratio",
    "CPU ratio",
    "change p50, ms",
    "change p99, ms",
    "CPU per object, ms",
    "the same of the bare client, ms",
    "CPU of the start, s",
    "peak RSS, MiB",
    "API writes per object",
    "writes of a restart",
    "restart to idle, s",
]


def table(rows: Sequence[Row]) -> str:
    """The result as a Markdown table, with the machine's description."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "?",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---:|" * len(HEADINGS),
        *("| " + " | ".join(row.cells()) + " |" for row in rows),
        "",
        f"Machine: {os.cpu_count()} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}, Python "
        f"{platform.python_version()}; etcd (without fsync), API server, client and operator share them.",
    ]
    return "\n".join(lines)
