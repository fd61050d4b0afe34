"""Pods that admission refuses and that nodes give up, on a real API server: each ends in a condition, and is got over.

The webhook is a real one. A kubelet's part, the end of an evicted pod, is written by the test.
"""

from __future__ import annotations

import base64
import itertools
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from devcluster.control_plane import ControlPlane
from tests.cluster.helpers import JSON, Space, serving
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"
NODE = "denied-1"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
WHY = "images must come from registry.example"
numbers = itertools.count()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    folder = tmp_path_factory.mktemp("denied")
    with ControlPlane.start(folder, controllers=True, scheduler=True, kwok=True, accounts=True) as started:
        started.install_crd(CRD)
        started.fake_gpu_node(NODE, gpus=64)
        yield started


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorUnderTest]:
    with serving(plane, (), tmp_path_factory.mktemp("operator")) as process:
        yield process


@pytest.fixture
def space(plane: ControlPlane) -> Space:
    found = Space(plane, f"denied-{next(numbers)}")
    accounts = f"/api/v1/namespaces/{found.name}/serviceaccounts"
    eventually(lambda: plane.find(f"{accounts}/default"), why="the namespace has its account")
    return found


@pytest.fixture(scope="module")
def webhook(plane: ControlPlane) -> Iterator[int]:
    """Port of an admission webhook that denies everything."""

    class Denies(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = {"uid": asked["request"]["uid"], "allowed": False, "status": {"message": WHY}}
            body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Denies)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(plane.folder / "pki" / "api.crt", plane.folder / "pki" / "api.key")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def hook(space: Space, port: int) -> None:
    """Have the API server ask a webhook about each pod of the namespace."""
    authority = base64.b64encode((space.plane.folder / "pki" / "ca.crt").read_bytes()).decode()
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    one = {
        "name": "images.policy.example",
        "clientConfig": {"url": f"https://127.0.0.1:{port}/", "caBundle": authority},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    }
    space.plane.request("POST", HOOKS, {"metadata": {"name": space.name}, "webhooks": [one]})


def said(space: Space) -> tuple[str, str, str]:
    return space.condition("demo", "Ready")


def ends_in(space: Space, reason: str, words: str) -> None:
    """Ready becomes False for this reason, and names the cause."""
    eventually(lambda: said(space)[:2] == ("False", reason), why=lambda: f"{reason}, but {said(space)}")
    assert words in said(space)[2], said(space)


def gets_over_it(space: Space, name: str = "demo") -> None:
    """The ReplicaSet controller tries again at ever longer intervals: a new one, for another spec, begins at once."""
    space.patch(name, {"spec": {"contextLength": 4096}})
    eventually(lambda: space.is_ready(name), why=lambda: str(said(space)))


def test_a_webhook_that_denies(operator: OperatorUnderTest, space: Space, webhook: int) -> None:
    hook(space, webhook)
    space.create(llm("demo", contextLength=2048))
    ends_in(space, "AdmissionDenied", WHY)
    space.plane.request("DELETE", f"{HOOKS}/{space.name}")
    gets_over_it(space)


def test_a_webhook_that_nobody_answers_for(operator: OperatorUnderTest, space: Space) -> None:
    hook(space, 1)
    space.create(llm("demo", contextLength=2048))
    ends_in(space, "WebhookUnavailable", "images.policy.example")
    space.plane.request("DELETE", f"{HOOKS}/{space.name}")
    gets_over_it(space)


def test_a_service_account_that_is_missing(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("demo", serviceAccountName="runner", contextLength=2048))
    ends_in(space, "ServiceAccountMissing", "runner")
    account = {"metadata": {"name": "runner"}}
    space.plane.request("POST", f"/api/v1/namespaces/{space.name}/serviceaccounts", account)
    gets_over_it(space)


def test_a_namespace_that_becomes_restricted(operator: OperatorUnderTest, space: Space) -> None:
    """What runs was admitted before; its next pod is not."""
    space.create(llm("demo", podTemplate={"spec": {"hostNetwork": True}}, contextLength=2048))
    eventually(lambda: space.is_ready("demo"), why=lambda: str(said(space)))
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    space.plane.request("PATCH", f"/api/v1/namespaces/{space.name}", labels, "application/merge-patch+json")
    for pod in space.names("Pod"):
        space.delete("Pod", pod)
    ends_in(space, "PodSecurityViolated", "host namespaces")
    space.patch("demo", {"spec": {"podTemplate": None}})
    eventually(lambda: space.is_ready("demo"), why=lambda: str(said(space)))


