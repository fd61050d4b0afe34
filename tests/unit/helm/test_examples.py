"""Every example is an object that the operator accepts, and that its engine can be started from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from llm_operator.api import LLMDeployment
from llm_operator.cli.main import run
from llm_operator.engines import check
from llm_operator.pipeline.stage_pod import quantize_arguments
from tests.support.chart import ROOT

CONFIGS = Path(__file__).parents[1] / "models" / "configs"


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


@pytest.mark.parametrize(
    ("path", "resource"),
    [entry for entry in examples() if entry[1].spec.model.hugging_face is not None],
    ids=lambda value: getattr(value, "stem", ""),
)
def test_an_example_of_the_hub_fits_the_card_that_it_names(
    path: Path, resource: LLMDeployment, capsys: pytest.CaptureFixture[str]
) -> None:
    source = resource.spec.model.hugging_face
    assert source is not None
    config = CONFIGS / f"{source.repository.split('/')[1].lower()}.json"
    assert run(["plan", "-f", str(path), "--config", str(config)]) == 0
    name, verdict, tensor = capsys.readouterr().out.splitlines()[1].split()[:3]
    assert (name, verdict, tensor) == (resource.metadata.name, "Fits", str(resource.spec.parallelism.tensor))


def test_one_object_quantizes_and_serves() -> None:
    """The tutorial's last command: `lmdeploy lite auto_awq` with these numbers, then KV int4 at 0.4."""
    (resource,) = [resource for path, resource in examples() if path.stem == "internlm2.5-7b-w4a16-kv4"]
    recipe, spec = resource.spec.weight_quantization, resource.spec
    assert recipe is not None
    words = quantize_arguments(resource, recipe)
    assert words[: words.index("--tool-version")] == [
        *("--bits", "4", "--group-size", "128", "--dataset", "WikiText2"),
        *("--samples", "128", "--sequence-length", "2048", "--batch-size", "1"),
    ]
    assert (spec.engine.type, spec.engine.backend) == ("LMDeploy", "TurboMind")
    assert (spec.kv_cache.quantization, spec.kv_cache.memory_percent) == ("Int4", 40)
    assert spec.cache is not None


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
