"""Plans in the operator: a real API server and the real operator process; nodes' labels, hub and kubelet are fakes."""

from __future__ import annotations

import itertools
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from devcluster.control_plane import ControlPlane
from llm_operator.api import KIND
from llm_operator.api.resource import LLMDeployment
from llm_operator.engines import resolve
from llm_operator.models import parse_config_text
from llm_operator.planning import GpuFacts, PlanRequest, gpu_by_name, plan, plan_document
from tests.cluster.helpers import JSON, Space
from tests.faulty_hub import Fault, FaultyHub
from tests.kubelet_stub import StubKubelet
from tests.operator_process import OperatorUnderTest, free_port
from tests.support.engine_names import Backend, Engine
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"
CONFIGS = Path(__file__).resolve().parents[1] / "unit" / "models" / "configs"
SMALL = (CONFIGS / "llama-3.1-8b.json").read_bytes()
LARGE = (CONFIGS / "llama-3.3-70b.json").read_bytes()
PLANNING = ("--no-leader-elect", "--plan-wait-seconds", "3")
A6000, L4, TURING = "NVIDIA-RTX-A6000", "NVIDIA-L4", "Quadro-RTX-8000"
numbers = itertools.count()


def labelled_node(plane: ControlPlane, name: str, count: int, labels: dict[str, str], resource: str) -> None:
    """A node that is nothing but labels and allocatable, as GPU feature discovery and the device plugin write them."""
    plane.request("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
    amounts = {resource: str(count), "cpu": "64", "memory": "512Gi", "pods": "110"}
    status = {"status": {"capacity": amounts, "allocatable": amounts}}
    plane.request("PATCH", f"/api/v1/nodes/{name}/status", status, "application/merge-patch+json")


def gpu_labels(product: str, memory_mib: int, count: int, major: int, minor: int) -> dict[str, str]:
    return {
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.memory": str(memory_mib),
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.compute.major": str(major),
        "nvidia.com/gpu.compute.minor": str(minor),
    }


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane.start(tmp_path_factory.mktemp("planning")) as started:
        started.install_crd(CRD)
        labelled_node(started, "two-a6000", 2, gpu_labels(A6000, 49140, 2, 8, 6), "nvidia.com/gpu")
        labelled_node(started, "one-l4", 1, gpu_labels(L4, 23034, 1, 8, 9), "nvidia.com/gpu")
        labelled_node(started, "turing", 1, gpu_labels(TURING, 49152, 1, 7, 5), "nvidia.com/gpu")
        yield started


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    with FaultyHub(tmp_path_factory.mktemp("hub")) as stub:
        not_read = {"model-00001-of-00001.safetensors": b"not asked for", "tokenizer.json": b"{}"}
        stub.add("org/small", {"config.json": SMALL, **not_read})
        stub.add("org/large", {"config.json": LARGE})
        stub.add("org/unknown", {"config.json": json.dumps({"architectures": ["MambaForCausalLM"]}).encode()})
        index = {"metadata": {"total_size": 5_700_000_000}, "weight_map": {"a": "b"}}
        files = {"config.json": SMALL, "model.safetensors.index.json": json.dumps(index).encode(), **not_read}
        stub.add("org/disagrees", files)
        stub.faults = [
            Fault("status", f"*/org/{name}*", status=code) for name, code in (("gated", 403), ("broken", 500))
        ]
        yield stub


@pytest.fixture(scope="module")
def operator(
    plane: ControlPlane, hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorUnderTest]:
    log = tmp_path_factory.mktemp("operator") / "log"
    spaces = [f"planning-{number}" for number in range(30)]
    with OperatorUnderTest(plane.kubeconfig, *spaces, arguments=PLANNING, log=log, hub=hub.url) as process:
        process.wait_ready()
        yield process
        text = log.read_text()
    assert "Traceback" not in text, text[-4000:]
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    # An engine whose test is over does not answer the look that comes each second.
    told = [line for line in lines if line["logger"] != "llm_operator.engine_api"]
    assert [line for line in told if line["level"] == "error" or "failed" in line["msg"]] == []


@pytest.fixture
def space(plane: ControlPlane) -> Space:
    return Space(plane, f"planning-{next(numbers)}")


def serve(space: Space, name: str, repository: str = "org/small", **spec: Any) -> None:
    space.create(llm(name, model={"huggingFace": {"repository": repository}}, **spec))


def planned(space: Space, name: str, reason: str) -> str:
    """Waits until Planned has a reason; its message."""
    eventually(
        lambda: space.condition(name, "Planned")[1] == reason,
        why=lambda: f"{reason}, but {space.condition(name, 'Planned')}",
    )
    return space.condition(name, "Planned")[2]


def status(space: Space, name: str) -> JSON:
    body = space.get(KIND, name)
    assert body is not None
    found: JSON = body["status"]
    return found


def told(space: Space, name: str) -> JSON:
    """What an engine said of itself, by whichever pod."""
    measured: JSON = dict(status(space, name)["measured"])
    assert measured.pop("podUID")
    return measured


def deployed(space: Space, name: str) -> JSON:
    """The Deployment, once it is there."""
    found: JSON | None = eventually(lambda: space.get("Deployment", name), why=f"a Deployment for {name}")
    assert found is not None
    return found


def arguments(deployment: JSON) -> list[str]:
    found: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return found


def expected(config: bytes, gpu: GpuFacts, engine: str = "VLLM", **request: Any) -> JSON:
    """What the planner itself says."""
    shape = parse_config_text(config)
    spec = LLMDeployment.parse(llm("a", engine={"type": engine})).spec
    version, backend = resolve(spec, shape.architecture)
    result = plan(
        PlanRequest(shape, Engine(engine), version, gpu, Backend(backend) if backend else Backend.TURBOMIND, **request)
    )
    assert result.plan is not None
    return plan_document(result.plan)


def test_a_plan_that_fits_is_shown_and_carried_out(operator: OperatorUnderTest, hub: FaultyHub, space: Space) -> None:
    serve(space, "fits", gpu={"product": A6000}, parallelism={"tensor": 2})
    message = planned(space, "fits", "Fits")
    assert space.condition("fits", "Planned")[0] == "True"
    found = status(space, "fits")
    want = expected(SMALL, gpu_by_name(A6000, 2), tensor=2)
    assert {**found["plan"], "explanation": ""} == {**want, "explanation": ""}
    assert "kvTokens" in found["plan"]["explanation"]
    assert f"{want['kvTokens']:,} KV tokens" in message
    assert found["model"]["parameters"] == 8030261248
    assert found["model"]["resolvedRevision"] == hub.commit("org/small")
    deployment = deployed(space, "fits")
    given = arguments(deployment)
    assert given[given.index("--tensor-parallel-size") + 1] == "2"
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_only_config_and_index_are_read(operator: OperatorUnderTest, hub: FaultyHub, space: Space) -> None:
    serve(space, "reads", gpu={"product": A6000})
    planned(space, "reads", "Fits")
    assert hub.sent["org/small/config.json"] > 0
    files = {name.split("/", 2)[2] for name in hub.sent}
    assert files <= {"config.json", "model.safetensors.index.json"}, files


def test_what_cannot_work_is_held_back_with_counter_offers(operator: OperatorUnderTest, space: Space) -> None:
    serve(space, "large", "org/large", gpu={"product": A6000})
    message = planned(space, "large", "DoesNotFit")
    assert space.condition("large", "Planned")[0] == "False"
    assert "the weights take" in message
    assert "what fits instead" in message
    assert "parallelism.tensor: 4, gpu.count: 4" in message
    for kind in ("Ready", "Stalled"):
        found = space.condition("large", kind)
        assert (found[0], found[1]) == ({"Ready": "False", "Stalled": "True"}[kind], "DoesNotFit")
        assert found[2] == message
    assert status(space, "large")["plan"]["kvTokens"] == 0
    operator.wait_idle()
    assert space.names("Deployment") == set()
    offered = re.search(r"gpu\.memory: (\d+Gi)", message)
    assert offered is not None
    space.patch("large", {"spec": {"gpu": {"product": None, "memory": offered[1]}}})
    planned(space, "large", "Fits")
    deployed(space, "large")


def test_warn_says_so_and_proceeds(operator: OperatorUnderTest, space: Space) -> None:
    serve(space, "warned", "org/large", gpu={"product": A6000}, planPolicy="Warn")
    message = planned(space, "warned", "DoesNotFit")
    assert "what fits instead" in message
    deployed(space, "warned")
    assert space.condition("warned", "Stalled")[0] == "False"


def test_the_smallest_gpu_of_the_nodes_is_planned_for(operator: OperatorUnderTest, space: Space) -> None:
    serve(space, "any", contextLength=4096)
    planned(space, "any", "Fits")
    assert status(space, "any")["plan"]["gpuMemoryBytes"] == gpu_by_name(L4).memory_bytes
    serve(space, "given", contextLength=4096, gpu={"memory": "40Gi"})
    planned(space, "given", "Fits")
    assert status(space, "given")["plan"]["gpuMemoryBytes"] == 40 << 30


def test_the_compute_capability_of_the_labels_counts(operator: OperatorUnderTest, space: Space) -> None:
    quantized: JSON = {"contextLength": 4096, "kvCache": {"quantization": "FP8"}}
    serve(space, "ada", gpu={"product": L4}, **quantized)
    planned(space, "ada", "Fits")
    serve(space, "turing", gpu={"product": TURING}, **quantized)
    assert "8.0" in planned(space, "turing", "DoesNotFit")


def test_a_resource_nobody_asked_for_before_is_looked_up_first(
    operator: OperatorUnderTest, plane: ControlPlane, space: Space
) -> None:
    resource = "nvidia.com/mig-3g.40gb"
    labels = {
        **gpu_labels("NVIDIA-H100-80GB-HBM3", 81559, 1, 9, 0),
        f"{resource}.product": "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb",
        f"{resource}.memory": "40192",
        f"{resource}.count": "2",
    }
    labelled_node(plane, "mig", 2, labels, resource)
    serve(space, "sliced", gpu={"resourceName": resource})
    planned(space, "sliced", "Fits")
    found = status(space, "sliced")["plan"]
    assert 39 << 30 > found["gpuMemoryBytes"] > 36 << 30
    assert found["tensor"] == 1
    assert "--kv-cache-memory-bytes" in arguments(deployed(space, "sliced")), "planned before it was rendered"
    serve(space, "elsewhere", gpu={"resourceName": "example.com/gpu"})
    planned(space, "elsewhere", "GPUUnknown")
    assert status(space, "elsewhere")["model"]["architecture"] == "LlamaForCausalLM"
    deployed(space, "elsewhere")


@pytest.mark.parametrize(
    ("repository", "reason", "told"),
    [
        ("org/gated", "ModelGated", "gated"),
        ("org/broken", "HubError", "500"),
        ("org/missing", "ModelNotFound", "does not exist"),
        ("org/unknown", "ModelUnknown", "MambaForCausalLM"),
        ("org/disagrees", "WeightsContradictConfig", "5.31 GiB"),
    ],
)
def test_what_is_not_known_blocks_nothing(
    operator: OperatorUnderTest, space: Space, repository: str, reason: str, told: str
) -> None:
    serve(space, "unknown", repository, gpu={"product": A6000})
    assert told in planned(space, "unknown", reason)
    assert space.condition("unknown", "Planned")[0] == "Unknown"
    assert "plan" not in status(space, "unknown")
    deployed(space, "unknown")


def test_a_hub_that_is_away_blocks_nothing(plane: ControlPlane, tmp_path: Path) -> None:
    space = Space(plane, f"away-{next(numbers)}")
    away = f"http://127.0.0.1:{free_port()}"
    with OperatorUnderTest(plane.kubeconfig, space.name, arguments=PLANNING, hub=away, log=tmp_path / "log") as process:
        process.wait_ready()
        serve(space, "away", gpu={"product": A6000})
        message = planned(space, "away", "HubUnreachable")
        assert away.removeprefix("http://") in message
        assert space.condition("away", "Planned")[0] == "Unknown"
        deployed(space, "away")
        assert space.condition("away", "Stalled")[0] == "False"
        # A share that vLLM can only take as bytes waits for the plan; it is not the spec's fault.
        serve(space, "share", gpu={"product": A6000}, kvCache={"memoryPercent": 40})
        eventually(lambda: space.condition("share", "Ready")[:2] == ("False", "HubUnreachable"))
        assert "kvCache.memory" in space.condition("share", "Ready")[2]
        assert space.condition("share", "Stalled")[0] == "False"


def test_a_hub_that_comes_back_is_waited_for_and_then_planned_with(plane: ControlPlane, tmp_path: Path) -> None:
    space = Space(plane, f"returns-{next(numbers)}")
    patient = ("--no-leader-elect", "--plan-wait-seconds", "600")
    with FaultyHub(tmp_path / "hub") as stub:
        stub.add("org/large", {"config.json": LARGE})
        stub.add("org/late", {"config.json": LARGE})
        stub.faults = [Fault("status", "*/org/*", status=503)]
        with OperatorUnderTest(plane.kubeconfig, space.name, arguments=patient, hub=stub.url) as process:
            process.wait_ready()
            enough = {"gpu": {"memory": "96Gi"}}
            serve(space, "held", "org/large", **enough)
            serve(space, "warned", "org/late", planPolicy="Warn", **enough)
            assert "planPolicy Enforce waits for it until 20" in planned(space, "held", "HubError")
            # What may be served without a plan is; nothing of it has been Ready when the plan comes.
            assert gpus(deployed(space, "warned")) == "1"
            assert space.get("Deployment", "held") is None
            # As the Deployment controller says, which does not run here: there is a pod, and it has not been Ready.
            counts = {"status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}}
            path = f"{space.path('Deployment', 'warned')}/status"
            plane.request("PATCH", path, counts, "application/merge-patch+json")
            stub.faults = []
            assert gpus(deployed(space, "held")) == "2"
            eventually(lambda: gpus(deployed(space, "warned")) == "2", why="rendered again with the plan")
            planned(space, "warned", "Fits")
            assert status(space, "warned")["plan"]["tensor"] == 2


def says(space: Space, text: str) -> bool:
    return text in planned(space, "steady", "Fits")


def gpus(deployment: JSON) -> str:
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    count: str = container["resources"]["limits"]["nvidia.com/gpu"]
    return count


def test_another_plan_restarts_no_engine(plane: ControlPlane, hub: FaultyHub, tmp_path: Path) -> None:
    """Between two runs of the operator the nodes' GPUs become other ones, and then too small."""
    space = Space(plane, f"replanned-{next(numbers)}")
    product = "NVIDIA-TEST-CARD"
    labelled_node(plane, "changing", 1, gpu_labels(product, 49140, 1, 8, 6), "nvidia.com/gpu")
    before: JSON = {}
    plans: list[JSON] = []
    for memory, beside in ((49140, ""), (40960, "is another: fits on one"), (15360, "is another: DoesNotFit: ")):
        labels = {"metadata": {"labels": {"nvidia.com/gpu.memory": str(memory)}}}
        plane.request("PATCH", "/api/v1/nodes/changing", labels, "application/merge-patch+json")
        with OperatorUnderTest(
            plane.kubeconfig, space.name, arguments=PLANNING, hub=hub.url, log=tmp_path / "log"
        ) as process:
            process.wait_ready()
            if not before:
                serve(space, "steady", gpu={"product": product}, contextLength=4096)
                before = deployed(space, "steady")
            # The plan of what runs stands; today's is told beside it.
            eventually(partial(says, space, beside), why=f"{memory}: {beside}")
            process.wait_idle()
        assert ("by what is known today" in planned(space, "steady", "Fits")) is bool(beside)
        plans.append(status(space, "steady")["plan"])
        after = deployed(space, "steady")
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        assert after["spec"] == before["spec"]
    assert plans[0] == plans[1] == plans[2]


def _controlled_by(live: JSON) -> JSON:
    meta = {name: live["metadata"][name] for name in ("name", "uid")}
    return {"apiVersion": live["apiVersion"], "kind": live["kind"], "controller": True, **meta}


def running_pod(plane: ControlPlane, space: Space, name: str, kubelet: StubKubelet, address: str | None = None) -> None:
    """The pod that the Deployment's controller would make, on a node whose kubelet is the stub."""
    node = f"stub-{name}"
    plane.request("POST", "/api/v1/nodes", {"metadata": {"name": node}})
    where = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}},
    }
    plane.request("PATCH", f"/api/v1/nodes/{node}/status", {"status": where}, "application/merge-patch+json")
    deployment = deployed(space, name)
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    owner = _controlled_by(deployment)
    body = {"metadata": {"name": f"{name}-1", "ownerReferences": [owner]}}
    replica_set = space.create(
        {**body, "spec": {"selector": deployment["spec"]["selector"], "template": template}}, "ReplicaSet"
    )
    meta = {"name": f"{name}-1", "labels": labels, "ownerReferences": [_controlled_by(replica_set)]}
    pod = {"metadata": meta, "spec": {**template["spec"], "nodeName": node}}
    space.create(pod, "Pod")
    container = template["spec"]["containers"][0]
    state = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:02:03Z"}],
        "containerStatuses": [
            {
                "name": container["name"], "image": container["image"], "imageID": "", "ready": True, "restartCount": 0,
                "state": {"running": {"startedAt": "2026-01-01T00:00:03Z"}},
            }
        ],
    }  # fmt: skip
    state |= {"podIP": address} if address else {}
    path = space.path("Pod", f"{name}-1") + "/status"
    plane.request("PATCH", path, {"status": state}, "application/merge-patch+json")


