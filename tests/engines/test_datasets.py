"""The named data sets, loaded by the real loaders of every tested LMDeploy release from a stub of the hub."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_operator.modeltools import calibration
from llm_operator.modeltools.recipe import DATASETS, Recipe, check, release
from llm_operator.modeltools.report import ToolError
from tests.engines import environments
from tests.engines.environments import HERE, REPOSITORY
from tests.engines.lite import OPERATOR, datasets_hub, run_script
from tests.faulty_hub import Fault, FaultyHub

VERSIONS = environments.tested_versions("lmdeploy")
CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512}
TEXTS = [f" = Chapter {number} = \n" if number % 3 else "" for number in range(1, 60)]
"""As WikiText2's: empty lines and ends of lines must stay, because texts are joined as they are."""
DOWNLOADED = {
    "WikiText2": "Salesforce/wikitext/wikitext-2-raw-v1/train-00000-of-00001.parquet",
    "C4": "allenai/c4/en/c4-train.00000-of-01024.json.gz",
    "PileVal": "mit-han-lab/pile-val-backup/val.jsonl.zst",
    "GSM8K": "openai/gsm8k/main/train-00000-of-00001.parquet",
    "NeuralMagicCalibration": "neuralmagic/calibration/LLM/train.parquet",
    "OpenPlatypus": "garage-bAInd/Open-Platypus/data/train-00000-of-00001.parquet",
    "OpenWebText": "Skylion007/openwebtext/plain_text/train-00000-of-00080.parquet",
}
NOT_DOWNLOADED = {
    "Salesforce/wikitext/wikitext-103-raw-v1/train-00000-of-00001.parquet",
    "allenai/c4/en/c4-train.00001-of-01024.json.gz",
    "openai/gsm8k/socratic/train-00000-of-00001.parquet",
    "Skylion007/openwebtext/plain_text/train-00001-of-00080.parquet",
}
CARD = "resolve/datasets/openai/gsm8k/README.md"
CUT_BYTES = 100
HIDDEN = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
FAILURES = [
    Fault("status", CARD, status=401, headers=HIDDEN, times=1),
    Fault("status", CARD, status=404, headers=HIDDEN, times=1),
    Fault("status", CARD, status=403, times=1),
    Fault("status", CARD, status=401, times=1),
]
"""How the hub refuses, one time after the other: hidden from strangers, not there, gated, the token is wrong."""


class Loaded:
    """What the loaders answered."""

    def __init__(self, folder: Path, hub: FaultyHub) -> None:
        """Let them all work, the first of them while the hub fails."""
        self.work = folder / "work"
        self.work.mkdir()
        loaders = {version: _loader(version) for version in VERSIONS}
        # Most releases have the same one.
        distinct = {path.read_bytes(): path for path in loaders.values()}
        newest = loaders[VERSIONS[-1]]
        steps = [_step(newest, "GSM8K") for _ in FAILURES]
        steps.append(_step(newest, "OpenPlatypus", "plain"))
        steps += [_step(path, dataset) for path in distinct.values() for dataset in DATASETS]
        (folder / "steps.json").write_text(json.dumps(steps))
        cut = Fault("cut", f"file/datasets/{DOWNLOADED['C4']}", after=CUT_BYTES, times=1)
        hub.faults = [*map(dataclasses.replace, FAILURES), cut]
        output = run_script(
            HERE / "workers" / "load_datasets.py",
            folder / "steps.json",
            pythonpath=f"{OPERATOR}:{REPOSITORY / 'images' / 'cpu-test-base'}",
            cwd=self.work,
            HF_ENDPOINT=hub.url,
            HF_HOME=str(folder / "huggingface"),
            HF_HUB_OFFLINE="0",
        )
        answers: list[dict[str, Any]] = json.loads(output.splitlines()[-1])
        assert len(answers) == len(steps)
        self.failed, self.without_template = answers[: len(FAILURES)], answers[len(FAILURES)]
        rest = iter(answers[len(FAILURES) + 1 :])
        by_content = {content: {dataset: next(rest) for dataset in DATASETS} for content in distinct}
        self.by_version = {version: by_content[path.read_bytes()] for version, path in loaders.items()}


def _loader(version: str) -> Path:
    folder = environments.sources("lmdeploy", version)
    assert folder is not None
    return folder / "lmdeploy" / "lite" / "utils" / "calib_dataloader.py"


def _step(loader: Path, dataset: str, tokenizer: str = "chat") -> dict[str, str]:
    return {"loader": str(loader), "tokenizer": tokenizer, "dataset": DATASETS[dataset][0]}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    with datasets_hub(tmp_path_factory.mktemp("hub"), TEXTS) as running:
        yield running


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, hub: FaultyHub) -> Loaded:
    return Loaded(tmp_path_factory.mktemp("loaded"), hub)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_release_can_load_is_what_its_recipes_may_name(loaded: Loaded, version: str) -> None:
    for dataset, (_, since) in DATASETS.items():
        answer = loaded.by_version[version][dataset]
        assert ("error" not in answer) == (release(version) >= release(since)), (dataset, answer)
        recipe = Recipe(dataset=dataset, trust_remote_code=True)
        if "error" in answer:
            with pytest.raises(ToolError, match=f"cannot load the data set {dataset}: use WikiText2, PileVal"):
                check(CONFIG, recipe, version)
        else:
            check(CONFIG, recipe, version)
            assert calibration.outcome(recipe, answer) is None


@pytest.mark.usefixtures("loaded")
def test_what_they_load_comes_from_the_hub_and_is_not_more_than_needed(hub: FaultyHub) -> None:
    assert set(DOWNLOADED) == set(DATASETS)
    for name in DOWNLOADED.values():
        size = (hub.root / "datasets" / name).stat().st_size
        # Once for all releases, and one of them was cut on its way.
        again = CUT_BYTES if name == DOWNLOADED["C4"] else 0
        assert hub.sent[f"datasets/{name}"] == size + again, name
    for name in NOT_DOWNLOADED:
        assert (hub.root / "datasets" / name).exists()
        assert f"datasets/{name}" not in hub.sent


def test_wikitext_lies_where_lmdeploy_looks_word_for_word(loaded: Loaded) -> None:
    lines = (loaded.work / "wikitext" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == TEXTS


@pytest.mark.parametrize("number", range(len(FAILURES)))
def test_a_hub_that_does_not_give_it_is_told_with_what_to_do(loaded: Loaded, number: int) -> None:
    with pytest.raises(ToolError) as told:
        calibration.outcome(Recipe(dataset="GSM8K"), loaded.failed[number])
    assert (told.value.reason, told.value.retry) == ("CalibrationDataMissing", False)
    assert "the data set GSM8K cannot be loaded" in str(told.value)
    assert "not for this Job's token: copy it to the hub that HF_ENDPOINT names" in str(told.value)
    assert "calibration.dataset to Text, which works offline" in str(told.value)


def test_conversations_need_a_chat_template(loaded: Loaded) -> None:
    with pytest.raises(ToolError, match="no chat template: use WikiText2, C4") as told:
        calibration.outcome(Recipe(dataset="OpenPlatypus"), loaded.without_template)
    assert told.value.reason == "RecipeRefused"
