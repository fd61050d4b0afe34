"""Drift that the chart's own policy would not let the operator write: it is undone all the same, in one write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.control_plane import ControlPlane
from devcluster.toolchain import ensure
from tests.cluster.helpers import JSON, Space
from tests.operator_process import OperatorUnderTest
from tests.support.chart import NAMESPACE, Helm
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"
ACCOUNT = "llm-llm-operator"
SERVED = ("held-created", "held-applied")
VALUES: JSON = {
    "watchNamespaces": list(SERVED),
    "admissionPolicies": {"operator": {"enabled": True}},
    "operator": {"gpuInventory": False},
}
NEEDED = ("ValidatingAdmissionPolicy", "ServiceAccount", "Role", "ClusterRole", "ConfigMap", "Lease")
"""First letters of the kinds that the operator needs of its chart here."""
ALLOCATED = ("clusterIP", "clusterIPs")
"""A Service that was an ExternalName in between gets another one."""
STRATEGIC = "application/strategic-merge-patch+json"
LABEL = "app.kubernetes.io/managed-by"


def pod(**spec: Any) -> JSON:
    return {"spec": {"template": {"spec": spec}}}


def engine(**fields: Any) -> JSON:
    return pod(containers=[{"name": "engine", **fields}])


CASES: dict[str, tuple[str, JSON]] = {
    "host network": ("Deployment", pod(hostNetwork=True)),
    "host path": ("Deployment", pod(volumes=[{"name": "root", "hostPath": {"path": "/"}}])),
    "host path behind thirty variables": (
        "Deployment",
        pod(
            volumes=[{"name": "root", "hostPath": {"path": "/"}}],
            containers=[{"name": "engine", "env": [{"name": f"M{n}", "value": "1"} for n in range(30)]}],
        ),
    ),
    "privileged": (
        "Deployment",
        engine(securityContext={"privileged": True, "allowPrivilegeEscalation": True, "runAsNonRoot": None}),
    ),
    "capability": ("Deployment", engine(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}})),
    "host port": ("Deployment", engine(ports=[{"containerPort": 9, "hostPort": 9, "protocol": "TCP"}])),
    "container": (
        "Deployment",
        pod(containers=[{"name": "evil", "image": "evil:1", "securityContext": {"privileged": True}}]),
    ),
    "host network without the label": (
        "Deployment",
        {"metadata": {"labels": {LABEL: None}}, **pod(hostNetwork=True)},
    ),
    "address": ("Service", {"spec": {"externalIPs": ["203.0.113.1"]}}),
    "address of others' pods": (
        "Service",
        {"spec": {"externalIPs": ["203.0.113.1"], "selector": {"$patch": "replace", "app": "db"}}},
    ),
    "another host": ("Service", {"spec": {"type": "ExternalName", "externalName": "evil.example"}}),
    "without the label": ("Service", {"metadata": {"labels": {LABEL: None}}}),
}


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Space]]:
    """The served namespaces on a control plane of its own, with what the chart installs but the operator's pod."""
    with ControlPlane.start(tmp_path_factory.mktemp("held-back")) as plane:
        plane.install_crd(CRD)
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        made = {name: Space(plane, name) for name in SERVED}
        rendered = Helm(ensure(["helm"]) / "helm").template(VALUES)
        objects = [entry for entry in rendered if entry["kind"].startswith(NEEDED)]
        for where in (NAMESPACE, *SERVED):
            there = [entry for entry in objects if entry["metadata"].get("namespace", NAMESPACE) == where]
            plane.run_kubectl("-n", where, "apply", "-f", "-", stdin=yaml.safe_dump_all(there))
        yield made


def kubeconfig(plane: ControlPlane, folder: Path) -> Path:
    """Of the chart's ServiceAccount."""
    document = yaml.safe_load(plane.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": plane.run_kubectl("-n", NAMESPACE, "create", "token", ACCOUNT).strip()}
    path = folder / "account.kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("namespace", SERVED)
def test_what_the_policy_forbids_is_undone(spaces: dict[str, Space], tmp_path: Path, namespace: str) -> None:
    space = spaces[namespace]
    plane = space.plane
    names = {case: f"case-{number}" for number, case in enumerate(CASES)}
    log = tmp_path / "log"
    arguments = ("--lease-name", "llm-llm-operator", "--lease-namespace", NAMESPACE, "--no-gpu-inventory")
    account = kubeconfig(plane, tmp_path)

    def state(case: str) -> JSON | None:
        found = space.get(CASES[case][0], names[case])
        if found is None:
            return None
        spec = {key: value for key, value in found["spec"].items() if key not in ALLOCATED}
        return {"labels": found["metadata"].get("labels"), "spec": spec}

    with OperatorUnderTest(account, namespace, arguments=arguments, log=log) as operator:
        operator.wait_ready()
        for name in names.values():
            # What carries a podTemplate is tried before it is written, after each start anew.
            space.create(llm(name, podTemplate={"metadata": {"annotations": {"a": "b"}}}))
        for case in CASES:
            eventually(lambda case=case: state(case), why=case)  # type: ignore[misc]
        if namespace == "held-applied":
            for name in names.values():
                space.patch(name, {"spec": {"maxConcurrentSequences": 7}})
            for case in CASES:
                eventually(
                    lambda case=case: "7" in str(space.get("Deployment", names[case])["spec"]),  # type: ignore[misc, index]
                    why=case,
                )
        operator.wait_idle()
        before = {case: state(case) for case in CASES}
    for case, (kind, body) in CASES.items():
        plane.request("PATCH", f"{space.path(kind, names[case])}?fieldManager=somebody", body, STRATEGIC)
        assert state(case) != before[case], case
    assert denied(space), "the policy is in force"
    with OperatorUnderTest(account, namespace, arguments=arguments, log=log) as operator:
        operator.wait_ready()
        for case in CASES:
            eventually(
                lambda case=case: state(case) == before[case],  # type: ignore[misc]
                60,
                lambda case=case: f"{case}: {space.condition(names[case], 'Ready')} {state(case)}",  # type: ignore[misc]
            )
    assert "Traceback" not in log.read_text()


def denied(space: Space) -> bool:
    """Whether the operator's account may not write the host network."""
    words = ["--as", f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}", "-n", space.name, "patch", "deployment", "case-0"]
    patch = json.dumps({"metadata": {"annotations": {"a": "b"}}})
    return "denied request" in space.plane.run_kubectl(*words, "--dry-run=server", "-p", patch, check=False)