def vllm_log(tokens: int) -> str:
    """As vLLM 0.26.0 and 0.33.0 write it."""
    return f"INFO 01-01 00:00:59 [kv_cache_utils.py:1716] GPU KV cache size: {tokens:,} tokens\n"


def turbomind_log(tokens: int, bytes_per_token: int) -> str:
    """As LMDeploy 0.18.0 writes it."""
    budget = tokens * bytes_per_token / 2**20
    return f"[TM][INFO] Object cache budget: {budget:.2f} MB from free {budget / 0.8:.2f} MB and ratio 0.80\n"


@pytest.mark.parametrize("engine", ["VLLM", "LMDeploy"])
@pytest.mark.parametrize(("percent", "told"), [(120, True), (80, True), (103, False)])
def test_what_the_engine_has_is_held_against_the_plan(
    operator: OperatorUnderTest, plane: ControlPlane, space: Space, engine: str, percent: int, told: bool
) -> None:
    name = f"measured-{engine.lower()}-{percent}"
    serve(space, name, gpu={"product": A6000}, engine={"type": engine})
    before = planned(space, name, "Fits")
    document = status(space, name)["plan"]
    tokens = document["kvTokens"] * percent // 100
    text = vllm_log(tokens) if engine == "VLLM" else turbomind_log(tokens, document["kvBytesPerToken"])
    pki = plane.folder / "pki"
    with StubKubelet(pki / "api.crt", pki / "api.key") as kubelet:
        kubelet.logs[space.name, f"{name}-1"] = "starting\n" + text
        running_pod(plane, space, name, kubelet)
        eventually(lambda: "measured" in status(space, name), why="status.measured")
        operator.wait_idle()
        assert len(kubelet.asked) == 1, "read once per pod"
    measured = status(space, name)["measured"]
    assert measured["secondsToReady"] == 120
    assert measured["kvTokens"] == pytest.approx(tokens, rel=2e-3), "TurboMind's whole slabs are 256 tokens here"
    message = planned(space, name, "Fits")
    assert message.startswith(before)
    assert (message != before) is told
    if told:
        assert f"{percent - 100:+d} % of the {document['kvTokens']} planned" in message
    line = f'llmdeployment_kv_tokens_deviation_ratio{{namespace="{space.name}",name="{name}"}} '
    (value,) = [row.removeprefix(line) for row in operator.metrics().splitlines() if row.startswith(line)]
    assert float(value) == pytest.approx(percent / 100 - 1, abs=2e-3)


