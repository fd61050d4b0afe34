"""`kubectl llm render`: what is printed, what is refused, and what is said to be unchecked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.api.resource import LLMDeployment
from llm_operator.cli.main import run
from llm_operator.engines import KVAllocation
from llm_operator.manifests.artifacts import artifacts_of
from llm_operator.reconcile.outcome import PlanOutcome
from llm_operator.reconcile.rehearsal import COMMIT, rehearse
from tests.unit.manifests.rendered import TOOLS, manifests

LLAMA = str(Path(__file__).parents[1] / "models" / "configs" / "llama-3.1-8b.json")
LARGE = str(Path(__file__).parents[1] / "models" / "configs" / "llama-3.3-70b.json")
TEXT = """apiVersion: llm-operator.dev/v1alpha1
kind: LLMDeployment
metadata: {name: qwen, namespace: team}
spec:
  model: {huggingFace: {repository: org/model}}
  engine: {type: VLLM, version: 0.33.0, apiKey: {name: keys, key: qwen}}
  cache: {size: 40Gi}
  weightQuantization: {method: AWQ}
  priorityClassName: gold
  webUI: {}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "qwen.yaml"
    path.write_text(TEXT)
    return path


def ran(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[dict[str, Any]], list[str]]:
    """Exit code, objects, lines of standard error."""
    code = run(["render", *(str(argument) for argument in arguments)])
    output, errors = capsys.readouterr()
    return code, list(yaml.safe_load_all(output)), errors.splitlines()


def test_every_stage_in_order(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, objects, errors = ran(capsys, "-f", file, "--config", LLAMA, "--gpu", "NVIDIA-L40S")
    assert code == 0
    assert [(body["kind"], body["metadata"]["name"].partition("-")[0]) for body in objects] == [
        *(("PersistentVolumeClaim", "qwen"), ("Job", "llm"), ("Job", "llm")),
        *(("Deployment", "qwen"), ("Service", "qwen"), ("Deployment", "qwen"), ("Service", "qwen")),
    ]
    assert all(body["metadata"]["namespace"] == "team" for body in objects)
    assert not any("ownerReferences" in body["metadata"] for body in objects)
    arguments = objects[3]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--kv-cache-memory-bytes" in " ".join(arguments)
    said = "\n".join(errors)
    for part in ("Secret keys with the key qwen", "PriorityClass gold", COMMIT, "localhost/llm-operator/web:"):
        assert part in said
    assert "no plan" not in said


def test_without_a_plan_it_says_what_is_missing(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, objects, errors = ran(capsys, "-f", file)
    assert (code, len(objects)) == (0, 7)
    assert any("no plan: without config.json" in line for line in errors)
    file.write_text(TEXT + "  kvCache: {memoryPercent: 50}\n")
    code, objects, errors = ran(capsys, "-f", file)
    assert (code, objects) == (2, [])
    assert any("give --config" in line for line in errors)


def test_what_does_not_fit(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(TEXT.replace("  weightQuantization: {method: AWQ}\n", ""))
    code, objects, errors = ran(capsys, "-f", file, "--config", LARGE, "--gpu", "NVIDIA-L4")
    assert (code, [body["kind"] for body in objects]) == (1, [])
    assert any("planPolicy is Enforce" in line for line in errors)
    file.write_text(file.read_text() + "  planPolicy: Warn\n")
    code, objects, errors = ran(capsys, "-f", file, "--config", LARGE, "--gpu", "NVIDIA-L4")
    assert (code, len(objects)) == (0, 6)
    assert any("does not fit: " in line for line in errors)


def test_a_misspelt_field_and_a_wrong_namespace_are_refused(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert ran(capsys, "-f", file, "-n", "other") == (
        *(2, []),
        ["kubectl llm render: qwen: metadata.namespace is 'team', but -n says 'other'"],
    )
    file.write_text(TEXT.replace("webUI", "webUi"))
    assert any("did you mean webUI?" in line for line in ran(capsys, "-f", file)[2])


def test_a_recipe_that_is_refused(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    config = Path(LLAMA).with_name("qwen2.5-7b-instruct-awq.json")
    arguments = ("-f", file, "--config", config, "--gpu", "NVIDIA-H200")
    assert ran(capsys, *arguments)[:2] == (1, [])
    file.write_text(TEXT + "  planPolicy: Warn\n")
    code, objects, errors = ran(capsys, *arguments)
    assert (code, objects) == (2, [])
    assert any("RecipeRefused: spec.weightQuantization: " in line for line in errors), errors


@pytest.mark.parametrize("name", manifests())
def test_every_artifact_of_every_known_manifest_gets_its_job(name: str) -> None:
    resource = LLMDeployment.parse(manifests()[name])
    plan = PlanOutcome("Fits", "Fits", "", resource.spec.parallelism.tensor or 1, kv=KVAllocation(80, 8 << 30))
    found = rehearse(resource, plan, TOOLS)
    assert (found.refusals, found.trouble, found.held) == ((), None, False)
    jobs = [body["metadata"]["name"] for body in found.objects if body["kind"] == "Job"]
    assert jobs == [artifact.job_name for artifact in artifacts_of(resource)]
    assert [body["kind"] for body in found.objects if body["metadata"]["name"] == resource.metadata.name][:2] == [
        "Deployment",
        "Service",
    ]