def test_a_limit_that_pods_exceed(operator: OperatorUnderTest, space: Space) -> None:
    limits: JSON = {"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]}
    ranges = f"/api/v1/namespaces/{space.name}/limitranges"
    space.plane.request("POST", ranges, {"metadata": {"name": "small"}, "spec": limits})
    space.create(llm("demo", resources={"limits": {"memory": "8Gi"}}, contextLength=2048))
    ends_in(space, "LimitRangeExceeded", "1Gi")
    space.plane.request("DELETE", f"{ranges}/small")
    gets_over_it(space)


def test_an_evicted_pod_whose_successor_finds_no_node(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("demo", contextLength=2048))
    eventually(lambda: space.is_ready("demo"), why=lambda: str(said(space)))
    cordon(space.plane, on=True)
    try:
        (pod,) = space.names("Pod")
        why = "The node was low on resource: memory."
        ready = [{"type": "Ready", "status": "False"}]
        status = {"phase": "Failed", "reason": "Evicted", "message": why, "conditions": ready}
        path = f"{space.path('Pod', pod)}/status"
        space.plane.request("PATCH", path, {"status": status}, "application/merge-patch+json")
        # Why there is none is that no node takes the next one; why a next one is needed is said beside it.
        ends_in(space, "Unschedulable", "unschedulable")
        assert f"pod {pod} was ended" in said(space)[2]
        assert why.rstrip(".") in said(space)[2]
    finally:
        cordon(space.plane, on=False)
    eventually(lambda: space.is_ready("demo"), why=lambda: str(said(space)))


def test_a_drained_node_is_a_pod_that_waits(operator: OperatorUnderTest, space: Space) -> None:
    """The API's eviction, as `kubectl drain` asks for it."""
    space.create(llm("demo", contextLength=2048))
    eventually(lambda: space.is_ready("demo"), why=lambda: str(said(space)))
    cordon(space.plane, on=True)
    try:
        (pod,) = space.names("Pod")
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": space.name}}
        space.plane.request("POST", f"{space.path('Pod', pod)}/eviction", eviction)
        ends_in(space, "Unschedulable", "unschedulable")
    finally:
        cordon(space.plane, on=False)
    eventually(lambda: space.is_ready("demo"), why=lambda: str(said(space)))


def test_a_volume_that_the_kubelet_cannot_mount(operator: OperatorUnderTest, space: Space) -> None:
    """The pod waits on a node whose kubelet is the test: it says why in an event only."""
    volume = {"name": "tuning", "configMap": {"name": "tuning"}}
    template = {"spec": {"schedulerName": "by-hand", "volumes": [volume]}}
    space.create(llm("demo", podTemplate=template, contextLength=2048))
    (pod,) = eventually(lambda: space.names("Pod"), why="a pod")
    eventually(lambda: "scheduler 'by-hand'" in said(space)[2], why=lambda: f"who is silent, but {said(space)}")
    node, path = f"node-{space.name}", space.path("Pod", pod)
    space.plane.request("POST", "/api/v1/nodes", {"metadata": {"name": node}})
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    space.plane.request("POST", f"{path}/binding", {"metadata": {"name": pod}, "target": target})
    reference = {"apiVersion": "v1", "kind": "Pod", "name": pod, "namespace": space.name}
    event = {
        "metadata": {"name": f"{pod}.1", "namespace": space.name},
        "involvedObject": {**reference, "uid": space.plane.request("GET", path)["metadata"]["uid"]},
        "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed for volume "tuning" : configmap "tuning" not found',
        "type": "Warning",
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
        "source": {"component": "kubelet", "host": node},
    }
    space.plane.request("POST", f"/api/v1/namespaces/{space.name}/events", event)
    waits = [{"type": "PodReadyToStartContainers", "status": "False"}, {"type": "PodScheduled", "status": "True"}]
    merge = "application/merge-patch+json"
    space.plane.request("PATCH", f"{path}/status", {"status": {"phase": "Pending", "conditions": waits}}, merge)
    ends_in(space, "ConfigMapMissing", "'tuning'")
    starts = [{"type": "PodReadyToStartContainers", "status": "True"}, {"type": "PodScheduled", "status": "True"}]
    space.plane.request("PATCH", f"{path}/status", {"status": {"phase": "Pending", "conditions": starts}}, merge)
    eventually(lambda: said(space)[:2] == ("Unknown", "Progressing"), why=lambda: str(said(space)))


def cordon(plane: ControlPlane, *, on: bool) -> None:
    """Let no new pod onto the node, as `kubectl cordon` does."""
    plane.request("PATCH", f"/api/v1/nodes/{NODE}", {"spec": {"unschedulable": on}}, "application/merge-patch+json")
