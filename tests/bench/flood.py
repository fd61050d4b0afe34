"""What a flood of scrapes, or of objects, does to the operator: how long /healthz and a change take.

    python -m tests.bench.flood [--objects 500] [--connections 100] [--seconds 10] [--output table.md]

The operator is a process against a real API server with so many objects; the flood is a process of its own. Client and
server share the machine, so that the numbers are those of a loaded one: a bare server, which does nothing else and
which nobody floods, is asked in turn with the operator, and tells what the machine alone costs. No number is asserted:
the table is the result.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from aiohttp import web

from devcluster.control_plane import ControlPlane
from tests.bench.objects import manifest
from tests.cluster.helpers import Space
from tests.operator_process import OperatorUnderTest, free_port

ROOT = Path(__file__).resolve().parents[2]
PROBE_SECONDS = 0.05


async def flood(url: str, connections: int) -> None:
    """Ask for ever, over so many connections."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask() -> None:
            while True:
                try:
                    async with session.get(url) as response:
                        await response.read()
                except aiohttp.ClientError:
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(ask() for _ in range(connections)))


class Probe:
    """Asks the operator's /healthz and the bare server's in turn."""

    def __init__(self, bare: int) -> None:
        self._bare = bare

    def of(self, operator: OperatorUnderTest, seconds: float) -> list[tuple[float, float]]:
        """Milliseconds of one pair after the other."""
        waits, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            waits.append((milliseconds(operator), milliseconds(operator, self._bare)))
            time.sleep(PROBE_SECONDS)
        return waits


def milliseconds(operator: OperatorUnderTest, port: int | None = None) -> float:
    """How long /healthz takes; of another port, if one is given."""
    start = time.monotonic()
    status, text = operator.get("/healthz", port)
    if status != 200:
        raise RuntimeError(f"/healthz: {status} {text}")
    return 1000 * (time.monotonic() - start)


async def bare(port: int) -> None:
    """Answer /healthz, with the operator's library and nothing else to do."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def row(name: str, waits: list[tuple[float, float]], changed: float) -> str:
    """One row of the table."""
    told = [f"{number:.1f}" for one in zip(*waits, strict=True) for number in (statistics.median(one), max(one))]
    return f"| {name} | {' | '.join(told)} | {changed:.2f} |"


def change(space: Space) -> float:
    """Seconds until a changed spec is in the Deployment."""
    start = time.monotonic()
    length = 2048 + int(start) % 1000
    space.patch("llm-0", {"spec": {"contextLength": length}})
    while str(length) not in str((space.get("Deployment", "llm-0") or {}).get("spec")):
        if time.monotonic() - start > 60:
            raise RuntimeError("the change did not come within 60 s")
        time.sleep(0.02)
    return time.monotonic() - start


def main() -> None:
    """Run both halves and print the table."""
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("--objects", type=int, default=500)
    line.add_argument("--connections", type=int, default=100)
    line.add_argument("--seconds", type=float, default=10)
    line.add_argument("--output", type=Path, help="write the table to this file, too")
    line.add_argument("--flood", help=argparse.SUPPRESS)
    line.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    chosen = line.parse_args()
    if chosen.flood:
        asyncio.run(flood(chosen.flood, chosen.connections))
        return
    if chosen.bare:
        asyncio.run(bare(chosen.bare))
        return
    port = free_port()
    beside = subprocess.Popen([sys.executable, "-m", "tests.bench.flood", "--bare", str(port)])
    try:
        measure(chosen, Probe(port))
    finally:
        beside.kill()
        beside.wait()


def measure(chosen: argparse.Namespace, probe: Probe) -> None:
    """Everything, with the bare server beside it."""
    with tempfile.TemporaryDirectory() as folder, ControlPlane.start(Path(folder)) as plane:
        plane.install_crd(ROOT / "crds" / "llm-operator.dev_llmdeployments.yaml")
        space = Space(plane, "flooded")
        with OperatorUnderTest(plane.kubeconfig, "flooded", log=Path(folder) / "log") as operator:
            operator.wait_ready()
            applying = time.monotonic()
            for number in range(chosen.objects):
                space.create(manifest(f"llm-{number}", "flooded"))
            rows = [row(f"while {chosen.objects} objects are applied", probe.of(operator, chosen.seconds), 0.0)]
            operator.wait_idle()
            print(f"{chosen.objects} objects after {time.monotonic() - applying:.0f} s", file=sys.stderr)
            rows.append(row("idle", probe.of(operator, chosen.seconds), change(space)))
            url = f"http://127.0.0.1:{operator.metrics_port}/metrics"
            command = [sys.executable, "-m", "tests.bench.flood", "--flood", url]
            flooding = subprocess.Popen([*command, "--connections", str(chosen.connections)])
            try:
                time.sleep(2)
                waits = probe.of(operator, chosen.seconds)
                rows.append(row(f"{chosen.connections} connections ask for /metrics", waits, change(space)))
            finally:
                flooding.kill()
                flooding.wait()
        with OperatorUnderTest(plane.kubeconfig, "flooded", log=Path(folder) / "log") as operator:
            start = time.monotonic()
            while operator.get("/healthz")[0] != 200:
                time.sleep(PROBE_SECONDS)
            waits = []
            while operator.get("/readyz")[0] != 200:
                waits += probe.of(operator, 2 * PROBE_SECONDS)
            print(f"ready after {time.monotonic() - start:.1f} s", file=sys.stderr)
            seconds = change(space)
            waits += probe.of(operator, chosen.seconds)
            rows.append(
                row(f"a start with {chosen.objects} objects, and the first change after it is ready", waits, seconds)
            )
    head = "| | /healthz median, ms | longest, ms | bare server median, ms | longest, ms | a change, s |"
    head += "\n|---|---:|---:|---:|---:|---:|"
    text = "\n".join([head, *rows])
    print(text)
    if chosen.output is not None:
        chosen.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
