"""The chart with the real Helm on a real API server: install, upgrade, uninstall, and rights that suffice."""

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devcluster.control_plane import ControlPlane
from devcluster.toolchain import ensure
from llm_operator.api import GROUP, KIND, PLURAL
from llm_operator.api.crd import FILE_NAME
from tests.cluster.helpers import JSON, Space
from tests.operator_process import OperatorUnderTest
from tests.support.chart import CHART, NAMESPACE, RELEASE, VALUE_SETS, Helm
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

CRD = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
numbers = itertools.count()


class Releases:
    """Helm against one API server."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.binary = ensure(["helm"]) / "helm"

    def run(self, *arguments: str, values: JSON | None = None, check: bool = True) -> str:
        """One call; its output, errors too."""
        done = subprocess.run(
            [str(self.binary), "--kubeconfig", str(self.plane.kubeconfig), "--namespace", NAMESPACE, *arguments]
            + (["--values", "-"] if values is not None else []),
            input=yaml.safe_dump({"imageRegistry": "registry.example.com/llm", **(values or {})}),
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode == 0) == check, done.stdout + done.stderr
        return done.stdout + done.stderr

    def upgrade(self, values: JSON, chart: Path = CHART) -> str:
        """Install or upgrade, and wait until the pods are ready."""
        wait = ["--install", "--create-namespace", "--wait", "--timeout", "60s"]
        return self.run("upgrade", RELEASE, str(chart), *wait, values=values)

    def objects(self) -> set[tuple[str, str]]:
        """Kind and name of what carries the release's label."""
        kinds = "deploy,svc,sa,pdb,role,rolebinding,clusterrole,clusterrolebinding,networkpolicy,pod,lease,secret"
        selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/part-of=llm-operator"
        text = self.plane.run_kubectl("get", kinds, "-A", "-l", selector, "-o", "json")
        return {(item["kind"], item["metadata"]["name"]) for item in json.loads(text)["items"]}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own, because the CRD comes and goes."""
    folder = tmp_path_factory.mktemp("chart")
    with ControlPlane.start(folder, controllers=True, scheduler=True, kwok=True) as plane:
        plane.fake_gpu_node("chart-1")
        yield plane


@pytest.fixture
def releases(plane: ControlPlane) -> Iterator[Releases]:
    releases = Releases(plane)
    yield releases
    releases.run("uninstall", RELEASE, "--ignore-not-found", "--wait", "--timeout", "60s")
    plane.run_kubectl("delete", "crd", "--all", "--timeout=30s")


@pytest.fixture
def space(plane: ControlPlane) -> Space:
    return Space(plane, f"chart-{next(numbers)}")


@pytest.mark.parametrize("name", VALUE_SETS)
def test_the_api_server_accepts_every_object_strictly(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    values = VALUE_SETS[name]
    for namespace in (NAMESPACE, *values.get("watchNamespaces", ())):
        if plane.find(f"/api/v1/namespaces/{namespace}") is None:
            plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    # The Prometheus operator's kinds are not installed here.
    foreign = ("PodMonitor", "ServiceMonitor", "PrometheusRule")
    objects = [entry for entry in Helm(ensure(["helm"]) / "helm").template(values) if entry["kind"] not in foreign]
    text = plane.run_kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-", stdin=yaml.safe_dump_all(objects)
    )
    assert len(text.splitlines()) == len(objects)


def test_install_scale_up_and_down_uninstall(releases: Releases, space: Space) -> None:
    assert "is installed" in releases.upgrade({})
    space.create(llm("kept"))
    budget = ("PodDisruptionBudget", "llm-llm-operator")
    assert budget not in releases.objects()
    releases.upgrade({"replicas": 2})
    assert budget in releases.objects()
    releases.upgrade({"replicas": 1})
    assert budget not in releases.objects()
    releases.run("uninstall", RELEASE, "--wait", "--timeout", "60s")
    eventually(lambda: not releases.objects(), why="nothing of the release is left")
    body = space.get(KIND, "kept")
    assert body is not None
    assert "finalizers" not in body["metadata"]
    space.delete(KIND, "kept")
    eventually(lambda: space.get(KIND, "kept") is None, why="an object can be deleted without the operator")
    assert "is installed" in releases.upgrade({}), "the same release takes the CRD over again"


def test_the_crd_is_upgraded_and_objects_stay(releases: Releases, space: Space, tmp_path: Path) -> None:
    older = shutil.copytree(CHART, tmp_path / "older")
    file = older / "files" / FILE_NAME
    definition = yaml.safe_load(file.read_text())
    columns = definition["spec"]["versions"][0]["additionalPrinterColumns"]
    missing = columns.pop(2)
    text = yaml.safe_dump({**definition, "metadata": None}).replace(
        "metadata: null\n", f"metadata:\n  name: {definition['metadata']['name']}\n"
    )
    file.write_text(text)
    releases.upgrade({}, older)
    created = space.create(llm("stays"))

    def column_names() -> list[str]:
        live = releases.plane.request("GET", CRD)
        return [column["name"] for column in live["spec"]["versions"][0]["additionalPrinterColumns"]]

    assert missing["name"] not in column_names()
    releases.upgrade({})
    assert missing["name"] in column_names()
    body = space.get(KIND, "stays")
    assert body is not None
    assert (body["metadata"]["uid"], body["spec"]) == (created["metadata"]["uid"], created["spec"])


def test_without_keep_the_crd_goes_with_the_release(releases: Releases, space: Space) -> None:
    releases.upgrade({"crds": {"keep": False}})
    space.create(llm("gone"))
    releases.run("uninstall", RELEASE, "--wait", "--timeout", "60s")
    eventually(lambda: releases.plane.find(CRD) is None, why="the CRD is deleted")


def test_leaving_the_crd_to_others_does_not_delete_it(releases: Releases, space: Space) -> None:
    releases.upgrade({})
    space.create(llm("stays"))
    releases.upgrade({"crds": {"install": False}})
    assert space.get(KIND, "stays") is not None


def test_bad_values_send_nothing(releases: Releases) -> None:
    text = releases.run("upgrade", "--install", RELEASE, str(CHART), values={"replicas": "two"}, check=False)
    assert "'/replicas': got string, want integer" in text
    assert releases.objects() == set()


def can(plane: ControlPlane, who: str, namespace: str, *question: str) -> bool:
    text = plane.run_kubectl("auth", "can-i", *question, f"--as={who}", "-n", namespace, check=False)
    return text.splitlines()[0] == "yes"


def test_the_service_account_may_not_read_secrets_or_grant_rights(releases: Releases, space: Space) -> None:
    releases.upgrade({})
    account = f"system:serviceaccount:{NAMESPACE}:llm-llm-operator"
    assert can(releases.plane, account, space.name, "patch", "deployments.apps")
    for question in (
        ("get", "secrets"),
        ("list", "secrets"),
        # It may create pods, for dry runs of those with an overlay; a Deployment would create the same ones.
        ("delete", "pods"),
        ("patch", "pods"),
        ("create", "pods", "--subresource=exec"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("update", f"{PLURAL}.{GROUP}"),
        ("patch", "nodes"),
        ("get", "configmaps"),
    ):
        assert not can(releases.plane, account, space.name, *question), question
    for verb, name, may in (
        ("patch", "llm-llm-operator-learned", True),
        ("get", "llm-llm-operator-learned", True),
        ("patch", "kube-root-ca.crt", False),
        ("delete", "llm-llm-operator-learned", False),
    ):
        assert can(releases.plane, account, NAMESPACE, verb, f"configmaps/{name}") is may, (verb, name)


def test_an_upgrade_keeps_what_engines_measured(releases: Releases, space: Space) -> None:
    releases.upgrade({})
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/llm-llm-operator-learned"
    text = json.dumps({"data": {"records.json": "[]"}})
    releases.plane.run_kubectl(
        "-n", NAMESPACE, "patch", "configmap", "llm-llm-operator-learned", "--type=merge", "-p", text
    )
    releases.upgrade({"podLabels": {"a": "b"}})
    assert releases.plane.request("GET", path)["data"] == {"records.json": "[]"}


def test_in_namespaced_mode_other_namespaces_are_out_of_reach(releases: Releases, space: Space) -> None:
    other = Space(releases.plane, f"chart-{next(numbers)}")
    releases.upgrade({"watchNamespaces": [space.name], "operator": {"gpuInventory": False}})
    account = f"system:serviceaccount:{NAMESPACE}:llm-llm-operator"
    assert can(releases.plane, account, space.name, "patch", "deployments.apps")
    assert not can(releases.plane, account, other.name, "list", "deployments.apps")
    assert not can(releases.plane, account, other.name, "list", "nodes")


def test_view_and_edit_extend_to_llmdeployments(releases: Releases, space: Space) -> None:
    releases.upgrade({})
    kind = f"{PLURAL}.{GROUP}"
    for role in ("view", "edit"):
        releases.plane.run_kubectl(
            "-n", space.name, "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}"
        )
    eventually(lambda: can(releases.plane, "view", space.name, "list", kind), why="view lists LLMDeployments")
    eventually(lambda: can(releases.plane, "edit", space.name, "create", kind), why="edit creates LLMDeployments")
    assert not can(releases.plane, "view", space.name, "create", kind)


def account_kubeconfig(plane: ControlPlane, folder: Path) -> Path:
    """A kubeconfig of the chart's ServiceAccount, with the rights of its pods and no others."""
    document = yaml.safe_load(plane.kubeconfig.read_text())
    token = plane.run_kubectl("-n", NAMESPACE, "create", "token", "llm-llm-operator").strip()
    document["users"][0]["user"] = {"token": token}
    path = folder / "account.kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def policies(releases: Releases) -> list[str]:
    """What the chart tells the operator about NetworkPolicies."""
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/llm-llm-operator"
    (container,) = releases.plane.request("GET", path)["spec"]["template"]["spec"]["containers"]
    return [word for word in container["args"] if word.startswith("--network-polic")]


