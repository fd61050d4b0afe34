"""A cluster to work on, the images in it and the chart installed: what the demo and the e2e tests stand on."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import load_kube_config

from devcluster import toolchain
from devcluster.cache import ROOT
from devcluster.client import ApiError
from llm_operator.image_names import reference

CHART = ROOT / "helm" / "llm-operator"
EXAMPLES = ROOT / "examples"
OPERATOR_NAMESPACE = "llm-operator"
RELEASE = "llm-operator"
IMAGES = {
    name: reference(name, "dev")
    for name in (
        "operator",
        "model-tools",
        "web",
        "lmdeploy-cpu-test",
        "lmdeploy-convert-cpu-test",
        "vllm-cpu-test",
    )
}
"""What the tests need; the demo does without one of them."""
GPU_IMAGES = {name: reference(name, "dev") for name in ("lmdeploy", "vllm")}
"""Built only by name, from PyPI: 8.9 and 10.4 GB."""

REQUEST_SECONDS = 120.0


class CommandError(Exception):
    """A command failed; the message holds what it said."""


@dataclass(frozen=True)
class Session:
    """One cluster by its kubeconfig, with the image references that work there."""

    kubeconfig: Path
    binaries: Path
    images: dict[str, str] = field(default_factory=lambda: dict(IMAGES))
    volumes: Path | None = None
    """Where the development cluster keeps volumes; None on a cluster that provides its own."""
    load: Callable[[Sequence[Path]], None] | None = None
    """Loads image archives into the development cluster; None on a cluster that pulls from a registry."""
    inside: Callable[..., str] | None = None
    """Runs a command on the development cluster's node; None on a cluster whose nodes are out of reach."""

    def run(self, program: str, *arguments: str, stdin: str | None = None, seconds: float = 600) -> str:
        """Run kubectl or helm against the cluster; its output.

        Raises:
            CommandError: it failed.
        """
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "NO_PROXY": "*"}
        command = [str(self.binaries / program), *arguments]
        done = subprocess.run(
            command, input=stdin, text=True, capture_output=True, env=environment, timeout=seconds, check=False
        )
        if done.returncode != 0:
            raise CommandError(f"{program} {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-2000:]}")
        return done.stdout

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl."""
        return self.run("kubectl", *arguments, stdin=stdin)

    def apply(self, documents: Sequence[dict[str, Any]], namespace: str = "default") -> None:
        """Server-side apply of some documents."""
        self.kubectl(
            "-n",
            namespace,
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            "-",
            stdin=yaml.safe_dump_all(documents),
        )

    def image_values(self) -> list[str]:
        """The chart's values that name this cluster's images, as `path=text`."""
        return [
            *_image_values("image", self.images["operator"]),
            *_image_values("modelTools.image", self.images["model-tools"]),
            *_image_values("webUI.image", self.images["web"]),
            f"modelTools.quantizeImage={self.images['lmdeploy-cpu-test']}",
        ]

    def install_chart(self, *settings: str, numbers: dict[str, int] | None = None) -> None:
        """Install the chart, or upgrade what is installed, and wait for the operator.

        Args:
            settings: `path=text` of values that are texts.
            numbers: values by path that are numbers.
        """
        values = [*self.image_values(), *settings]
        self.run(
            "helm", "upgrade", "--install", RELEASE, str(CHART), "--namespace", OPERATOR_NAMESPACE,
            "--create-namespace", "--wait", "--timeout", "180s",
            *(part for value in values for part in ("--set-string", value)),
            *(part for path, number in (numbers or {}).items() for part in ("--set", f"{path}={number}")),
        )  # fmt: skip

    def example(self, name: str) -> list[dict[str, Any]]:
        """The documents of an example, with this cluster's images and volumes."""
        text = (EXAMPLES / f"{name}.yaml").read_text()
        for image, built in IMAGES.items():
            text = text.replace(built, self.images[image])
        documents = [document for document in yaml.safe_load_all(text) if document]
        for document in documents:
            if document["kind"] == "PersistentVolume" and self.volumes is not None:
                document["spec"]["hostPath"]["path"] = str(self.volumes / document["metadata"]["name"])
        return documents

    def provide_volume(self, claim: str, namespace: str = "default") -> dict[str, Any]:
        """What a claim must say to get a volume; on the development cluster, without a storage class, one is made."""
        if self.volumes is None:
            return {}
        name = f"{claim}-{namespace}"
        folder = self.volumes / name
        folder.mkdir(parents=True, exist_ok=True)
        # A hostPath volume respects no fsGroup: the pods' user ids must be able to write as they are.
        folder.chmod(0o777)
        volume = self.example("devcluster-storage")[0]
        volume["metadata"]["name"] = name
        volume["spec"]["claimRef"] = {"namespace": namespace, "name": claim}
        volume["spec"]["hostPath"]["path"] = str(folder)
        self.apply([volume])
        return {"storageClassName": "", "volumeName": name}

    def web_ui(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """`spec.webUI` of an object with a Service; without DNS, on the development cluster, with a hosts entry."""
        if self.volumes is None:
            return {}
        address = self.request("GET", f"/api/v1/namespaces/{namespace}/services/{name}")["spec"]["clusterIP"]
        alias = {"ip": address, "hostnames": [f"{name}.{namespace}.svc"]}
        return {"podTemplate": {"spec": {"hostAliases": [alias]}}}

    def provide_tiny_model(self, namespace: str = "default") -> None:
        """A claim with the tiny model on it; the Job that makes it runs once."""
        documents = self.example("tiny-model")
        for document in documents:
            if document["kind"] == "PersistentVolumeClaim":
                document["spec"] |= self.provide_volume(document["metadata"]["name"], namespace)
        self.apply(documents, namespace)
        self.kubectl("-n", namespace, "wait", "--for=condition=Complete", "--timeout=180s", "job/tiny-model")

    def chat(self, namespace: str, service: str, model: str, question: str, tokens: int = 32) -> str:
        """Ask an engine through the API server's proxy, which needs no route into the cluster; its answer."""
        path = f"/api/v1/namespaces/{namespace}/services/{service}:http/proxy/v1/chat/completions"
        # The likeliest answer: a small model's others are sometimes noise.
        request: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": question}]}
        request |= {"max_tokens": tokens, "temperature": 0}
        # kubectl create --raw sends no Content-Type, and the engines' servers then refuse the body.
        text: str = self.request("POST", path, request)["choices"][0]["message"]["content"]
        return text

    def request(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The decoded answer of the API server; for frequent requests: a kubectl takes 50 ms of a processor to start.

        Raises:
            ApiError: it was refused, by the API server or by what it passed the request on to.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        prepared = self._client.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        response = self._client.call_api(*prepared, _request_timeout=REQUEST_SECONDS)
        content: bytes = response.read()  # type: ignore[no-untyped-call]
        if not 200 <= response.status < 300:
            raise ApiError(response.status, f"{path}: {content.decode(errors='replace')[-2000:]}")
        return json.loads(content)

    @functools.cached_property
    def _client(self) -> ApiClient:
        settings = Configuration()
        load_kube_config(str(self.kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
        settings.proxy = None
        return ApiClient(settings)


def _image_values(path: str, reference: str) -> list[str]:
    repository, _, tag = reference.rpartition(":")
    return [f"{path}.repository={repository}", f"{path}.tag={tag}"]


def existing(images: dict[str, str]) -> Session:
    """The cluster that KUBECONFIG names, with images that it can pull."""
    path = os.environ.get("KUBECONFIG")
    if not path:
        raise CommandError("--use-existing needs KUBECONFIG to name the cluster's kubeconfig")
    return Session(Path(path), toolchain.ensure(["kubectl", "helm"]), {**IMAGES, **images})
