"""Every line of `lmdeploy lite auto_awq` and `lmdeploy convert` is one that the real parser takes as it is meant."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_operator.modeltools.awq import quantize_command
from llm_operator.modeltools.convert import LAST_VERSION, Conversion, convert_command
from llm_operator.modeltools.recipe import CALIBRATIONS, DATASETS, NO_DATA, Recipe, check, release, supported
from llm_operator.modeltools.report import ToolError
from tests.engines import environments
from tests.engines.worker import Worker

MODEL, OUTPUT = Path("/models/org/model"), Path("/models/out.partial")
CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512}


@pytest.fixture(scope="module", params=environments.tested_versions("lmdeploy"))
def lmdeploy(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with Worker("lmdeploy", request.param) as running:
        yield running


@pytest.fixture(scope="module")
def newest() -> Iterator[Worker]:
    with Worker("lmdeploy", environments.tested_versions("lmdeploy")[-1]) as running:
        yield running


@pytest.fixture(scope="module")
def last_with_convert() -> Iterator[Worker]:
    with Worker("lmdeploy", LAST_VERSION) as running:
        yield running


def recipes() -> Iterator[Recipe]:
    flags = itertools.product(CALIBRATIONS, (32, 128), (1, 8), (False, True), (False, True))
    for dataset, group_size, batch_size, search_scale, trusted in flags:
        samples = 0 if dataset == NO_DATA else 96
        yield Recipe(
            group_size=group_size,
            dataset=dataset,
            samples=samples,
            sequence_length=1024,
            batch_size=batch_size,
            search_scale=search_scale and samples > 0,
            trust_remote_code=trusted,
        )


def _refusal(recipe: Recipe, version: str) -> str | None:
    try:
        check(CONFIG, recipe, version)
    except ToolError as error:
        return error.reason
    return None


def test_every_recipe_is_refused_or_accepted_by_the_parser(lmdeploy: Worker) -> None:
    accepted = refused = 0
    for recipe in recipes():
        if (reason := _refusal(recipe, lmdeploy.version)) is not None:
            assert reason == "RecipeRefused"
            refused += 1
            continue
        command = quantize_command(recipe, MODEL, OUTPUT, lmdeploy.version, "float16")
        reply = lmdeploy.ask("command", command[1:])
        assert reply.error is None, (command, reply.error)
        assert reply.result["inexact"] == [], command
        values = reply.result["values"]
        expected = {
            "model": str(MODEL),
            "work_dir": str(OUTPUT),
            "calib_samples": recipe.samples,
            "w_bits": 4,
            "w_group_size": recipe.group_size,
            "w_sym": False,
            "search_scale": recipe.search_scale,
            "dtype": "float16",
            "device": "cuda",
        }
        if recipe.samples:
            word = DATASETS[recipe.dataset][0] if recipe.dataset in DATASETS else "wikitext2"
            expected |= {"calib_seqlen": 1024, "batch_size": recipe.batch_size, "calib_dataset": word}
        if release(lmdeploy.version) >= (0, 13):
            expected["trust_remote_code"] = recipe.trust_remote_code
        assert {name: values[name] for name in expected} == expected
        accepted += 1
    assert accepted >= 32
    # Older releases lack data sets, and run the repository's code unasked.
    assert (refused > 0) == (release(lmdeploy.version) < (0, 13))


def test_the_data_sets_are_the_release_s_own(lmdeploy: Worker) -> None:
    ours = {word for word, since in DATASETS.values() if release(lmdeploy.version) >= release(since)}
    theirs = set(lmdeploy.ask("quantizable").result["datasets"])
    # What they know and cannot load: ptb is a script, which datasets no longer runs; c4 see test_datasets.py.
    assert theirs - ours == ({"ptb", "c4"} if release(lmdeploy.version) < (0, 12) else set())
    assert ours <= theirs


def test_a_value_after_a_bare_flag_is_what_the_parser_refuses(newest: Worker) -> None:
    for flag in ("--search-scale", "--w-sym", "--trust-remote-code"):
        reply = newest.ask("command", ["lite", "auto_awq", str(MODEL), flag, "False"])
        assert reply.error is not None
        assert "unrecognized arguments: False" in reply.error


def test_the_table_of_architectures_is_the_release_s_own(lmdeploy: Worker) -> None:
    told = lmdeploy.ask("quantizable").result
    assert supported(lmdeploy.version) == (told["calibrated"], told["without_data_only"])


@pytest.mark.parametrize("tensor", [1, 2, 8])
@pytest.mark.parametrize("model_format", ["hf", "awq"])
def test_convert_is_accepted_by_its_last_release(last_with_convert: Worker, tensor: int, model_format: str) -> None:
    conversion = Conversion("internlm2", tensor, model_format)
    command = convert_command(conversion, MODEL, OUTPUT)
    reply = last_with_convert.ask("command", command[1:])
    assert reply.error is None
    assert reply.result["inexact"] == []
    values = reply.result["values"]
    assert (values["model_name"], values["model_path"], values["dst_path"]) == ("internlm2", str(MODEL), str(OUTPUT))
    assert (values["tp"], values["model_format"]) == (tensor, model_format)
    assert values["group_size"] == (128 if model_format == "awq" else 0)


def test_later_releases_have_no_convert(newest: Worker) -> None:
    command = convert_command(Conversion("internlm2", 1), MODEL, OUTPUT)
    reply = newest.ask("command", command[1:])
    assert reply.error is not None
    assert "invalid choice: 'convert'" in reply.error
