"""From a model's name to an answer: a hub in the cluster, real Jobs, the real tools, real engines on the CPU."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.archive import image_archive
from devcluster.session import Session
from tests.e2e.space import JSON, Space, leave, make, restricted
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NAMESPACE = "models"
ANY_USER = 1_000_770_000
"""A user id as OpenShift assigns them: no image knows it."""
SENTENCE = "tiny test model"
REPOSITORY = "org/tiny-qwen2"
HUB = Path(__file__).resolve().parents[1] / "faulty_hub.py"
COMMIT_LENGTH = 40
VERIFIED = "llm-operator.dev/verified-at"
PIECE = 256 << 10


class Hub:
    """The stub of a hub that runs in the cluster."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.address = str(space.get("Service", "hub")["spec"]["clusterIP"])

    def _path(self, what: str) -> str:
        return f"/api/v1/namespaces/{self.space.name}/services/hub:http/proxy/_control/{what}"

    def fail(self, *faults: JSON) -> None:
        """Faults from now on; counts begin anew."""
        self.space.session.request("POST", self._path("reset"), {})
        self.space.session.request("POST", self._path("faults"), faults)

    def mend(self) -> None:
        """No faults for new requests; counts go on."""
        self.space.session.request("POST", self._path("faults"), [])

    def sent(self) -> int:
        """Bytes of the weights sent since then."""
        state = self.space.session.request("GET", self._path("state"))
        return int(sum(count for name, count in state["sent"].items() if name.endswith(".safetensors")))


def hub_documents(session: Session) -> list[JSON]:
    """The hub's script, a pod that makes the tiny model and serves it, and a Service."""
    image = session.images["lmdeploy-cpu-test"]
    folder = {"name": "hub", "mountPath": "/hub"}
    tmp = {"name": "tmp", "mountPath": "/tmp"}
    made = {
        "name": "make",
        "image": image,
        "command": ["make-tiny-model", f"/hub/{REPOSITORY}", "qwen2"],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "volumeMounts": [folder, tmp],
    }
    serve = {
        "name": "serve",
        "image": image,
        "command": ["python3", "/script/faulty_hub.py", "--root", "/hub", "--port", "8080", "--host", "0.0.0.0"],
        "volumeMounts": [folder, {"name": "script", "mountPath": "/script"}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    volumes = [
        {"name": "hub", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "script", "configMap": {"name": "hub"}},
    ]
    pod = restricted({"restartPolicy": "Always", "initContainers": [made], "containers": [serve], "volumes": volumes})
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hub"}, "data": {HUB.name: HUB.read_text()}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hub", "labels": {"app": "hub"}}, "spec": pod},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "hub"},
            "spec": {"selector": {"app": "hub"}, "ports": ports},
        },
    ]


@pytest.fixture(scope="module")
def space(installed: Session) -> Iterator[Space]:
    make(installed, NAMESPACE)
    made = Space(installed, NAMESPACE)
    made.apply(*hub_documents(installed))
    made.kubectl("wait", "--for=condition=Ready", "--timeout=120s", "pod/hub")
    made.claim("models")
    install(made)
    yield made
    leave(installed, NAMESPACE)
    installed.install_chart()


@pytest.fixture
def hub(space: Space) -> Hub:
    found = Hub(space)
    found.fail()
    return found


def install(space: Space, **numbers: int) -> None:
    """The chart with the stub for a hub, and with an id for the pods that no image knows."""
    space.session.install_chart(
        "operator.extraEnv[0].name=HF_ENDPOINT",
        f"operator.extraEnv[0].value=http://{space.get('Service', 'hub')['spec']['clusterIP']}",
        numbers={"podSecurity.runAsUser": ANY_USER, **numbers},
    )


def deploy(space: Space, name: str, example: str = "tiny-vllm", **spec: Any) -> None:
    """The example with its model from the hub, through the shared cache."""
    document = space.session.example(example)[0]
    document["metadata"]["name"] = name
    document["spec"] |= {
        "model": {"huggingFace": {"repository": REPOSITORY}},
        "cache": {"claimName": "models"},
        **spec,
    }
    document["spec"] = {key: value for key, value in document["spec"].items() if value is not None}
    space.apply(document)


def jobs(space: Space, stage: str) -> list[str]:
    return [item["metadata"]["name"] for item in space.items("Job", f"llm-operator.dev/stage={stage}")]


def original(space: Space) -> str:
    """Directory of the fetched model among those that were made from it."""
    (directory,) = {name for name in stored(space) if "--awq" not in name and "--turbomind" not in name}
    return directory


def stored(space: Space) -> set[str]:
    """Directories of models on the claim's volume, as the node has them."""
    assert space.session.volumes is not None
    root = space.session.volumes / f"models-{NAMESPACE}" / "models"
    return {path.relative_to(root).as_posix() for path in root.glob("*/*") if path.is_dir()}


