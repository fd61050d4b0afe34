"""The real Helm."""

import pytest

from devcluster.toolchain import ensure
from tests.support.chart import Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm(ensure(["helm"]) / "helm")
