"""Reconcile N objects against a real API server, beside a bare asyncio client that writes the same bytes.

    python -m tests.bench.reconcile [--sizes 100 1000 5000] [--overlay] [--output table.md]

Both sides of a size run one after the other against one server in one run; the ratio is what counts, because the
server takes most of the CPU and machines are noisy. No number is asserted: the table is the result.

What makes the comparison fair:

- The bare client creates the object and its children, and applies its status: as many requests as the operator's side,
  where this program creates the objects and the operator does the rest. Both write compact JSON; a look at what the
  server then holds proves that it is the same.
- Both begin with an API server that holds next to nothing. The server takes longer for a new Service the more there
  are (Kubernetes 1.36: 3.8 ms of its CPU among the first 1,000, 11.6 ms after 3,000; objects and Deployments cost the
  same throughout), so the bare client's Services are removed before the operator's turn.
- The bare client has 16 objects in work at a time. For the operator 16 objects are created at a time, and its
  workers are as many as by default.
- What the operator cannot leave out counts against it: it renders, reads the answers, and the server tells its
  watches of every write. How this program finds out that an object is done does not: it watches, as asking object by
  object takes a good part of the server's time.
- With --overlay each size is measured again, on another server, with objects that have a podTemplate; the bare client
  writes the merged Deployment, and makes no dry run before.
- CPU per object is the operator's own from ready to idle; its start (imports, first lists) is told apart. The bare
  client sends one request more per object, renders nothing and watches nothing.
- The CPU ratio compares everything that is spent for an object: (servers + bare client) / (servers + operator + this
  program, which creates the objects). It depends less on what else the machine does than rates do.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import itertools
import json
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

import aiohttp

from devcluster.control_plane import ControlPlane
from llm_operator.api import KIND
from llm_operator.manifests.kinds import KINDS
from tests.bench.bare_client import BareClient, bare_rate, in_flight
from tests.bench.objects import compact, manifest
from tests.bench.rows import Row, table
from tests.operator_process import OperatorUnderTest

ROOT = Path(__file__).resolve().parents[2]
CHANGES = 100
DIFFERENCE_LINES, DIFFERENCE_CHARACTERS = 40, 200


async def operator_rate(
    client: BareClient, namespace: str, count: int, limit_seconds: float, overlay: bool = False
) -> float:
    """Objects per second from the first create until every status is written."""
    path = KINDS[KIND].path(namespace)
    bodies = [compact(manifest(f"llm-{index}", namespace, overlay)) for index in range(count)]
    jobs = [partial(client.send, "POST", path, body) for body in bodies]
    names = {f"llm-{index}" for index in range(count)}
    start = time.perf_counter()

    async def finished() -> None:
        async for event in client.watch(path):
            if event["object"].get("status"):
                names.discard(event["object"]["metadata"]["name"])
            if not names:
                return

    try:
        async with asyncio.timeout(limit_seconds):
            await asyncio.gather(in_flight(jobs), finished())
    except TimeoutError:
        raise RuntimeError(f"{len(names)} of {count} objects have no status after {limit_seconds:.0f} s") from None
    return count / (time.perf_counter() - start)


async def stored(client: BareClient, namespace: str, name: str) -> dict[str, str]:
    """What the server holds of one object, by kind, but for namespace, uids, addresses and times."""
    texts = {}
    for kind in (KIND, "Deployment", "Service"):
        live = await client.send("GET", f"{KINDS[kind].path(namespace)}/{name}")
        for field in ("clusterIP", "clusterIPs"):
            live["spec"].pop(field, None)
        for condition in live.get("status", {}).get("conditions", []):
            condition.pop("lastTransitionTime")
        meta = {field: live["metadata"].get(field) for field in ("labels", "annotations")}
        fields = [
            [entry["operation"], entry["fieldsV1"]]
            for entry in live["metadata"]["managedFields"]
            if entry["manager"] == "llm-operator"
        ]
        text = json.dumps([meta, fields, live["spec"], live.get("status")], sort_keys=True, indent=1)
        owner = (live["metadata"].get("ownerReferences") or [live["metadata"]])[0]["uid"]
        texts[kind] = text.replace(namespace, "NAMESPACE").replace(owner, "UID")
    return texts


def assert_same(bare: dict[str, str], operator: dict[str, str]) -> None:
    """Both sides wrote the same."""
    for kind, text in bare.items():
        if text != operator[kind]:
            lines = difflib.unified_diff(text.splitlines(), operator[kind].splitlines(), n=1, lineterm="")
            shown = "\n".join(line[:DIFFERENCE_CHARACTERS] for line in itertools.islice(lines, DIFFERENCE_LINES))
            raise RuntimeError(f"the bare client writes another {kind} than the operator:\n{shown}")


async def remove_services(client: BareClient, namespace: str, count: int) -> None:
    """Take the Services away: each one that there is makes the server slower at the next, whoever writes it."""
    path = KINDS["Service"].path(namespace)
    await in_flight([partial(client.send, "DELETE", f"{path}/llm-{index}") for index in range(count)])


async def change_latencies(client: BareClient, namespace: str, count: int, changes: int) -> list[float]:
    """Seconds from a changed spec, sent, to the Deployment that carries it, one at a time among idle objects."""
    path, deployments = KINDS[KIND].path(namespace), KINDS["Deployment"].path(namespace)
    seconds = []
    for change in range(changes):
        name = f"llm-{change * 37 % count}"
        length = str(20_000 + change)
        patch = json.dumps({"spec": {"contextLength": int(length)}}).encode()
        start = time.perf_counter()
        await client.send("PATCH", f"{path}/{name}", patch, "application/merge-patch+json")
        while True:
            live = await client.send("GET", f"{deployments}/{name}")
            containers = live["spec"]["template"]["spec"]["containers"]
            if length in next(one for one in containers if one["name"] == "engine")["args"]:
                break
            if time.perf_counter() - start > 30:
                raise RuntimeError(f"the change of {name} did not arrive within 30 s")
        seconds.append(time.perf_counter() - start)
    return seconds


async def measure(
    plane: ControlPlane, count: int, *, overlay: bool = False, warm: int = 100, changes: int = CHANGES
) -> Row:
    """Everything about one size.

    Raises:
        RuntimeError: the two sides wrote different objects, or the operator did not come to an end.
    """
    connector = aiohttp.TCPConnector(ssl=False, limit=64)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = BareClient(plane.url, plane.token, session)
        stamp = f"{count}-{int(time.time()) % 100_000}"
        for side in ("warm", "bare", "operator"):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{side}-{stamp}"}}
            await client.send("POST", "/api/v1/namespaces", json.dumps(body).encode())
        # The first requests for a new kind are slow in every API server; they would count against the bare client.
        await bare_rate(client, f"warm-{stamp}", warm, overlay)
        print(f"{count} objects: bare client ...", flush=True)
        server = plane.cpu_seconds()
        bare, bare_cpu = await bare_rate(client, f"bare-{stamp}", count, overlay)
        bare_server = plane.cpu_seconds() - server
        print(f"{count} objects: {bare:.0f}/s; operator ...", flush=True)
        wanted = await stored(client, f"bare-{stamp}", f"llm-{count - 1}")
        await remove_services(client, f"bare-{stamp}", count)
        namespace = f"operator-{stamp}"
        with OperatorUnderTest(plane.kubeconfig, namespace) as process:
            process.wait_ready()
            await asyncio.to_thread(process.wait_idle)
            before, begun = process.writes(), process.usage()
            server, creator = plane.cpu_seconds(), time.process_time()
            rate = await operator_rate(client, namespace, count, 60 + count / 5, overlay)
            creator = time.process_time() - creator
            await asyncio.to_thread(process.wait_idle)
            usage, written = process.usage(), process.writes() - before
            server = plane.cpu_seconds() - server
            assert_same(wanted, await stored(client, namespace, f"llm-{count - 1}"))
            print(f"{count} objects: {rate:.0f}/s; {changes} changes ...", flush=True)
            latencies = await change_latencies(client, namespace, count, changes)
            # The status of the last change is written after its Deployment: the next start is to find nothing to do.
            await asyncio.to_thread(process.wait_idle)
        start = time.perf_counter()
        with OperatorUnderTest(plane.kubeconfig, namespace) as process:
            process.wait_ready()
            await asyncio.to_thread(process.wait_idle)
            seconds = time.perf_counter() - start
            restart_writes = process.writes()
    return Row(
        count=count,
        overlay=overlay,
        bare=bare,
        operator=rate,
        latencies=latencies,
        bare_cpu_seconds=bare_cpu,
        bare_server_seconds=bare_server,
        server_seconds=server,
        creator_seconds=creator,
        start=begun,
        create=usage,
        writes_per_object=written / count,
        restart_writes=restart_writes,
        restart_seconds=seconds,
    )


def main() -> None:
    """Measure, print, and write where asked to."""
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 5000])
    line.add_argument("--overlay", action="store_true", help="measure objects with a podTemplate, too")
    line.add_argument("--output", type=Path, help="write the table to this file, too")
    chosen = line.parse_args()
    rows = []
    for count, overlay in itertools.product(chosen.sizes, [False, True] if chosen.overlay else [False]):
        with tempfile.TemporaryDirectory() as folder, ControlPlane.start(Path(folder)) as plane:
            crd = ROOT / "crds" / "llm-operator.dev_llmdeployments.yaml"
            subprocess.run(
                [str(plane.kubectl), "--kubeconfig", str(plane.kubeconfig), "apply", "--server-side", "-f", str(crd)],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            subprocess.run(
                [
                    str(plane.kubectl),
                    "--kubeconfig",
                    str(plane.kubeconfig),
                    "wait",
                    "--for=condition=Established",
                    "-f",
                    str(crd),
                ],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            rows.append(asyncio.run(measure(plane, count, overlay=overlay)))
            print(table(rows), flush=True)
    if chosen.output:
        chosen.output.write_text(f"{table(rows)}\n")


if __name__ == "__main__":
    main()
