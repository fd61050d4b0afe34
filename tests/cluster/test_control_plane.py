import subprocess
import sys
from pathlib import Path

import pytest

from devcluster.control_plane import ControlPlane
from devcluster.toolchain import KUBERNETES
from tests.waiting import eventually

pytestmark = pytest.mark.cluster


def test_the_api_server_is_the_pinned_version(control_plane: ControlPlane) -> None:
    assert control_plane.request("GET", "/version")["gitVersion"] == KUBERNETES


def test_two_run_side_by_side(control_plane: ControlPlane, tmp_path: Path) -> None:
    with ControlPlane.start(tmp_path) as other:
        assert other.url != control_plane.url
        other.request("POST", "/api/v1/namespaces", {"metadata": {"name": "only-here"}})
        names = {item["metadata"]["name"] for item in control_plane.request("GET", "/api/v1/namespaces")["items"]}
        assert "only-here" not in names


def test_nothing_outlives_a_killed_owner(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from devcluster.control_plane import ControlPlane\n"
        f"plane = ControlPlane.start(Path({str(tmp_path)!r}))\n"
        "print(*(part.process.pid for part in plane._components), flush=True); time.sleep(300)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        children = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(children) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in children)
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()  # type: ignore[union-attr]
    eventually(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in children),
        why="etcd and kube-apiserver end with the process that started them",
    )


def test_a_deployment_runs_on_fake_gpu_nodes(cluster_control_plane: ControlPlane) -> None:
    plane = cluster_control_plane
    plane.fake_gpu_node("gpu-1")
    template = {
        "metadata": {"labels": {"app": "fake"}},
        "spec": {"containers": [{"name": "c", "image": "none", "resources": {"limits": {"nvidia.com/gpu": 2}}}]},
    }
    body = {
        "metadata": {"name": "fake"},
        "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "fake"}}, "template": template},
    }
    plane.request("POST", "/apis/apps/v1/namespaces/default/deployments", body)
    plane.run_kubectl("wait", "--for=condition=Available", "--timeout=60s", "deployment/fake")
    plane.request("DELETE", "/apis/apps/v1/namespaces/default/deployments/fake")