class StubEngineMetrics(BaseHTTPRequestHandler):
    """What a vLLM of 4,096 tokens says; a stub, as its pod does not run."""

    def do_GET(self) -> None:
        body = b'vllm:cache_config_info{engine="0",kv_cache_size_tokens="4096"} 1.0\n'
        self.send_response(200 if self.path == "/metrics" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_the_engines_metrics_go_before_its_log(operator: OperatorUnderTest, plane: ControlPlane, space: Space) -> None:
    serve(space, "asked", gpu={"product": A6000})
    planned(space, "asked", "Fits")
    pki = plane.folder / "pki"
    # The port is vLLM's own; the address is this test's alone.
    address = f"127.88.{os.getpid() >> 8 & 127}.{os.getpid() & 255 or 1}"
    with (
        StubKubelet(pki / "api.crt", pki / "api.key") as kubelet,
        ThreadingHTTPServer((address, 8000), StubEngineMetrics) as engine,
    ):
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        kubelet.logs[space.name, "asked-1"] = vllm_log(1024)
        running_pod(plane, space, "asked", kubelet, address)
        eventually(lambda: "measured" in status(space, "asked"), why="status.measured")
        engine.shutdown()
        assert kubelet.asked == []
    assert told(space, "asked") == {"secondsToReady": 120, "kvTokens": 4096}


def test_a_size_beyond_reason_is_said_and_blocks_nothing(operator: OperatorUnderTest, space: Space) -> None:
    serve(space, "absurd", gpu={"memory": "1Mi"})
    assert "GPU memory is 1.00 MiB" in planned(space, "absurd", "PlanUnknown")
    deployed(space, "absurd")


def test_a_log_that_cannot_be_read_leaves_the_capacity_unknown(
    operator: OperatorUnderTest, plane: ControlPlane, space: Space
) -> None:
    serve(space, "silent", gpu={"product": A6000})
    planned(space, "silent", "Fits")
    pki = plane.folder / "pki"
    with StubKubelet(pki / "api.crt", pki / "api.key") as kubelet:
        running_pod(plane, space, "silent", kubelet)
        eventually(lambda: "measured" in status(space, "silent"), why="status.measured")
    assert told(space, "silent") == {"secondsToReady": 120}


def test_nothing_is_written_while_nothing_changes(operator: OperatorUnderTest, space: Space) -> None:
    serve(space, "quiet", gpu={"product": A6000})
    planned(space, "quiet", "Fits")
    space.wait_quiet(operator)
    # Objects of other tests wait for times of their own, so one of three looks must be quiet; a write of this object
    # would come in each.
    written = []
    for number in range(3):
        before = operator.writes()
        space.patch("quiet", {"metadata": {"annotations": {"someone": f"else-{number}"}}})
        time.sleep(2)
        written.append(operator.writes() - before)
        if not written[-1]:
            break
    assert written[-1] == 0, written
