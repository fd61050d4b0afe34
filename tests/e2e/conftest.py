"""One node, the images in it and the chart installed, for all e2e tests of a run.

On a cluster of your own: LLM_OPERATOR_E2E_USE_EXISTING=1 with KUBECONFIG and images that it can pull
(LLM_OPERATOR_IMAGE_OPERATOR, LLM_OPERATOR_IMAGE_MODEL_TOOLS, LLM_OPERATOR_IMAGE_LMDEPLOY_CPU_TEST,
LLM_OPERATOR_IMAGE_LMDEPLOY_CONVERT_CPU_TEST, LLM_OPERATOR_IMAGE_VLLM_CPU_TEST).
"""

import os
import shutil
from collections.abc import Iterator

import pytest

from devcluster import images, toolchain
from devcluster.node import Node
from devcluster.session import IMAGES, Session, existing

NODE_NAME = "e2e"


@pytest.fixture(scope="session")
def session() -> Iterator[Session]:
    if os.environ.get("LLM_OPERATOR_E2E_USE_EXISTING") == "1":
        given = {name: os.environ.get(f"LLM_OPERATOR_IMAGE_{name.upper().replace('-', '_')}") for name in IMAGES}
        yield existing({name: reference for name, reference in given.items() if reference})
        return
    binaries = toolchain.ensure()
    node = Node.up(NODE_NAME)
    # Volumes outlive a node: what an interrupted run left would be found, and not be fetched.
    for path in node.volumes.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    try:
        images.bring(list(IMAGES), node)
        yield Session(node.kubeconfig, binaries, volumes=node.volumes, load=node.load, inside=node.inside)
    finally:
        node.down()


@pytest.fixture(scope="session")
def installed(session: Session) -> Session:
    """The chart, installed."""
    session.install_chart()
    return session
