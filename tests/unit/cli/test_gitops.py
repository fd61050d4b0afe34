"""The commands of docs/gitops.md are run as they stand there, on manifests that fit, do not fit, or are broken."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faulty_hub import Fault, FaultyHub

ROOT = Path(__file__).parents[3]
CONFIGS = Path(__file__).parents[1] / "models" / "configs"
PAGE = (ROOT / "docs" / "gitops.md").read_text()


def block(first_line: str) -> Any:
    """The YAML block that starts with this comment."""
    (found,) = [
        text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if text.startswith(f"# {first_line}")
    ]
    return yaml.safe_load(found)


HOOK = block(".pre-commit-config.yaml")["repos"][0]["hooks"][0]
STEPS = {
    step["name"]: step["run"] for step in block(".github/workflows/plan.yaml")["jobs"]["plan"]["steps"] if "run" in step
}


def manifest(repository: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "llm-operator.dev/v1alpha1",
            "kind": "LLMDeployment",
            "metadata": {"name": repository.split("/")[1]},
            "spec": {"model": {"huggingFace": {"repository": repository}}, "engine": {"type": "LMDeploy"}},
        }
    )


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    with FaultyHub(tmp_path_factory.mktemp("hub")) as stub:
        stub.add("org/small", {"config.json": (CONFIGS / "llama-3.1-8b.json").read_bytes()})
        stub.add("org/large", {"config.json": (CONFIGS / "llama-3.3-70b.json").read_bytes()})
        stub.faults.append(Fault("status", "*/org/gated*", status=403))
        yield stub


Runner = Callable[[list[str]], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def repository(tmp_path: Path, hub: FaultyHub) -> Runner:
    """Runs a command in a folder with deployments/; kubectl-llm is the one beside this Python."""
    (tmp_path / "deployments").mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "NO_PROXY": "*", "PATH": path}

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_the_hook(repository: Runner, tmp_path: Path) -> None:
    (tmp_path / "deployments" / "a.yaml").write_text(manifest("org/small"))
    (tmp_path / "deployments" / "b.yaml").write_text(manifest("org/large"))
    assert re.search(HOOK["files"], "deployments/a.yaml")
    entry = shlex.split(HOOK["entry"])
    assert repository([*entry, "deployments/a.yaml"]).returncode == 0
    refused = repository([*entry, "deployments/a.yaml", "deployments/b.yaml"])
    assert refused.returncode == 1
    assert "large: would fit with" in refused.stdout
    (tmp_path / "deployments" / "b.yaml").write_text("kind: [")
    assert repository([*entry, "deployments/a.yaml", "deployments/b.yaml"]).returncode == 2


@pytest.mark.parametrize(
    ("repositories", "plan_code", "known_code"),
    [(("small",), 0, 0), (("small", "large"), 1, 0), (("small", "gated"), 0, 1)],
)
def test_the_job(
    repository: Runner, tmp_path: Path, repositories: tuple[str, ...], plan_code: int, known_code: int
) -> None:
    for name in repositories:
        (tmp_path / "deployments" / f"{name}.yaml").write_text(manifest(f"org/{name}"))
    install, plan, known, review = STEPS.values()
    assert install == "pip install ./llm-operator"
    assert repository(["bash", "-ec", plan]).returncode == plan_code
    items = json.loads((tmp_path / "plan.json").read_text())["items"]
    assert sorted(item["name"] for item in items) == sorted(repositories)
    assert repository(["bash", "-c", known]).returncode == known_code
    assert repository(["bash", "-ec", review]).returncode == plan_code


def test_the_command_of_the_page(repository: Runner, tmp_path: Path) -> None:
    (tmp_path / "deployments" / "a.yaml").write_text(manifest("org/small"))
    commands = re.findall(r"^\$ (kubectl-llm .*)$", PAGE, re.MULTILINE)
    assert commands
    for command in commands:
        assert repository(["bash", "-c", command]).returncode == 0
