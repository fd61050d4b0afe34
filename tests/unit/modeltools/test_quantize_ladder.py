"""What is tried when memory runs out, and what is remembered of it."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from llm_operator.modeltools import ladder
from llm_operator.modeltools.recipe import Recipe

RECIPES = st.builds(
    Recipe,
    dataset=st.sampled_from(["Text", "C4"]),
    samples=st.integers(1, 4096),
    sequence_length=st.integers(64, 32_768),
    batch_size=st.integers(1, 64),
    search_scale=st.booleans(),
)


def tried(recipe: Recipe) -> list[tuple[int, int, int]]:
    return [(rung.samples, rung.sequence_length, rung.batch_size) for rung in ladder.rungs(recipe)]


def test_the_usual_recipe() -> None:
    assert tried(Recipe()) == [
        (128, 2048, 1),
        (64, 2048, 1),
        (64, 1024, 1),
        (32, 1024, 1),
        (32, 512, 1),
        (16, 512, 1),
        (0, 2048, 1),
    ]
    assert tried(Recipe(batch_size=4))[1] == (128, 2048, 1)
    assert tried(Recipe(samples=0)) == [(0, 2048, 1)]
    assert tried(Recipe(samples=8, sequence_length=128)) == [(8, 128, 1), (0, 128, 1)]


@given(RECIPES)
def test_every_rung_needs_less_than_the_one_before_and_the_last_no_data(recipe: Recipe) -> None:
    rungs = ladder.rungs(recipe)
    assert rungs[0] == recipe
    assert rungs[-1].samples == 0
    assert not rungs[-1].search_scale
    assert len(rungs) <= 20
    needs = [(rung.samples * rung.sequence_length, rung.batch_size) for rung in rungs]
    assert all(after < before for before, after in itertools.pairwise(needs))
    for rung in rungs[1:-1]:
        assert rung.samples >= min(recipe.samples, ladder.MIN_SAMPLES)
        assert rung.sequence_length >= min(recipe.sequence_length, ladder.MIN_LENGTH)
    for rung in rungs:
        assert (rung.bits, rung.group_size, rung.dataset) == (recipe.bits, recipe.group_size, recipe.dataset)


def test_attempts_are_kept_and_belong_to_one_recipe(tmp_path: Path) -> None:
    directory = tmp_path / "abc--awq"
    asked: dict[str, object] = {"dataset": "Text", "toolVersion": "0.18.0"}
    attempts = ladder.load(directory, asked)
    assert (attempts.rung, attempts.state, attempts.path.name) == (0, "stopped", "abc--awq.partial.ladder.json")
    attempts.save("running")
    assert ladder.load(directory, asked).state == "running"
    attempts.failed(Recipe(samples=64), "GPUOutOfMemory")
    again = ladder.load(directory, asked)
    assert (again.rung, again.state) == (1, "stopped")
    assert again.failures == [{"samples": 64, "failure": "GPUOutOfMemory", "sequenceLength": 2048}]
    assert ladder.load(directory, {**asked, "toolVersion": "0.19.0"}).rung == 0
    again.path.write_text("{}")
    assert ladder.load(directory, asked).rung == 0
    again.path.write_text('{"recipe": ')
    assert ladder.load(directory, asked).rung == 0
    again.forget()
    again.forget()
    assert not list(tmp_path.iterdir())
