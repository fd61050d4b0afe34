"""Rendered manifests and examples against the schemas of Kubernetes itself, unknown fields refused."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.chart import ROOT, VALUE_SETS, Helm, of_kind
from tests.unit.helm.schemas import LOCATION, write_schemas

KINDS = {
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): "customresourcedefinition-apiextensions-v1",
    ("apps/v1", "Deployment"): "deployment-apps-v1",
    ("v1", "Pod"): "pod-v1",
    ("batch/v1", "Job"): "job-batch-v1",
    ("coordination.k8s.io/v1", "Lease"): "lease-coordination-v1",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicy-networking-v1",
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
    ): "validatingadmissionpolicy-admissionregistration-v1",
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
    ): "validatingadmissionpolicybinding-admissionregistration-v1",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudget-policy-v1",
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): "clusterrole-rbac-v1",
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): "clusterrolebinding-rbac-v1",
    ("rbac.authorization.k8s.io/v1", "Role"): "role-rbac-v1",
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): "rolebinding-rbac-v1",
    ("v1", "ConfigMap"): "configmap-v1",
    ("v1", "PersistentVolume"): "persistentvolume-v1",
    ("v1", "PersistentVolumeClaim"): "persistentvolumeclaim-v1",
    ("v1", "Service"): "service-v1",
    ("v1", "ServiceAccount"): "serviceaccount-v1",
}
# Kinds that Kubernetes does not define: the Prometheus operator's, and ours (tests/unit/helm/test_examples.py).
MONITORING = ("PodMonitor", "ServiceMonitor", "PrometheusRule")
FOREIGN = (*MONITORING, "LLMDeployment")


@dataclass(frozen=True, slots=True)
class Kubeconform:
    """The kubeconform binary and the schemas it may use."""

    binary: Path
    schemas: Path

    def check(self, manifests: str) -> tuple[dict[str, int], list[str]]:
        """The summary, and what is wrong."""
        result = subprocess.run(
            [
                str(self.binary),
                "-strict",
                "-summary",
                "-verbose",
                "-output=json",
                f"-skip={','.join(FOREIGN)}",
                f"-schema-location={self.schemas}/{LOCATION}",
            ],
            input=manifests,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        report = json.loads(result.stdout)
        wrong = [f"{entry['kind']}: {entry['msg']}" for entry in report["resources"] if entry["msg"]]
        assert (result.returncode == 0) == (not wrong)
        return report["summary"], wrong


@pytest.fixture(scope="session")
def kubeconform(kubeconform_binary: Path, swagger: Path, tmp_path_factory: pytest.TempPathFactory) -> Kubeconform:
    directory = tmp_path_factory.mktemp("schemas")
    write_schemas(swagger, directory, KINDS)
    return Kubeconform(kubeconform_binary, directory)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_what_is_rendered_conforms(helm: Helm, kubeconform: Kubeconform, name: str) -> None:
    objects = helm.template(VALUE_SETS[name])
    summary, wrong = kubeconform.check(helm.template_text(VALUE_SETS[name]))
    assert wrong == []
    assert summary["skipped"] == sum(len(of_kind(objects, kind)) for kind in MONITORING)
    assert summary["valid"] == len(objects) - summary["skipped"]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_conform(kubeconform: Kubeconform, path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    summary, wrong = kubeconform.check(path.read_text())
    assert wrong == []
    assert summary["skipped"] == len(of_kind(documents, "LLMDeployment"))
    assert summary["valid"] == len(documents) - summary["skipped"]


@pytest.mark.parametrize(
    ("kind", "field", "value"), [("Deployment", "replica", 2), ("Service", "ports", 80), ("Role", "rulez", [])]
)
def test_a_wrong_field_is_found(helm: Helm, kubeconform: Kubeconform, kind: str, field: str, value: object) -> None:
    objects = helm.template({})
    broken = next(entry for entry in objects if entry["kind"] == kind)
    broken.get("spec", broken)[field] = value
    _, wrong = kubeconform.check(yaml.safe_dump_all(objects))
    assert len(wrong) == 1
    assert wrong[0].startswith(f"{kind}: ")
    assert field in wrong[0]