def test_a_fetch_is_cut_and_its_pod_killed_and_nothing_comes_twice(space: Space, hub: Hub) -> None:
    weights = f"file/{REPOSITORY}/model.safetensors"
    hub.fail({"kind": "rate", "match": weights, "rate": 40_000})
    deploy(space, "first", "tiny-lmdeploy")
    deploy(space, "second")
    space.becomes("first", "ModelCached", "Unknown", "Fetching")
    # From the process in the operator's pod that reads hubs: no Job has told anything yet.
    eventually(lambda: space.status("first").get("model", {}).get("architecture"), 30, "the hub is read")
    assert space.condition("first", "ModelCached")[1] == "Fetching"
    eventually(lambda: space.status("first").get("progress", {}).get("bytesPerSecond"), 60, "progress with a rate")
    assert "Fetching" in space.kubectl("get", "llmdep", "first")
    (job,) = jobs(space, "fetch")
    before = space.items("Pod", f"job-name={job}")[0]["metadata"]["name"]
    hub.mend()
    space.kubectl("delete", "pod", before, "--wait=false")
    eventually(
        lambda: any(item["metadata"]["name"] != before for item in space.items("Pod", f"job-name={job}")),
        60,
        "another pod goes on",
    )
    space.becomes("first", "ModelCached", "True", "Cached")
    space.becomes("second", "ModelCached", "True", "Cached")
    size = space.status("first")["cache"]["bytes"]
    # The client writes pieces of 256 KiB: what it held of one is sent again. The planner reads the file's beginning.
    assert hub.sent() < size + 2 * PIECE, "the second pod went on where the first one was"
    assert len(space.status("first")["model"]["resolvedRevision"]) == COMMIT_LENGTH
    space.ready("first")
    space.ready("second")
    assert SENTENCE in space.chat("first")
    assert SENTENCE in space.chat("second")
    assert len(stored(space)) == 1
    space.delete("second")


def test_another_object_with_the_model_fetches_nothing(space: Space, hub: Hub) -> None:
    deploy(space, "third", "tiny-lmdeploy", replicas=0)
    space.becomes("third", "ModelCached", "True", "Cached")
    assert hub.sent() == 0
    assert len(jobs(space, "fetch")) == 1
    space.delete("third")


def test_without_a_cache_the_pod_fetches_for_itself(space: Space, hub: Hub) -> None:
    deploy(space, "alone", "tiny-lmdeploy", cache=None)
    space.ready("alone")
    assert SENTENCE in space.chat("alone")
    assert hub.sent() > 0
    space.delete("alone")


def test_a_missing_repository_stalls_and_touches_nothing_that_serves(space: Space, hub: Hub) -> None:
    pods = {item["metadata"]["uid"] for item in space.pods("first")}
    change = {"spec": {"model": {"huggingFace": {"repository": "org/none"}}}}
    space.kubectl("patch", "llmdep", "first", "--type=merge", "-p", json.dumps(change))
    space.becomes("first", "Stalled", "True", "ModelNotFound")
    assert SENTENCE in space.chat("first")
    assert {item["metadata"]["uid"] for item in space.pods("first")} == pods
    back = {"spec": {"model": {"huggingFace": {"repository": REPOSITORY}}}}
    space.kubectl("patch", "llmdep", "first", "--type=merge", "-p", json.dumps(back))
    space.becomes("first", "Ready", "True")
    space.delete("first")


def test_weights_are_quantized_by_the_real_tool_and_vllm_serves_them(space: Space, hub: Hub) -> None:
    # Too little for eight samples, so that the recipe that was carried out tells whose text it was.
    words = {"text": f"hello, I am a {SENTENCE}. " * 14}
    space.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "calibration"}, "data": words})
    text = {"configMap": {"name": "calibration", "key": "text"}}
    calibration: JSON = {"dataset": "Text", "text": text, "samples": 8, "sequenceLength": 64}
    recipe = {"calibration": calibration, "quality": {"evaluate": True}}
    deploy(space, "awq", weightQuantization=recipe, resources={"limits": {"memory": "4Gi"}})
    space.becomes("awq", "ModelCached", "True", "Cached")
    space.becomes("awq", "WeightsQuantized", "Unknown", "Quantizing")
    space.becomes("awq", "WeightsQuantized", "True", "Quantized", seconds=300)
    quality = space.status("awq")["quantization"]
    assert float(quality["perplexityOriginal"]) > 1
    assert 0 <= quality["agreementPercent"] <= 100
    samples = re.search(r"\bsamples (\d+)", quality["recipe"])
    assert samples is not None
    assert 0 < int(samples[1]) < calibration["samples"]
    space.ready("awq")
    assert space.chat("awq")
    (job,) = jobs(space, "quantize")
    uid = space.get("Job", job)["metadata"]["uid"]
    deploy(space, "awq-too", "tiny-lmdeploy", weightQuantization=recipe, replicas=0)
    space.becomes("awq-too", "WeightsQuantized", "True", "Quantized")
    assert space.get("Job", job)["metadata"]["uid"] == uid
    space.delete("awq-too")
    space.delete("awq")


