"""Every example is an object that the operator accepts, and that its engine can be started from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from llm_operator.api import LLMDeployment
from llm_operator.engines import check
from tests.unit.helm.rendering import ROOT


def examples() -> Iterator[tuple[Path, LLMDeployment]]:
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] == "LLMDeployment":
                yield path, LLMDeployment.parse(document)


def test_there_are_examples_of_both_engines() -> None:
    assert {resource.spec.engine.type for _, resource in examples()} == {"LMDeploy", "VLLM"}


@pytest.mark.parametrize(("path", "resource"), list(examples()), ids=lambda value: getattr(value, "stem", ""))
def test_an_example_is_served_as_it_is(path: Path, resource: LLMDeployment) -> None:
    assert check(resource.spec) == (), path


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_says_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("# ")


def test_the_tiny_examples_read_the_model_that_the_job_makes() -> None:
    documents = list(yaml.safe_load_all((ROOT / "examples" / "tiny-model.yaml").read_text()))
    by_kind = {document["kind"]: document for document in documents}
    pod = by_kind["Job"]["spec"]["template"]["spec"]
    made = Path(pod["containers"][0]["command"][1])
    (mount,) = [entry for entry in pod["containers"][0]["volumeMounts"] if entry["name"] == "models"]
    for path, resource in examples():
        source = resource.spec.model.persistent_volume_claim
        if source is not None:
            assert source.claim_name == by_kind["PersistentVolumeClaim"]["metadata"]["name"], path
            assert Path(mount["mountPath"], source.path) == made, path
