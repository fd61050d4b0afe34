"""One namespace of the cluster, and what tests ask of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster.client import NOT_FOUND, ApiError
from devcluster.session import CommandError, Session
from llm_operator.api import KIND
from llm_operator.manifests.kinds import KINDS
from llm_operator.pipeline.artifacts import LABEL_CACHE
from tests.cluster.helpers import condition_of
from tests.waiting import eventually

JSON = dict[str, Any]


def make(session: Session, name: str) -> None:
    """A namespace that admits only pods of the restricted Pod Security Standard."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    session.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])


def restricted(pod: JSON) -> JSON:
    """A pod's spec with what such a namespace asks of it."""
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    lists: JSON = {
        kind: [{**container, "securityContext": own} for container in pod[kind]]
        for kind in ("initContainers", "containers")
        if kind in pod
    }
    return {**pod, **lists, "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}}


def leave(session: Session, namespace: str) -> None:
    """Delete a namespace; on a node that ends with the tests, without waiting for it.

    The namespace controller looks again after half of the pods' grace period, also where they are gone in a second.
    """
    wait = "--timeout=180s" if session.volumes is None else "--wait=false"
    session.kubectl("delete", "namespace", namespace, wait)


@dataclass(frozen=True)
class Space:
    """A namespace."""

    session: Session
    name: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl in this namespace."""
        return self.session.kubectl("-n", self.name, *arguments, stdin=stdin)

    def apply(self, *documents: JSON) -> None:
        """Server-side apply."""
        self.session.apply(list(documents), self.name)

    def claim(self, name: str, size: str = "1Gi") -> None:
        """A claim with a volume."""
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        spec |= self.session.provide_volume(name, self.name)
        meta = {"name": name, "labels": {LABEL_CACHE: "true"}}
        self.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec})

    def get(self, kind: str, name: str) -> JSON:
        """One object, by its kind as in its own document."""
        found: JSON = self.session.request("GET", f"{self._path(kind)}/{name}")
        return found

    def find(self, kind: str, name: str) -> JSON | None:
        """One object; None where there is none."""
        try:
            return self.get(kind, name)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def items(self, kind: str, selector: str = "") -> list[JSON]:
        """All objects of a kind that have some labels."""
        found: list[JSON] = self.session.request("GET", self._path(kind), labelSelector=selector)["items"]
        return found

    def pods(self, name: str) -> list[JSON]:
        """The pods of an LLMDeployment, also those that are going away."""
        return self.items("Pod", f"llm-operator.dev/deployment={name}")

    def status(self, name: str) -> JSON:
        """status of an LLMDeployment."""
        found: JSON = self.get(KIND, name).get("status", {})
        return found

    def _path(self, kind: str) -> str:
        return KINDS[kind].path(self.name)

    def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition; empty where it is not there."""
        return condition_of(self.get(KIND, name), kind)

    def becomes(self, name: str, kind: str, status: str, reason: str = "", seconds: float = 120) -> None:
        """Wait until a condition has a status, and a reason where one is given."""
        eventually(
            lambda: (found := self.condition(name, kind))[0] == status and reason in ("", found[1]),
            seconds,
            lambda: f"{name}: {kind} {status} {reason}, but {self.condition(name, kind)}",
        )

    def ready(self, name: str, seconds: int = 240) -> None:
        """Wait until an object serves."""
        self.kubectl("wait", "--for=condition=Ready", f"--timeout={seconds}s", f"llmdep/{name}")

    def delete(self, name: str) -> None:
        """Delete an object, and wait until its pods are gone."""
        self.kubectl("delete", "llmdep", name, "--timeout=60s")
        eventually(lambda: not self.pods(name), 180, f"the pods of {name} are gone")

    def command_line(self, *arguments: str) -> str:
        """`kubectl llm` in this namespace; its output.

        Raises:
            CommandError: it failed.
        """
        program = Path(sys.executable).with_name("kubectl-llm")
        environment = {**os.environ, "KUBECONFIG": str(self.session.kubeconfig), "NO_PROXY": "*"}
        command = [str(program), *arguments, "-n", self.name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise CommandError(f"kubectl llm {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def chat(self, name: str, question: str = "hello") -> str:
        """The answer of an engine."""
        return self.session.chat(self.name, name, name, question)
