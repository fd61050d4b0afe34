"""Every pod that the operator renders, asked of a real API server in a namespace of the restricted standard."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devcluster.client import ApiError
from devcluster.control_plane import ControlPlane
from llm_operator.api.resource import LLMDeployment
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from tests.support.build import plan
from tests.support.rendered import JSON, TOOLS, children_of, jobs_of, manifests

pytestmark = pytest.mark.cluster

LEVEL = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="module")
def namespace(control_plane: ControlPlane) -> str:
    name = "restricted"
    control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": LEVEL}})
    return name


def templates(of: LLMDeployment, user: int | None) -> list[JSON]:
    """The pod templates of engine, page and Jobs."""
    tools = replace(TOOLS, user=user, web_image="web:1")
    page = [apply.body for apply in decide(of, Observed(), plan(of), replace(tools, image="")).applies]
    bodies = [*children_of(of, tools), *jobs_of(of, tools), *(body for body in page if body["kind"] == "Deployment")]
    return [body["spec"]["template"] for body in bodies if "template" in body["spec"]]


def admit(control_plane: ControlPlane, namespace: str, template: JSON) -> None:
    spec = {**template["spec"], "serviceAccountName": "", "priorityClassName": "", "runtimeClassName": None}
    body = {"metadata": {**template["metadata"], "name": "tried"}, "spec": spec}
    control_plane.request("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", body)


@pytest.mark.parametrize("user", [65532, 1_000_770_000, None])
def test_every_pod_is_admitted(control_plane: ControlPlane, namespace: str, user: int | None) -> None:
    tried = 0
    for body in manifests().values():
        body["metadata"]["uid"] = "u"
        for template in templates(LLMDeployment.parse(body), user):
            admit(control_plane, namespace, template)
            tried += 1
    assert tried > 20


def test_the_namespace_refuses_what_is_not_restricted(control_plane: ControlPlane, namespace: str) -> None:
    body = manifests()["tiny-vllm.tiny-vllm"]
    body["metadata"]["uid"] = "u"
    template = templates(LLMDeployment.parse(body), 65532)[0]
    template["spec"]["securityContext"].pop("runAsNonRoot")
    with pytest.raises(ApiError, match="runAsNonRoot != true"):
        admit(control_plane, namespace, template)
