"""What many objects that share one model cost: one Job, and how many writes while it tells its progress.

    python -m tests.bench.models [--objects 200] [--seconds 60]

A real API server and the real operator; the kubelet that serves the Job's log is a stub, because no pod runs. Beside it
the same number of status writes by a bare client, so that the ratio means something on a noisy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from devcluster.control_plane import ControlPlane
from llm_operator.api import KIND
from tests.bench.bare_client import BareClient, in_flight
from tests.cluster.helpers import Space
from tests.cluster.test_model_jobs import FETCHED, TOOLS, cached, claim, end_pod, job_name, pods_of, run_on_stub
from tests.kubelet_stub import StubKubelet
from tests.operator_process import OperatorUnderTest
from tests.waiting import eventually

CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"


async def bare_writes(plane: ControlPlane, space: Space, count: int) -> float:
    """Seconds of a bare client for one status write per object."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        client = BareClient(plane.url, plane.token, session)

        async def write(number: int) -> None:
            condition = {
                "type": "Bare",
                "status": "True",
                "reason": "Bench",
                "message": "",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            body = {"status": {"observedGeneration": 1, "conditions": [condition]}}
            path = f"{space.path(KIND, f'llm-{number}')}/status"
            await client.send("PATCH", path, json.dumps(body).encode(), "application/merge-patch+json")

        start = time.perf_counter()
        await in_flight([lambda number=number: write(number) for number in range(count)])  # type: ignore[misc]
        return time.perf_counter() - start


def measure(count: int, seconds: int) -> dict[str, Any]:
    """One run; its figures by name."""
    with tempfile.TemporaryDirectory() as folder, ControlPlane.start(Path(folder), controllers=True) as plane:
        plane.install_crd(CRD)
        space, bare = Space(plane, "shared"), Space(plane, "bare")
        claim(space)
        for number in range(count):
            bare.create(cached(f"llm-{number}"))
        bare_seconds = asyncio.run(bare_writes(plane, bare, count))
        pki = plane.folder / "pki"
        with (
            StubKubelet(pki / "api.crt", pki / "api.key") as kubelet,
            OperatorUnderTest(plane.kubeconfig, space.name, arguments=TOOLS) as operator,
        ):
            operator.wait_ready()
            bodies = [space.create(cached(f"llm-{number}")) for number in range(count)]
            operator.wait_idle()
            first = operator.writes()
            job = job_name(bodies[0], space, "fetch")
            pod: str = eventually(lambda: pods_of(space, job), why="a pod")[0]["metadata"]["name"]
            run_on_stub(space, pod, kubelet)
            start, before = time.monotonic(), operator.usage().cpu_seconds
            while (spent := time.monotonic() - start) < seconds:
                line = {"progress": {"stage": "Fetching", "percent": int(spent * 100 / seconds)}}
                kubelet.logs[space.name, pod] = json.dumps(line) + "\n"
                time.sleep(0.5)
            told = operator.writes() - first
            busy = operator.usage().cpu_seconds - before
            mark = operator.writes()
            begun = time.monotonic()
            end_pod(space, job, FETCHED)
            eventually(lambda: len(space.names("Deployment")) == count, 300, "every Deployment")
            operator.wait_idle()
            return {
                "objects": count,
                "Jobs": len(space.names("Job")),
                "writes per object until the Job runs": first / count,
                "progress writes per object and 10 s": told / count / (seconds / 10),
                "operator CPU while it tells progress, share of a core": busy / seconds,
                "writes per object from the Job's end to its Service": (operator.writes() - mark) / count,
                "seconds from the Job's end to the last Deployment": time.monotonic() - begun,
                "bare client, seconds for one status write per object": bare_seconds,
            }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    line = argparse.ArgumentParser(prog="python -m tests.bench.models", description=__doc__, allow_abbrev=False)
    line.add_argument("--objects", type=int, default=200)
    line.add_argument("--seconds", type=int, default=60, help="how long the Job tells progress")
    chosen = line.parse_args(argv)
    for name, value in measure(chosen.objects, chosen.seconds).items():
        print(f"| {name} | {value:.2f} |" if isinstance(value, float) else f"| {name} | {value} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
