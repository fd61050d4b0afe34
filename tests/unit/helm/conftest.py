"""The real Helm and kubeconform, built once and kept in the cache, and Kubernetes' own OpenAPI document."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from devcluster.toolchain import KUBERNETES, MODULES, _go, ensure
from tests.support.chart import Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm(ensure(["helm"]) / "helm")


@pytest.fixture(scope="session")
def kubeconform_binary() -> Path:
    return ensure(["kubeconform"]) / "kubeconform"


@pytest.fixture(scope="session")
def swagger() -> Path:
    """From the module cache, where the cluster's own binaries are built from."""
    result = subprocess.run(
        [_go(), "mod", "download", "-json", f"k8s.io/kubernetes@{KUBERNETES}"],
        cwd=MODULES / "kubernetes",
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(json.loads(result.stdout)["Dir"]) / "api" / "openapi-spec" / "swagger.json"