def test_weights_are_converted_by_the_last_release_that_can_and_its_server_loads_them(space: Space, hub: Hub) -> None:
    image = space.session.images["lmdeploy-convert-cpu-test"]
    engine = {"type": "LMDeploy", "version": "0.9.2.post1", "conversion": "TurboMind", "image": image}
    # That release always runs code of the repository.
    model = {"huggingFace": {"repository": REPOSITORY}, "trustRemoteCode": True}
    deploy(space, "converted", "tiny-lmdeploy", engine=engine, model=model, parallelism={"tensor": 2})
    space.becomes("converted", "Ready", "Unknown", "Converting")
    space.ready("converted")
    (job,) = jobs(space, "convert")
    assert space.get("Job", job)["status"]["succeeded"] == 1
    (workspace,) = {name for name in stored(space) if "--turbomind" in name}
    assert workspace.startswith(f"{original(space)}--turbomind-")
    (container,) = space.get("Deployment", "converted")["spec"]["template"]["spec"]["containers"]
    (mount,) = (entry for entry in container["volumeMounts"] if entry["name"] == "model")
    assert mount["subPath"] == f"models/{workspace}"
    assert container["args"][0] == mount["mountPath"]
    assert container["args"][container["args"].index("--tp") + 1] == "2"
    # The stand-in for TurboMind has its weights from the workspace's files alone.
    assert SENTENCE in space.chat("converted")
    space.kubectl("delete", "llmdep", "converted")


def test_a_model_in_an_image_is_mounted_and_served(space: Space) -> None:
    if space.session.load is None or space.session.volumes is None:
        pytest.skip("on a cluster of your own, an image with a model would have to be pushed to its registry")
    folder = space.session.volumes / f"models-{NAMESPACE}" / "models" / original(space)
    files = {f"weights/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}
    archive = space.session.volumes / "model-image.tar"
    archive.write_bytes(image_archive("docker.io/local/tiny-model:1", files, {}))
    space.session.load([archive])
    image = {"reference": "docker.io/local/tiny-model:1", "path": "weights", "pullPolicy": "Never"}
    deploy(space, "imaged", "tiny-lmdeploy", model={"image": image}, cache=None)
    space.ready("imaged")
    assert SENTENCE in space.chat("imaged")
    assert space.status("imaged")["model"]["architecture"] == "Qwen2ForCausalLM"
    space.delete("imaged")


def test_a_damaged_file_is_found_told_and_replaced(space: Space, hub: Hub) -> None:
    if space.session.volumes is None:
        pytest.skip("on a cluster of your own, the node's disk is out of reach")
    deploy(space, "damaged", "tiny-lmdeploy", replicas=0)
    space.becomes("damaged", "ModelCached", "True", "Cached")
    (job,) = jobs(space, "fetch")
    install(space, **{"modelTools.cacheVerifySeconds": 5})
    eventually(lambda: VERIFIED in space.get("Job", job)["metadata"]["annotations"], 90, "it is compared, and whole")
    assert space.condition("damaged", "ModelDamaged")[0] == ""
    weights = space.session.volumes / f"models-{NAMESPACE}" / "models" / original(space) / "model.safetensors"
    whole = weights.read_bytes()
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        file.write(bytes([whole[-1] ^ 1]))
    space.becomes("damaged", "ModelDamaged", "True", "HashMismatch")
    told = space.condition("damaged", "ModelDamaged")[2]
    assert "the SHA-256 of model.safetensors is" in told
    assert f"kubectl delete job {job}, and change a field of the spec" in told
    assert weights.read_bytes() != whole, "what an engine may serve is left alone"
    space.kubectl("delete", "job", job)
    change = {"spec": {"startupTimeoutSeconds": 1801}}
    space.kubectl("patch", "llmdep", "damaged", "--type=merge", "-p", json.dumps(change))
    eventually(lambda: weights.is_file() and weights.read_bytes() == whole, 120, "the file is as it was")
    eventually(lambda: space.condition("damaged", "ModelDamaged")[0] == "", 90, "the condition goes")
    space.becomes("damaged", "ModelCached", "True", "Cached")
    space.delete("damaged")


def test_a_model_that_nobody_uses_is_removed_when_asked(space: Space, hub: Hub) -> None:
    (job,) = jobs(space, "fetch")
    eventually(
        lambda: "llm-operator.dev/unused-since" in space.get("Job", job)["metadata"]["annotations"], 90, "unused"
    )
    assert stored(space)
    made = (*jobs(space, "quantize"), *jobs(space, "convert"))
    assert len(made) == 2
    for name in (*made, job):
        space.kubectl("annotate", "job", name, "llm-operator.dev/remove=true")
    eventually(lambda: not stored(space), 120, "the files are gone")
    stages = ("fetch", "quantize", "convert")
    eventually(lambda: not any(jobs(space, stage) for stage in stages), 60, "and so are the records")
    eventually(lambda: not jobs(space, "remove"), 60, "and the Jobs that removed them")
