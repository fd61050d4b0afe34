"""The commands of the documentation, as lines of a shell, and what runs each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devcluster.cache import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
GPU = re.compile(r"#.*\bneeds a GPU\b")
"""What a page says beside a command that no machine without a GPU can run."""
BLOCK = re.compile(r"^( *)```console\n(.*?)^ *```", re.DOTALL | re.MULTILINE)

# Expression of a command, and the test that runs it; an empty one: tests/cluster/test_pages.py runs the line itself.
RUN_BY: tuple[tuple[str, str], ...] = (
    # A cluster of the reader's, or the namespace of an installed operator.
    # The demo's steps one by one: the chart, both engines, a chat through kubectl, the page.
    (r"^make demo", "tests/e2e/test_serving.py"),
    (r"^make cluster-down", "tests/e2e/test_devcluster_node.py"),
    (r"^make ", ".ci/run"),
    (r"^python -m devcluster|devcluster kubeconfig", "tests/e2e/test_devcluster_node.py"),
    (r"^export ", "tests/e2e/conftest.py"),
    (r"^helm template .*kubectl llm render|get deployment llm-operator", "tests/unit/cli/test_render.py"),
    (r"^helm (install|upgrade|uninstall|test) ", "tests/e2e/test_helm.py"),
    (
        r"^kubectl .*(rollout status deployment/llm-operator|--all --all-namespaces|delete crd)",
        "tests/e2e/test_helm.py",
    ),
    (r"^kubectl logs deployment/llm-operator", "tests/e2e/test_helm.py"),
    (r"^kubectl create secret generic hub-proxy", "tests/unit/helm/test_render.py"),
    (r"^kubectl .*argocd", "tests/unit/gitops/test_argocd.py"),
    # What needs a container, or a browser.
    (r"^kubectl port-forward service/\S+-chat", "tests/e2e/chat_page.py"),
    (r"^kubectl llm (chat|bench) (qwen|tiny)", "tests/e2e/test_serving.py"),
    (r"^kubectl llm (list|status tiny)", "tests/cluster/test_cli.py"),
    # docker is not installed here. Its command lines are held against the Dockerfiles, which devcluster builds with
    # buildah; what `docker run` starts is started as the image starts it.
    (r"^docker (build|push)", "tests/unit/docs/test_docker.py"),
    (r"^docker run", "tests/web/test_image.py"),
    (r"^pip install|^pre-commit|^kubectl-llm plan", "tests/unit/cli/test_gitops.py"),
    # The hub and the models of the examples are stand-ins there.
    (r"^kubectl llm plan ", "tests/unit/docs/test_walkthrough.py"),
    (r"^kubectl ", ""),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A command of a page.

    Attributes:
        page: where it stands, relative to the repository.
        text: the line, without its prompt; continued lines are joined.
    """

    page: str
    text: str

    @property
    def needs_gpu(self) -> bool:
        """The page says so."""
        return GPU.search(self.text) is not None

    @property
    def run_by(self) -> str | None:
        """The file that runs it, relative to the repository; empty: it is run as it stands; None: nothing runs it."""
        return next((test for expression, test in RUN_BY if re.search(expression, self.text)), None)


def lines(page: Path) -> Iterator[Line]:
    """The commands of a page in their order, without output and comments."""
    for indent, block in BLOCK.findall(page.read_text()):
        text = re.sub(r"\\\n\s*", "", re.sub(rf"^{indent}", "", block, flags=re.MULTILINE))
        prompted = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
        for line in prompted or text.splitlines():
            if line.strip() and not line.startswith("#"):
                yield Line(str(page.relative_to(ROOT)), line.strip())


def all_lines() -> list[Line]:
    """Those of every page."""
    return [line for page in PAGES for line in lines(page)]
