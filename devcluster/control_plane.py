"""The bare control plane: etcd and a real API server on loopback; on demand controllers, scheduler and fake nodes.

It needs no root and no namespace, takes about seven seconds, and any number run side by side on separate ports.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devcluster import toolchain
from devcluster.client import NOT_FOUND, ApiClient, ApiError
from devcluster.pki import TOKEN, make_pki, write_kubeconfig
from devcluster.processes import Component, free_ports

NAMES = ("IP:127.0.0.1", "IP:10.96.0.1", "DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default.svc")
STAGES = Path(__file__).with_name("kwok-stages.yaml")
FAST = ("--kube-api-qps=500", "--kube-api-burst=1000")


OTHER_PROGRAMS = "LLM_OPERATOR_KUBERNETES"
"""Variable that names a folder with programs of another Kubernetes version, which are used instead of ours."""
CRD_ATTEMPTS = 5
"""To wait for a CRD, a second apart."""


class ControlPlane:
    """A running control plane. Everything it started ends with `stop`, and with this process however that ends."""

    def __init__(self, folder: Path, url: str, binaries: Path) -> None:
        self.folder = folder
        self.url = url
        self.token = TOKEN
        self.binaries = binaries
        self.kubeconfig = folder / "admin.kubeconfig"
        self.kubectl = binaries / "kubectl"
        self._components: list[Component] = []
        self._client = ApiClient(url, self.token, folder / "pki" / "ca.crt")

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        controllers: bool = False,
        scheduler: bool = False,
        kwok: bool = False,
        emulated: str | None = None,
        audited: str | None = None,
        accounts: bool = False,
    ) -> ControlPlane:
        """Start one.

        Args:
            folder: empty; holds keys, data and logs.
            controllers: run kube-controller-manager: garbage collection, Deployments, service accounts.
            scheduler: run kube-scheduler.
            kwok: run kwok, which plays the kubelet of nodes annotated kwok.x-k8s.io/node=fake.
            emulated: older minor version whose API the server is to have, such as 1.34.
            audited: user whose writes are logged in `audit.log` of the folder, one JSON object a line.
            accounts: refuse pods whose ServiceAccount does not exist, as every cluster does; needs the controllers,
                which make the account `default` of each namespace.

        Raises:
            ComponentError: a component did not get ready.
        """
        names = ["etcd", "kube-apiserver", "kubectl"]
        names += ["kube-controller-manager"] * controllers + ["kube-scheduler"] * scheduler + ["kwok"] * kwok
        binaries = toolchain.ensure(names)
        make_pki(folder / "pki", NAMES)
        client, peer, secure = free_ports(3)
        plane = cls(folder, f"https://127.0.0.1:{secure}", binaries)
        write_kubeconfig(plane.kubeconfig, plane.url, folder / "pki" / "ca.crt")
        try:
            plane._start_api_server((client, peer, secure), emulated, audited, accounts=accounts)
            if controllers:
                plane._start_controllers()
            if scheduler:
                plane._start_scheduler()
            if kwok:
                plane._start_kwok()
        except BaseException:
            plane.stop()
            raise
        return plane

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End everything; the folder stays."""
        while self._components:
            self._components.pop().stop()

    def cpu_seconds(self) -> float:
        """Processor time of everything that it started, in user space and in the kernel."""
        stats = (
            Path(f"/proc/{one.process.pid}/stat").read_text().rsplit(")", 1)[1].split() for one in self._components
        )
        return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")

    def request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        """One request as admin; the decoded answer.

        Raises:
            ApiError: the API server refused.
            OSError: there is no API server.
        """
        return self._client.request(method, path, body, content)

    def find(self, path: str) -> Any:
        """The answer to GET; None if there is nothing of that path.

        Raises:
            ApiError: the API server refused for another reason.
            OSError: there is no API server.
        """
        try:
            return self.request("GET", path)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def run_kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as admin; its output."""
        command = [str(self.kubectl), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout + ("" if check else done.stderr)

    def install_crd(self, path: Path) -> None:
        """Apply a CRD and wait until the API server serves it."""
        self.run_kubectl("apply", "--server-side", "-f", str(path))
        arguments = ("wait", "--for=condition=Established", "--timeout=30s", "-f", str(path))
        for _ in range(CRD_ATTEMPTS - 1):
            # A CRD that was created this moment has no conditions at all, and kubectl takes that for an error.
            if "condition met" in self.run_kubectl(*arguments, check=False):
                return
            time.sleep(1)
        self.run_kubectl(*arguments)

    def restart_api_server(self) -> None:
        """Kill etcd and the API server, as a crash would, and start them on the same data and ports."""
        self._stop_first(2)
        self._start_first(2)

    def copy_of_etcd(self, target: Path) -> Path:
        """Copy etcd's data into a folder; etcd and the API server are stopped meanwhile."""
        self._stop_first(2)
        shutil.copytree(self.folder / "etcd", target)
        self._start_first(2)
        return target

    def restore_etcd(self, copy: Path) -> None:
        """Go back to a copy, and start everything anew, as after a disaster: versions of objects are lower then."""
        every = len(self._components)
        self._stop_first(every)
        shutil.rmtree(self.folder / "etcd")
        shutil.copytree(copy, self.folder / "etcd")
        self._start_first(every)

    def _stop_first(self, count: int) -> None:
        for component in reversed(self._components[:count]):
            component.stop()

    def _start_first(self, count: int) -> None:
        for index, component in enumerate(self._components[:count]):
            self._components[index] = Component(component.command, component.log)
            if index == 1:
                self._components[1].wait_until(self._client.ready)

    def fake_gpu_node(
        self, name: str, gpus: int = 8, product: str = "NVIDIA-H100-80GB-HBM3", memory_mib: int = 81559
    ) -> None:
        """A node that does not exist, with GPUs that do not exist; kwok keeps it Ready."""
        labels = {
            "kubernetes.io/hostname": name,
            "type": "fake",
            "nvidia.com/gpu.product": product,
            "nvidia.com/gpu.memory": str(memory_mib),
            "nvidia.com/gpu.count": str(gpus),
            "nvidia.com/gpu.compute.major": "9",
            "nvidia.com/gpu.compute.minor": "0",
        }
        node = {"metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}}
        self.request("POST", "/api/v1/nodes", node)
        amounts = {"cpu": "128", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": str(gpus)}
        status = {"status": {"capacity": amounts, "allocatable": amounts}}
        self.request("PATCH", f"/api/v1/nodes/{name}/status", status, "application/merge-patch+json")

    def _launch(self, name: str, *arguments: str, log: str) -> Component:
        other = Path(os.environ.get(OTHER_PROGRAMS) or self.binaries) / name
        program = other if other.exists() else self.binaries / name
        component = Component([str(program), *arguments], self.folder / f"{log}.log")
        self._components.append(component)
        return component

    def _audit(self, user: str) -> tuple[str, ...]:
        """Arguments by which the API server logs the writes of a user."""
        policy = self.folder / "audit-policy.yaml"
        rules = [
            {"level": "Metadata", "users": [user], "verbs": ["create", "update", "patch", "delete"]},
            {"level": "None"},
        ]
        body = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
        policy.write_text(json.dumps(body))
        return f"--audit-policy-file={policy}", f"--audit-log-path={self.folder / 'audit.log'}"

    def _start_api_server(
        self, ports: tuple[int, int, int], emulated: str | None, audited: str | None, *, accounts: bool
    ) -> None:
        client, peer, secure = ports
        pki, etcd = self.folder / "pki", f"http://127.0.0.1:{client}"
        self._launch(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            log="etcd",
        )
        server = self._launch(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={secure}",
            f"--tls-cert-file={pki / 'api.crt'}",
            f"--tls-private-key-file={pki / 'api.key'}",
            "--advertise-address=127.0.0.1",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--service-account-key-file={pki / 'sa.key'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={pki / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={self.folder / 'apiserver'}",
            # The controller that makes service accounts may not run.
            *([] if accounts else ["--disable-admission-plugins=ServiceAccount"]),
            # As every cluster has it: what may be privileged is for policies to say.
            "--allow-privileged=true",
            *([f"--emulated-version={emulated}"] if emulated else []),
            *(self._audit(audited) if audited else ()),
            log="apiserver",
        )
        server.wait_until(self._client.ready)

    def _start_controllers(self) -> None:
        pki = self.folder / "pki"
        (port,) = free_ports(1)
        self._launch(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={pki / 'sa.key'}",
            f"--root-ca-file={pki / 'ca.crt'}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--leader-elect=false",
            "--use-service-account-credentials=false",
            f"--cert-dir={self.folder / 'controllers'}",
            "--concurrent-gc-syncs=20",
            *FAST,
            log="controllers",
        )

    def _start_scheduler(self) -> None:
        (port,) = free_ports(1)
        self._launch(
            "kube-scheduler",
            f"--kubeconfig={self.kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--leader-elect=false",
            f"--cert-dir={self.folder / 'scheduler'}",
            *FAST,
            log="scheduler",
        )

    def _start_kwok(self) -> None:
        (port,) = free_ports(1)
        self._launch(
            "kwok",
            f"--kubeconfig={self.kubeconfig}",
            f"--config={STAGES}",
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--cidr=10.89.0.0/16",
            "--node-ip=127.0.0.1",
            # Without one, the controller manager takes a node for dead 50 s after it came, and its pods with it.
            "--node-lease-duration-seconds=40",
            f"--server-address=127.0.0.1:{port}",
            log="kwok",
        )
