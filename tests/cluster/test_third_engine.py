"""An operator that knows a fake third engine serves it on a real API server: the row is all that it takes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devcluster.client import ApiError
from devcluster.control_plane import ControlPlane
from llm_operator.api import KIND
from tests.cluster.helpers import Space
from tests.operator_process import OperatorUnderTest
from tests.support.fake_engine import NAME, in_crd
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    folder = tmp_path_factory.mktemp("third")
    with ControlPlane.start(folder, controllers=True, scheduler=True, kwok=True) as started:
        started.install_crd(CRD)
        started.fake_gpu_node("third-1", gpus=8)
        yield started


def test_it_is_refused_then_served(plane: ControlPlane, tmp_path: Path) -> None:
    space = Space(plane, "third")
    fake = llm("fake", engine={"type": NAME, "version": "1.0.0"}, parallelism={"tensor": 2})
    with pytest.raises(ApiError) as refused:
        space.create(fake)
    assert (refused.value.status, "spec.engine.type" in str(refused.value)) == (422, True)
    crd = tmp_path / "crd.yaml"
    crd.write_text(yaml.safe_dump(in_crd(yaml.safe_load(CRD.read_text()))))
    plane.install_crd(crd)
    log = tmp_path / "log"
    with OperatorUnderTest(plane.kubeconfig, log=log, program="tests.support.fake_engine") as operator:
        operator.wait_ready()
        space.create(fake)
        eventually(lambda: space.is_ready("fake"), why=lambda: f"Ready: {space.condition('fake', 'Ready')}")
        status = (space.get(KIND, "fake") or {})["status"]
        assert (status["engine"]["type"], status["engine"]["version"]) == (NAME, "1.0.0")
        deployment = space.get("Deployment", "fake") or {}
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["command"] == ["fake-serve"]
        assert container["args"][1:3] == ["--ranks", "2"]
        assert container["readinessProbe"]["httpGet"]["path"] == "/fake-health"
        operator.wait_idle()
    assert "Traceback" not in log.read_text(), log.read_text()[-4000:]
