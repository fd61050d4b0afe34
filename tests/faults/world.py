"""The cluster that the machines work in, and one case in it: a namespace, a proxy, and an operator kept alive."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from devcluster.client import ApiError
from devcluster.control_plane import ControlPlane
from devcluster.pki import write_kubeconfig
from devcluster.toolchain import ensure
from llm_operator.api import KIND
from llm_operator.foreign import read_object
from llm_operator.manifests.tools import LABEL_STAGE
from llm_operator.pipeline.artifacts import ANNOTATION_SOURCE
from tests.cluster.helpers import Space
from tests.faults.nursery import Child, Nursery
from tests.faults.proxy import Loop, Proxy, Rule
from tests.faults.state import conditions, difference, snapshot
from tests.support.chart import NAMESPACE, Helm

JSON = dict[str, Any]
CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"
CONFIG = Path(__file__).resolve().parents[1] / "unit" / "models" / "configs" / "llama-3.1-8b.json"
ACCOUNT = "llm-llm-operator"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MERGE = "application/merge-patch+json"
TOOLS = ("--model-tools-image", "tools:1", "--quantize-image", "lmdeploy:1", "--web-image", "web:1")
SETTLE_SECONDS = 180.0
LOOK_SECONDS = 0.4
EVENT_SECONDS = 5.0
"""After a status, until the event that tells of it is written."""
RESTART_SECONDS = 2.0
"""After an end that nobody caused."""

Words = Callable[[str, JSON], tuple[str, int] | None]
"""Last words and exit code of a Job's pod, by its stage and what its Job was made from; None: it goes on."""


def usual_words(stage: str, about: JSON) -> tuple[str, int] | None:
    """What the model tools tell when all goes well."""
    repository = str(about.get("repository", "org/model")).replace("/", "--")
    directory = f"models/hf--{repository}/{COMMIT}"
    told: JSON = {"ok": True, "directory": directory, "bytes": 1 << 30, "revision": COMMIT}
    if stage == "quantize":
        told |= {"directory": f"{directory}--awq", "recipe": {"samples": 128}, "toolVersion": "0.18.0"}
    elif stage == "inspect":
        config = base64.b64encode(gzip.compress(CONFIG.read_bytes(), mtime=0)).decode()
        told = {"ok": True, "directory": str(about.get("path") or "."), "config": config}
    return json.dumps(told), 0


