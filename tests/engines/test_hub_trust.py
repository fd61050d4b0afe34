"""What an engine's own hub clients make of `caBundle`: each in the engine's environment, with the pod's variables."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.pki import make_pki
from llm_operator.api import API_VERSION, KIND
from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.trust import BUNDLES_FOLDER, FOLDER
from tests.engines.environments import HERE, interpreter, lite_interpreter
from tests.faulty_hub import FaultyHub
from tests.support.rendered import children_of

REPOSITORY, XET = "org/model", "xet.safetensors"
ENGINES = ("LMDeploy", "VLLM")
# LMDeploy 0.18 and vLLM 0.33 bring them; huggingface_hub asks with httpx2, and with hf_xet where the hub offers it.
EVERYWHERE = {"huggingface_hub", "hf_xet", "transformers", "requests", "httpx2", "aiohttp", "urllib"}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder, ["IP:127.0.0.1"])
    return folder


@pytest.fixture(scope="module")
def hub(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    root = tmp_path_factory.mktemp("hub")
    with FaultyHub(root, certificate=(pki / "api.crt", pki / "api.key")) as started:
        config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
        started.add(REPOSITORY, {"config.json": json.dumps(config).encode(), "model.safetensors": bytes(100_000)})
        started.add(REPOSITORY, {XET: bytes(100_000)})
        started.xet[f"{REPOSITORY}/{XET}"] = "a" * 64
        started.xet_store = started.url
        yield started


def pod_of(engine: str) -> dict[str, Any]:
    """The pod of an engine that fetches for itself."""
    spec = {
        "model": {"huggingFace": {"repository": REPOSITORY}},
        "engine": {"type": engine},
        "caBundle": {"name": "corporate-ca", "key": "ca.crt"},
    }
    body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "demo"}, "spec": spec}
    pod: dict[str, Any] = children_of(LLMDeployment.parse(body))[0]["spec"]["template"]["spec"]
    return pod


def python_of(engine: str) -> Path:
    return interpreter("vllm") if engine == "VLLM" else lite_interpreter()


def answers(engine: str, hub: FaultyHub, folder: Path, variables: dict[str, str], *clients: str) -> dict[str, str]:
    command = [str(python_of(engine)), str(HERE / "workers" / "hub_clients.py"), REPOSITORY, XET, *clients]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "HF_ENDPOINT": hub.url, **variables}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_every_client_of_the_hub_trusts_the_bundle(engine: str, pki: Path, hub: FaultyHub, tmp_path: Path) -> None:
    pod = pod_of(engine)
    init = next(one for one in pod["initContainers"] if one["name"] == "trust")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "0.crt").write_bytes((pki / "ca.crt").read_bytes())
    words = [
        word.replace(BUNDLES_FOLDER, str(tmp_path / "bundle")).replace(f"{FOLDER}/", f"{tmp_path}/")
        for word in init["args"]
    ]
    subprocess.run([python_of(engine), *init["command"][1:], *words], check=True)
    (container,) = pod["containers"]
    variables = {
        one["name"]: one["value"].replace(FOLDER, str(tmp_path))
        for one in container["env"]
        if one.get("value", "").startswith(FOLDER)
    }
    assert len(variables) == 3
    found = answers(engine, hub, tmp_path, variables)
    assert set(found) >= EVERYWHERE
    assert set(found.values()) == {"ok"}, found


def test_without_it_they_do_not(hub: FaultyHub, tmp_path: Path) -> None:
    clients = ("requests", "httpx2", "aiohttp", "urllib")
    found = answers("VLLM", hub, tmp_path, {}, *clients)
    assert list(found) == list(clients)
    for client, said in found.items():
        assert "CERTIFICATE_VERIFY_FAILED" in said, (client, said)