@pytest.mark.parametrize("namespaced", [False, True], ids=["cluster", "namespaced"])
def test_the_rights_suffice_for_the_operators_whole_work(
    releases: Releases, space: Space, tmp_path: Path, namespaced: bool
) -> None:
    watched = [space.name] if namespaced else []
    values = {"replicas": 0, "watchNamespaces": watched, "operator": {"gpuInventory": not namespaced}}
    releases.upgrade({**values, "admissionPolicies": {"operator": {"enabled": True}}})
    no_nodes = ("--no-gpu-inventory",) if namespaced else ()
    names = ("--lease-name", "llm-llm-operator", "--learned-config-map", "llm-llm-operator-learned")
    arguments = (*names, "--lease-namespace", NAMESPACE, *no_nodes, *policies(releases))
    log = tmp_path / "log"
    kubeconfig = account_kubeconfig(releases.plane, tmp_path)
    with OperatorUnderTest(kubeconfig, *watched, arguments=arguments, log=log) as operator:
        operator.wait_ready()
        peers = [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "gateway"}}}]
        space.create(llm("whole", replicas=2, webUI={}, network={"from": peers}))
        eventually(lambda: space.is_ready("whole"), why=lambda: f"Ready: {space.condition('whole', 'Ready')}")
        space.delete("Service", "whole")
        eventually(lambda: space.get("Service", "whole"), why="a deleted child is made again")
        eventually(lambda: space.names("NetworkPolicy") == {"whole", "whole-chat"}, why="policies are written")
        # Other tests' objects, which this operator does not watch, stay as they are.
        eventually(lambda: space.condition("whole", "Healthy")[1] not in ("", "NotSeenYet"), why="engines looked at")
        operator.wait_idle()
        before = operator.writes()
        space.patch("whole", {"metadata": {"annotations": {"someone": "else"}}})
        operator.wait_idle()
        assert operator.writes() == before, "what the API server adds to a policy is no difference"
        space.delete("NetworkPolicy", "whole")
        eventually(lambda: space.get("NetworkPolicy", "whole"), why="a deleted policy is made again")
        space.patch("whole", {"spec": {"replicas": 1, "webUI": None}})
        eventually(lambda: space.names("NetworkPolicy") == {"whole"}, why="the page's policy is deleted")
        eventually(lambda: space.get("PodDisruptionBudget", "whole") is None, why="the budget is deleted")
        eventually(lambda: space.names("Event"), why="events are written")
        refused = [line for line in operator.metrics().splitlines() if 'code="403"' in line]
        assert refused == [], refused
        assert "orbidden" not in log.read_text()


def test_a_lease_that_goes_with_the_release_does_not_come_back(
    releases: Releases, space: Space, tmp_path: Path
) -> None:
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/llm-llm-operator"
    releases.upgrade({"replicas": 0})
    arguments = ("--lease-name", "llm-llm-operator", "--lease-namespace", NAMESPACE)
    with OperatorUnderTest(releases.plane.kubeconfig, arguments=arguments, log=tmp_path / "log") as operator:

        def holder() -> str | None:
            answer: JSON = releases.plane.request("GET", lease)
            name: str | None = (answer.get("spec") or {}).get("holderIdentity")
            return name

        eventually(holder, why="the operator leads by the chart's own lease")
        releases.upgrade({"replicas": 0, "podLabels": {"a": "b"}})
        assert holder(), "an upgrade of the chart takes the lease from nobody"
        releases.run("uninstall", RELEASE)
        assert operator.process is not None
        assert operator.process.wait(30) != 0, "a leader without a lease ends itself"
    assert releases.plane.find(lease) is None
