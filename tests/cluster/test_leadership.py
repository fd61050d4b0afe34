"""The leader's requests to its Lease are never answered, all else works: two operators must not write at once."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from devcluster.client import ApiError
from devcluster.control_plane import ControlPlane
from llm_operator.kube import lease
from llm_operator.kube.connection import load
from llm_operator.kube.lease import Leadership, leadership
from tests.cluster.helpers import Space
from tests.lying_proxy import LyingProxy
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
MERGE = "application/merge-patch+json"
EDITS: list[dict[str, Any]] = [
    {"acquireTime": "2026-12-01T00:00:00.000000Z"},
    {"renewTime": "2026-12-01T00:00:00.000000Z"},
    {"renewTime": "0000-01-01T00:00:00.000000Z", "acquireTime": "0000-01-01T00:00:00.000000Z"},
    {"renewTime": "9999-12-31T23:59:59.999999Z", "acquireTime": "9999-12-31T23:59:59.999999+14:00"},
    {"leaseDurationSeconds": 2**31 - 1, "leaseTransitions": 2**31 - 1},
    {"leaseDurationSeconds": 1},
    {"renewTime": None, "acquireTime": None, "leaseDurationSeconds": None},
    {"holderIdentity": ""},
    {"holderIdentity": None},
]
OBJECTS = 20
LEASE_SECONDS = 15
NAMES = ("operator-one", "operator-two")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane.start(tmp_path_factory.mktemp("audited"), audited="admin") as started:
        started.install_crd(CRD)
        yield started


def writes(plane: ControlPlane, after: float) -> dict[str, list[float]]:
    """When each operator wrote something that is no Lease, by the API server's own log."""
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for line in (plane.folder / "audit.log").read_text().splitlines():
        entry = json.loads(line)
        name = (entry.get("impersonatedUser") or {}).get("username")
        told = (entry.get("objectRef") or {}).get("resource")
        if name not in found or told == "leases" or entry["responseStatus"].get("code", 0) >= 300:
            continue
        for stamp in ("requestReceivedTimestamp", "stageTimestamp"):
            at = datetime.fromisoformat(entry[stamp]).timestamp()
            if at > after:
                found[name].append(at)
    return found


def leads(operator: OperatorUnderTest) -> bool:
    return 'leader_election_master_status{name="llm-operator"} 1.0' in operator.metrics()


def test_a_leader_whose_lease_is_black_holed_stops_before_another_writes(plane: ControlPlane, tmp_path: Path) -> None:
    space = Space(plane, "leadership")
    folders = [tmp_path / name for name in NAMES]
    for folder in folders:
        folder.mkdir()
    leading = ("--lease-namespace", space.name, "--no-gpu-inventory")
    numbers = itertools.count()
    ended = threading.Event()

    def churn() -> None:
        while not ended.wait(0.05):
            number = next(numbers)
            space.patch(f"llm-{number % OBJECTS}", {"spec": {"contextLength": 1024 + number}})

    with (
        LyingProxy(plane, folders[0], impersonate=NAMES[0]) as one,
        LyingProxy(plane, folders[1], impersonate=NAMES[1]) as two,
        OperatorUnderTest(one.kubeconfig, space.name, arguments=leading, log=folders[0] / "log") as first,
    ):
        eventually(lambda: leads(first), why=lambda: (folders[0] / "log").read_text()[-2000:])
        first.wait_ready()
        for number in range(OBJECTS):
            space.create(llm(f"llm-{number}"))
        with OperatorUnderTest(two.kubeconfig, space.name, arguments=leading, log=folders[1] / "log") as second:
            second.wait_ready()
            churning = threading.Thread(target=churn)
            churning.start()
            try:
                cut = time.time()
                eventually(lambda: writes(plane, cut)[NAMES[0]], why="the first writes")
                cut = time.time()
                one.lie(matches=lambda request: "/leases" in request.path, hang=True)
                eventually(lambda: writes(plane, cut)[NAMES[1]], 3 * LEASE_SECONDS, why="the second writes")
                time.sleep(3)
            finally:
                ended.set()
                churning.join()
            found = writes(plane, cut)
            assert first.process is not None
            assert first.process.wait(20) == 1
    assert max(found[NAMES[0]]) < min(found[NAMES[1]]), "both wrote at a time"
    assert min(found[NAMES[1]]) - cut < 2 * LEASE_SECONDS
    last = json.loads((folders[0] / "log").read_text().splitlines()[-1])
    assert (last["level"], "the lease was lost" in last["msg"]) == ("critical", True)
    assert "Traceback" not in (folders[0] / "log").read_text()


async def _renewed(plane: ControlPlane, after: str) -> dict[str, Any]:
    """The Lease once its leader has written it, and not as it was."""
    async with asyncio.timeout(60):
        while True:
            body = plane.request("GET", f"{LEASES}/edited")
            if body["metadata"]["resourceVersion"] != after and body["spec"].get("holderIdentity") == "me":
                spec: dict[str, Any] = body["spec"]
                return spec
            await asyncio.sleep(0.05)


@pytest.fixture
def edited(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Leadership:
    """A candidate for a Lease as the chart makes it, and as old as one that was edited years ago."""
    monkeypatch.setattr(lease, "RETRY_SECONDS", 0.05)
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    plane.request("POST", LEASES, {"metadata": {"name": "edited", "annotations": {"by": "hand"}}})
    return leadership(load(), "edited", "default", "me")


async def test_a_leader_renews_a_lease_that_somebody_edits(plane: ControlPlane, edited: Leadership) -> None:
    await asyncio.wait_for(edited.acquire(), 60)
    for edit in EDITS:
        body = plane.request("PATCH", f"{LEASES}/edited", {"spec": edit}, MERGE)
        spec = await _renewed(plane, body["metadata"]["resourceVersion"])
        assert (spec["leaseDurationSeconds"], spec["renewTime"] < "9") == (LEASE_SECONDS, True), edit
        assert edited.fence() > 0
    with pytest.raises(ApiError, match="cannot parse"):
        plane.request("PATCH", f"{LEASES}/edited", {"spec": {"renewTime": "soon"}}, MERGE)
    assert plane.request("GET", f"{LEASES}/edited")["metadata"]["annotations"] == {"by": "hand"}
    plane.request("DELETE", f"{LEASES}/edited")
    await asyncio.wait_for(edited.hold(), 60)
    await edited.release()
    assert plane.find(f"{LEASES}/edited") is None