class Stand:
    """Plays what no node plays here: the end of a Job's pods, and the volumes of claims."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.words: dict[str, Words] = {}
        """By namespace, where the usual words will not do."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="stand", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the play."""
        self._stop.set()
        self._thread.join(30)

    def _play(self) -> None:
        while not self._stop.wait(0.2):
            with suppress(ApiError, OSError):
                self._end_pods()
            with suppress(ApiError, OSError):
                self._make_volumes()

    def _end_pods(self) -> None:
        for pod in self._plane.request("GET", f"/api/v1/pods?labelSelector={LABEL_STAGE}&resourceVersion=0")["items"]:
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]:
                self._end_pod(pod)

    def _end_pod(self, pod: JSON) -> None:
        namespace, name, labels = pod["metadata"]["namespace"], pod["metadata"]["name"], pod["metadata"]["labels"]
        job = self._plane.find(f"/apis/batch/v1/namespaces/{namespace}/jobs/{labels.get('job-name')}")
        # A vandal may have been here.
        about = dict(read_object(((job or {}).get("metadata", {}).get("annotations") or {}).get(ANNOTATION_SOURCE)))
        told = self.words.get(namespace, usual_words)(labels[LABEL_STAGE], about)
        if told is None:
            return
        text, code = told
        end = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": text}
        containers = [
            {"name": one["name"], "image": one["image"], "imageID": "", "ready": False, "restartCount": 0}
            | {"state": {"terminated": end}}
            for one in pod["spec"]["containers"]
        ]
        status = {"phase": "Succeeded" if code == 0 else "Failed", "containerStatuses": containers}
        with suppress(ApiError):
            path = f"/api/v1/namespaces/{namespace}/pods/{name}/status"
            self._plane.request("PATCH", path, {"status": status}, MERGE)

    def _make_volumes(self) -> None:
        for claim in self._plane.request("GET", "/api/v1/persistentvolumeclaims?resourceVersion=0")["items"]:
            meta, spec = claim["metadata"], claim["spec"]
            if (claim.get("status") or {}).get("phase") != "Pending" or "deletionTimestamp" in meta:
                continue
            volume = {
                "metadata": {"name": f"pv-{meta['uid']}"},
                "spec": {
                    "capacity": spec["resources"]["requests"],
                    "accessModes": spec["accessModes"],
                    "storageClassName": spec.get("storageClassName"),
                    "hostPath": {"path": "/nowhere"},
                    "claimRef": {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
                },
            }
            with suppress(ApiError):
                self._plane.request("POST", "/api/v1/persistentvolumes", volume)


class World:
    """One control plane with fake nodes and the chart's rights, the proxies' thread and the nursery."""

    def __init__(self, folder: Path, *, nodes: int = 6) -> None:
        self.folder = folder
        self.plane = ControlPlane.start(folder / "plane", controllers=True, scheduler=True, kwok=True, audited=USER)
        self.loop = Loop()
        self.nursery = Nursery(folder / "nursery.log")
        self._numbers = itertools.count(1)
        self._addresses = itertools.count()
        self.plane.install_crd(CRD)
        for number in range(nodes):
            self.plane.fake_gpu_node(f"faults-{number}", gpus=1000)
        self._install()
        self.stand = Stand(self.plane)
        self.token = self.new_token()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stand.close()
        self.nursery.__exit__(kind, error, trace)
        self.plane.stop()
        self.loop.close()

    def new_token(self) -> str:
        """A token of the operator's ServiceAccount."""
        return self.plane.run_kubectl("-n", NAMESPACE, "create", "token", ACCOUNT, "--duration=24h").strip()

    def rights(self) -> list[JSON]:
        """What the chart grants to its ServiceAccount."""
        wanted = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
        return [body for body in Helm(ensure(["helm"]) / "helm").template({}) if body["kind"] in wanted]

    def name(self, prefix: str) -> str:
        """A name that no other case has."""
        return f"{prefix}-{next(self._numbers)}"

    def address(self) -> str:
        """An address of the loopback interface that no other operator has: no port is taken."""
        number = next(self._addresses)
        return f"127.{64 + os.getpid() % 128}.{number // 250 % 250}.{1 + number % 250}"

    def audited(self) -> list[JSON]:
        """The audit log so far: every write of the operators that the API server has answered."""
        lines = (self.plane.folder / "audit.log").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def _install(self) -> None:
        self.plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        self.plane.run_kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(self.rights()))
        storage = {
            "metadata": {
                "name": "fake",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "example.com/fake",
            "reclaimPolicy": "Retain",
            "allowVolumeExpansion": True,
        }
        self.plane.request("POST", "/apis/storage.k8s.io/v1/storageclasses", storage)


@dataclass(frozen=True)
class TrustFiles:
    """What an operator reaches its proxy with, each in a file that may change.

    Attributes:
        tls: the proxy's side.
        authority: certificates that the operator trusts.
        token: the operator's.
    """

    tls: ssl.SSLContext
    authority: Path
    token: Path

    def name_in(self, kubeconfig: Path) -> None:
        """Have a kubeconfig name the files."""
        body = yaml.safe_load(kubeconfig.read_text())
        body["clusters"][0]["cluster"]["certificate-authority"] = str(self.authority)
        body["users"][0]["user"] = {"tokenFile": str(self.token)}
        kubeconfig.write_text(yaml.safe_dump(body))


class Case:
    """A namespace that one operator serves through a proxy. Whoever kills the operator gets the next one at once."""

    def __init__(
        self,
        world: World,
        name: str,
        *,
        rule: Rule | None = None,
        arguments: Sequence[str] = ("--no-leader-elect", "--no-gpu-inventory"),
        space: Space | None = None,
        files: TrustFiles | None = None,
    ) -> None:
        self.world = world
        self.name = world.name(name)
        self.space = space or Space(world.plane, self.name)
        """A namespace of its own, unless one is given."""
        authority = world.plane.folder / "pki" / "ca.crt"
        self.proxy = Proxy(world.loop, world.plane.url, authority, self.name, files.tls if files else None)
        self.proxy.rule = rule
        self.log = world.folder / f"{self.name}.log"
        self._owns_space = space is None
        self._kubeconfig = write_kubeconfig(
            world.folder / f"{self.name}.kubeconfig", self.proxy.url, authority, world.token
        )
        if files is not None:
            files.name_in(self._kubeconfig)
        self._arguments = (*arguments, *TOOLS)
        self._child: Child | None = None
        self._killed = False
        self._stopping = False
        self.peak_mib = 0.0
        self.deaths: list[int] = []
        """Exit codes of operators that nobody killed."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.proxy.close()
        self.world.stand.words.pop(self.space.name, None)
        if self._owns_space:
            with suppress(ApiError, OSError):
                self.world.plane.request("DELETE", f"/api/v1/namespaces/{self.space.name}")

    def start(self) -> None:
        """Start an operator."""
        self._stopping = self._killed = False
        argv = [
            "--namespace", self.space.name, "--bind-address", self.world.address(),
            "--health-port", "8081", "--metrics-port", "8080", *self._arguments,
        ]  # fmt: skip
        environment = {"KUBECONFIG": str(self._kubeconfig), "POD_NAME": self.name}
        self._child = self.world.nursery.start(argv, environment, self.log, self._ended)

    def stop(self) -> None:
        """End the operator as a kubelet does; killed when that takes too long."""
        child, self._stopping = self._child, True
        if child is None:
            return
        self.peak_mib = max(self.peak_mib, child.peak_mib())
        child.kill(15)
        if not child.over.wait(20):
            child.kill()
            child.over.wait(20)
            self.deaths.append(-9)

    def kill(self) -> None:
        """Kill the operator; another one starts."""
        self._killed = True
        if self._child is not None:
            self.peak_mib = max(self.peak_mib, self._child.peak_mib())
            self._child.kill()

    def _ended(self, code: int) -> None:
        if self._stopping:
            return
        if not self._killed:
            self.deaths.append(code)
        # The nursery's thread calls, and must go on to read while the next one starts.
        threading.Timer(0 if self._killed else RESTART_SECONDS, self._restart).start()

    def _restart(self) -> None:
        if not self._stopping:
            self.start()

    def settle(
        self, expected: JSON, seconds: float = SETTLE_SECONDS, reduced: Callable[[JSON], JSON] = lambda state: state
    ) -> str:
        """Wait until the namespace is as expected; the difference where it is not in time, else empty.

        Args:
            expected: what snapshot() is to give, reduced.
            seconds: how long to wait.
            reduced: leaves out what may differ.
        """
        deadline = time.monotonic() + seconds
        while True:
            late = time.monotonic() > deadline
            # Most looks see at the objects already that it is too early.
            if late or reduced(snapshot(self.space, KIND)).get(KIND) == expected.get(KIND):
                found = reduced(snapshot(self.space))
                if found == expected:
                    return ""
                if late:
                    return difference(expected, found)
            time.sleep(LOOK_SECONDS)

    def rest(self, done: Callable[[Space], bool], quiet: float = 3.0, seconds: float = SETTLE_SECONDS) -> JSON:
        """Wait until something is true and then nothing changes and nothing is written for a while.

        Raises:
            AssertionError: not in time.
        """
        deadline = time.monotonic() + seconds
        since, last = time.monotonic(), (snapshot(self.space), self.proxy.writes)
        while True:
            time.sleep(0.3)
            now = (snapshot(self.space), self.proxy.writes)
            if now != last or not done(self.space):
                since, last = time.monotonic(), now
            elif time.monotonic() - since > quiet:
                return now[0]
            if time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                change = difference(last[0], now[0]) or "the same as a moment before"
                raise AssertionError(
                    f"{self.name} is not at rest, or not done; {now[1]} writes; it changed:\n{change}\n"
                    f"{self.complaints()}\n{json.dumps(conditions(now[0]), indent=1)[:8000]}\n{tail}"
                )

    def quiet(self, seconds: float = 1.0, within: float = 0.0) -> str:
        """Whether nothing is written for a while; what was written where that is not so.

        Args:
            seconds: how long nothing must be written.
            within: until when that must begin: Jobs are marked as unused ten seconds after the last pod has gone.
                Events have EVENT_SECONDS at least: they follow the status that they tell of.
        """
        begin = time.monotonic()
        while True:
            before = len(self.proxy.done)
            time.sleep(seconds)
            written = self.written(before)
            news = all(re.match("POST .*/events/", line) for line in written.splitlines())
            if not written or time.monotonic() - begin > max(within, EVENT_SECONDS if news else 0):
                return written

    def written(self, before: int) -> str:
        """What has been written since there were so many writes; empty where nothing was.

        What engines report is left out: pods without an engine are read a moment after they are ready, and their
        metrics count as closed half a minute later.
        """
        return "".join(
            f"{method} {path}: {status}\n"
            for _, method, path, status in self.proxy.done[before:]
            if not path.endswith("#engines")
        )

    def complaints(self) -> str:
        """A traceback or a line without JSON in the log, or an operator that ended by itself; empty: all was well."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        at = text.find("Traceback")
        found = [f"the operator ended with {self.deaths}"] if self.deaths else []
        found += [f"a traceback: {text[max(0, at - 500) : at + 3000]}"] if at >= 0 else []
        found += [f"not JSON: {line[:500]}" for line in text.splitlines() if line[:1] != "{"][:3]
        return "\n".join(found)
