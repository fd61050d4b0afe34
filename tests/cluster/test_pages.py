"""The documentation's commands, typed as they stand in the order of their page, against a real API server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devcluster.cache import ROOT
from devcluster.control_plane import ControlPlane
from devcluster.toolchain import ensure
from llm_operator.api import KIND
from tests.cluster.helpers import JSON, Space
from tests.support.objects import llm
from tests.support.pages import PAGES, Line, all_lines, lines

pytestmark = pytest.mark.cluster

OBJECT = re.compile(r"llmdep[ /]([a-z0-9][-a-z0-9]*)|kubectl llm (?:wait|status|history|restart) ([a-z0-9][-a-z0-9]*)")
CONDITION = re.compile(r"--for=condition=(\w+)")
FILES = ("examples", "crds", "gitops", "helm")
CONFIG = ROOT / "tests" / "unit" / "models" / "configs" / "qwen2.5-7b-instruct.json"
PAGES_WITH_COMMANDS = [page for page in PAGES if any(line.run_by == "" for line in lines(page))]


class Reader:
    """Somebody in a checkout, with a shell and a namespace."""

    def __init__(self, space: Space, folder: Path) -> None:
        self.space = space
        self.folder = folder
        for name in FILES:
            (folder / name).symlink_to(ROOT / name)
        (folder / "deployments").mkdir()
        (folder / "deployments" / "qwen.yaml").write_text(yaml.safe_dump(llm("qwen")))
        (folder / "qwen").mkdir()
        (folder / "qwen" / "config.json").write_bytes(CONFIG.read_bytes())
        config = yaml.safe_load(space.plane.kubeconfig.read_text())
        for context in config["contexts"]:
            context["context"]["namespace"] = space.name
        (folder / "kubeconfig").write_text(yaml.safe_dump(config))
        programs = [str(ensure(["kubectl"])), str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.endswith(("_proxy", "_PROXY"))},
            "KUBECONFIG": str(folder / "kubeconfig"),
            "PATH": os.pathsep.join(programs),
        }

    def types(self, text: str) -> tuple[int, str]:
        """Exit code and output of a line; what goes on for ever is ended after its first line."""
        with subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", f"exec 2>&1; {text}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as shell:
            assert shell.stdout is not None
            if " -w" in text:
                first = shell.stdout.readline()
                shell.terminate()
                return 0, first
            output, _ = shell.communicate(timeout=60)
            return shell.returncode, output

    def say_ready(self, conditions: set[str]) -> None:
        """What the operator would have written by the time that somebody waits for."""
        for name in self.space.names(KIND):
            body = self.space.get(KIND, name)
            assert body is not None
            generation = body["metadata"]["generation"]
            told = [
                {
                    **{"type": kind, "status": "True", "reason": "Told", "message": ""},
                    **{"observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"},
                }
                for kind in sorted(conditions | {"Ready"})
            ]
            path = f"{self.space.path(KIND, name)}/status"
            status: JSON = {"status": {"observedGeneration": generation, "conditions": told}}
            self.space.plane.request("PATCH", path, status, "application/merge-patch+json")


@pytest.fixture(params=PAGES_WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> list[Line]:
    return [line for line in lines(request.param) if line.run_by == "" and not line.needs_gpu]


@pytest.fixture
def reader(control_plane: ControlPlane, page: list[Line], tmp_path: Path) -> Iterator[Reader]:
    name = re.sub(r"[^a-z0-9]+", "-", page[0].page.lower()).strip("-")
    space = Space(control_plane, f"page-{name}")
    made = {
        body["metadata"]["name"]
        for line in page
        for file in re.findall(r"apply -f (examples/\S+)", line.text)
        for body in yaml.safe_load_all((ROOT / file).read_text())
    }
    named = {one or other for line in page for one, other in OBJECT.findall(line.text)}
    for missing in sorted(named - made):
        space.create(llm(missing))
    yield Reader(space, tmp_path)
    for left in space.names(KIND):
        space.delete(KIND, left)


def test_every_command_of_the_page_works(reader: Reader, page: list[Line]) -> None:
    conditions = {kind for line in page for kind in CONDITION.findall(line.text)}
    for line in page:
        if " wait" in line.text:
            reader.say_ready(conditions)
        for job in re.findall(r"delete job (\S+)", line.text):
            pod = {"restartPolicy": "Never", "containers": [{"name": "tool", "image": "none"}]}
            reader.space.create({"metadata": {"name": job}, "spec": {"template": {"spec": pod}}}, "Job")
        code, output = reader.types(line.text)
        assert code == 0, f"{line.page}: {line.text}: {output}"
        assert "Traceback" not in output, output


def test_the_shell_tells_a_command_that_fails(control_plane: ControlPlane, tmp_path: Path) -> None:
    reader = Reader(Space(control_plane, "page-none"), tmp_path)
    assert reader.types("kubectl get llmdep nobody") == (
        1,
        'Error from server (NotFound): llmdeployments.llm-operator.dev "nobody" not found\n',
    )
    assert reader.types("kubectl get llmdep nobody | cat")[0] == 1
    assert len(all_lines()) > 100
