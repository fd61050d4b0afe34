"""Fixtures of a real Kubernetes: bare API server, the same with controllers, and the whole node."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from devcluster.control_plane import ControlPlane
from tests.operator_process import RUNNING

PROGRAMS = {"helm", "kubectl", "kubeconform_binary", "swagger"}
"""Fixtures of programs that devcluster builds."""
CRD = Path(__file__).resolve().parents[1] / "crds" / "llm-operator.dev_llmdeployments.yaml"

# A machine that is busy with something else must not fail a test: what is slow is measured elsewhere.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What failed beside an operator shows the end of that operator's log: on another machine it is all there is."""
    report = yield
    if report.failed:
        report.sections += [("log of the operator", text) for process in RUNNING if (text := process.log_end())]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that are given a built program need Go, once: `make chart` runs them, and `make unit` the others."""
    for item in items:
        if PROGRAMS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.programs)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver with the CRD installed."""
    with ControlPlane.start(tmp_path_factory.mktemp("plane")) as plane:
        plane.install_crd(CRD)
        yield plane


@pytest.fixture(scope="session")
def cluster_control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The same with controller-manager, scheduler and kwok: Deployments make pods, the garbage collector works."""
    folder = tmp_path_factory.mktemp("cluster")
    with ControlPlane.start(folder, controllers=True, scheduler=True, kwok=True) as plane:
        plane.install_crd(CRD)
        yield plane
