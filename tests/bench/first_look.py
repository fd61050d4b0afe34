"""An operator that starts with many objects which nobody has reconciled: whether it answers, and holds its Lease.

    python -m tests.bench.first_look [--objects 10000] [--seconds 120]

The longest answer of /healthz, the longest age of the Lease as the API server holds it, and how many objects have a
status when the time is over. No number is asserted: the table is the result.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from devcluster.control_plane import ControlPlane
from tests.bench.objects import manifest
from tests.cluster.helpers import Space
from tests.operator_process import OperatorUnderTest

ROOT = Path(__file__).resolve().parents[2]
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
LEADER = ("--leader-elect", "--lease-namespace", "default", "--no-gpu-inventory")
IN_FLIGHT = 16
PROBE_SECONDS = 0.1
LEASE_SECONDS = 1.0


def lease_age(plane: ControlPlane) -> float:
    """Seconds since the last renewal; 0 while nobody leads."""
    items = plane.request("GET", LEASES)["items"]
    renewed = [item["spec"]["renewTime"] for item in items if item["spec"].get("renewTime")]
    return max((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds() for text in renewed) if renewed else 0


def main() -> None:
    """Create, start, watch, print."""
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("--objects", type=int, default=10_000)
    line.add_argument("--seconds", type=float, default=120)
    chosen = line.parse_args()
    with tempfile.TemporaryDirectory() as folder, ControlPlane.start(Path(folder)) as plane:
        plane.install_crd(ROOT / "crds" / "llm-operator.dev_llmdeployments.yaml")
        space, start = Space(plane, "many"), time.monotonic()
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            list(pool.map(lambda number: space.create(manifest(f"llm-{number}", "many")), range(chosen.objects)))
        print(f"{chosen.objects:,} objects after {time.monotonic() - start:.0f} s", flush=True)
        with OperatorUnderTest(plane.kubeconfig, "many", arguments=LEADER, log=Path(folder) / "log") as operator:
            waits, ages, failed, ready = [], [], 0, 0.0
            start = looked = time.monotonic()
            while operator.get("/healthz")[0] == 0:
                time.sleep(PROBE_SECONDS)
            listens = time.monotonic() - start
            while time.monotonic() - start < chosen.seconds:
                asked = time.monotonic()
                failed += operator.get("/healthz")[0] != 200
                waits.append(time.monotonic() - asked)
                if not ready and operator.get("/readyz")[0] == 200:
                    ready = time.monotonic() - start
                if time.monotonic() - looked > LEASE_SECONDS:
                    looked = time.monotonic()
                    ages.append(lease_age(plane))
                time.sleep(PROBE_SECONDS)
            deployments = len(space.names("Deployment"))
            alive = operator.process is not None and operator.process.poll() is None
            head = "| objects | ready, s | /healthz asked | failed | longest, s | Lease's oldest, s | Deployments |"
            print(f"{head}\n|---:|---:|---:|---:|---:|---:|---:|")
            print(
                f"| {chosen.objects:,} | {ready:.1f} | {len(waits)} | {failed} | {max(waits):.2f} "
                f"| {max(ages, default=0.0):.1f} | {deployments:,} |"
            )
            print(f"it listened after {listens:.1f} s; it {'runs' if alive else 'has ended'}", flush=True)
            print((Path(folder) / "log").read_text()[-600:])


if __name__ == "__main__":
    main()
