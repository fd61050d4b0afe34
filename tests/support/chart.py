"""Rendering the chart with the real Helm."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "llm-operator"
RELEASE, NAMESPACE = "llm", "llm-system"
REGISTRY = "registry.example/llm"
"""Without one the chart installs nothing."""

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Helm:
    """The Helm binary."""

    binary: Path

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """One call, its output captured; the caller judges the exit status."""
        command = [str(self.binary), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    def template_text(self, values: JSON) -> str:
        """The manifests for these values, as Helm prints them."""
        values = {"imageRegistry": REGISTRY, **values}
        result = self.run(
            "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", "-", stdin=yaml.safe_dump(values)
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def template(self, values: JSON) -> list[JSON]:
        """The objects for these values."""
        return [document for document in yaml.safe_load_all(self.template_text(values)) if document]

    def refusal(self, values: JSON) -> str:
        """What Helm says to values that it must refuse."""
        values = {"imageRegistry": REGISTRY, **values}
        result = self.run("template", RELEASE, str(CHART), "--values", "-", stdin=yaml.safe_dump(values))
        assert result.returncode != 0, f"accepted {values}"
        return result.stderr


def of_kind(objects: list[JSON], kind: str) -> list[JSON]:
    """The objects of one kind."""
    return [entry for entry in objects if entry["kind"] == kind]


def only(objects: list[JSON], kind: str) -> JSON:
    """The one object of a kind."""
    found = of_kind(objects, kind)
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


EVERYTHING: JSON = {
    "replicas": 2,
    "image": {"repository": "registry.example/llm/operator", "tag": "1.2.3", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "operator": {
        "workers": 3,
        "logLevel": "DEBUG",
        "logFormat": "text",
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
    },
    "serviceAccount": {"annotations": {"example.com/team": "ml"}},
    "podAnnotations": {"example.com/a": "b"},
    "podLabels": {"example.com/c": "d"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "control", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "priorityClassName": "system-cluster-critical",
    "caBundle": {"configMapName": "corporate-ca", "key": "bundle.pem"},
    "proxy": {"secretName": "hub-proxy"},
    "propagate": {"labels": ["kueue.x-k8s.io/*", "example.com/team"], "annotations": ["example.com/cost"]},
    "metrics": {
        "service": {"annotations": {"example.com/e": "f"}},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "engines": {
            "podMonitor": {
                "enabled": True,
                "protected": [{"namespace": "team", "name": "qwen", "secret": {"name": "qwen-key", "key": "key"}}],
            }
        },
        "rules": {"enabled": True, "runbooks": "https://runbooks.example/llm"},
        "dashboards": {"enabled": True, "annotations": {"grafana_folder": "LLM"}},
    },
    "admissionPolicies": {
        "objects": {
            "enabled": True,
            "namespaceSelector": {"matchLabels": {"tenants": "true"}},
            "images": ["docker.io/vllm/vllm-openai", "registry.example/ml/"],
            "priorityClasses": ["batch"],
            "serviceAccounts": [],
            "tolerations": ["nvidia.com/gpu"],
            "podTemplates": False,
            "runtimeClasses": ["nvidia"],
            "storageClasses": ["fast"],
            "serviceTypes": ["ClusterIP"],
            "serviceMetadata": ["team", "networking.example.com/"],
            "otherNamespaces": False,
            "drainTimeoutSeconds": 600,
        },
        "operator": {"enabled": True},
    },
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
    },
}

VALUE_SETS: dict[str, JSON] = {
    "defaults": {},
    "everything": EVERYTHING,
    "namespaced": {"watchNamespaces": ["team-a", "team-b"], "operator": {"gpuInventory": False}},
    "bare": {
        "crds": {"install": False},
        "rbac": {"create": False, "aggregatedRoles": False},
        "serviceAccount": {"create": False, "name": "ours"},
        "metrics": {"service": {"enabled": False}},
        "resources": {},
    },
}
