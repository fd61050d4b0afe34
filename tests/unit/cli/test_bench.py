"""`kubectl llm bench`: the arithmetic, and the command against a stand-in for cluster and engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_operator.cli.bench import Prompts, plot, table
from llm_operator.cli.measure import Level, Sample, bars, percentile
from tests.unit.cli.fake_cluster import FakeCluster, Terminal, ran

USAGE = {"prompt_tokens": 40, "completion_tokens": 5}


@pytest.fixture
def space(tmp_path: Path) -> Iterator[FakeCluster]:
    made = FakeCluster(tmp_path)
    made.usage = dict(USAGE)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_arithmetic_of_a_level() -> None:
    samples = (Sample(0.0, 0.5, 2.5, 10, 5, counted=True), Sample(1.0, 1.1, 1.1, 10, 1, counted=True))
    level = Level(2, 3.0, samples, ("broken",), 1)
    assert samples[0].inter_token_seconds == 0.5
    assert samples[1].inter_token_seconds is None
    assert level.tokens_per_second == 2.0
    body = level.document()
    assert body["timeToFirstTokenSeconds"] == {"p50": 0.1, "p90": 0.5, "p99": 0.5}
    assert body["interTokenSeconds"] == {"p50": 0.5, "p90": 0.5, "p99": 0.5}
    assert (body["requests"], body["failed"], body["cut"], body["outputTokens"]) == (2, 1, 1, 6)
    assert "Not finished at the end, and not counted: 1." in table([level])
    empty = Level(1, 0.0, ()).document()
    assert (empty["outputTokensPerSecond"], empty["timeToFirstTokenSeconds"]["p50"]) == (0.0, None)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_a_percentile_is_one_of_the_values_and_covers_its_share(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values)
    assert min(values) == percentile(values, 0)
    assert max(values) == percentile(values, 100)


@given(st.lists(st.tuples(st.text("0123456789", max_size=3), st.floats(0, 1e9)), min_size=1), st.integers(30, 200))
def test_bars_keep_to_the_width(rows: list[tuple[str, float]], width: int) -> None:
    assert all(len(line) <= width for line in bars(rows, width, "#", "ms"))


def test_prompts_differ_and_come_again_with_their_seed() -> None:
    prompts, again = Prompts(100, 7, same=False), Prompts(100, 7, same=False)
    first, second = prompts.next(), prompts.next()
    assert first != second
    assert again.next() == first
    assert len(second.split()) == 84
    same = Prompts(100, 7, same=True)
    assert same.next() == same.next()


@given(st.integers(1, 2000), st.integers(0, 200), st.integers(1, 8))
def test_a_prompt_has_about_the_tokens_that_were_wanted(tokens: int, around: int, each: int) -> None:
    """Whatever a tokenizer makes of a word, and a template around the words."""

    def ask(text: str) -> Sample:
        return Sample(0, 0, 0, around + each * len(text.split()), 1, counted=True)

    prompts = Prompts(tokens, 7, same=False)
    prompts.calibrate(ask)
    made = ask(prompts.next()).prompt_tokens
    assert abs(made - max(tokens, around + each)) <= each


def test_an_engine_that_does_not_count_gets_a_word_for_a_token() -> None:
    prompts = Prompts(100, 7, same=False)
    prompts.calibrate(lambda _: Sample(0, 0, 0, 0, 1, counted=False))
    assert len(prompts.next().split()) == 84


def test_calibrating_asks_short_questions_only(space: FakeCluster) -> None:
    """The smallest model holds 512 tokens, and may take several for a word."""
    assert ran(space, "bench", "qwen", "-c", "1", "--requests", "1", "--prompt-tokens", "100000")[0] == 0
    assert [len(body["messages"][0]["content"].split()) for body in space.asked[:2]] == [13, 39]


def test_a_table_of_every_concurrency_at_80_columns(space: FakeCluster) -> None:
    code, output, errors = ran(space, "bench", "qwen", "-c", "1,2", "--requests", "4", "--plot", "--output-tokens", "5")
    assert (code, errors) == (0, "")
    assert all(len(line) <= 80 for line in output.splitlines()), output
    head, one, two = output.splitlines()[:3]
    assert re.split(r"  +", head) == [
        *("REQUESTS AT A TIME", "DONE", "FAILED", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99", "TOKENS/S"),
    ]
    assert (one.split()[:3], two.split()[:3]) == (["1", "4", "0"], ["2", "4", "0"])
    assert "Tokens per second, by requests at a time" in output
    assert len(space.asked) == 2 + 4 + 4
    assert all(body["max_tokens"] == 5 and body["ignore_eos"] for body in space.asked[2:])
    assert len({body["messages"][0]["content"] for body in space.asked}) == 10


def test_a_wide_table_has_more_columns() -> None:
    samples = tuple(Sample(0.0, 0.5, 1.5, 100, 11, counted=True) for _ in range(1200))
    head, row = table([Level(8, 60.0, samples)], wide=True).splitlines()
    assert dict(zip(re.split(r"  +", head), re.split(r"  +", row), strict=True)) == {
        **{"REQUESTS AT A TIME": "8", "DONE": "1,200", "FAILED": "0", "TOKENS/S": "220.0", "REQUESTS/S": "20.00"},
        **{f"TTFT p{percent}": "500.0 ms" for percent in (50, 90, 99)},
        **{f"ITL p{percent}": "100.0 ms" for percent in (50, 90, 99)},
        **{"PROMPT TOKENS": "120,000", "OUTPUT TOKENS": "13,200", "SECONDS": "60.0"},
    }


def test_questions_keep_the_connection_and_survive_an_answer_that_begins_early(space: FakeCluster) -> None:
    assert ran(space, "bench", "qwen", "-c", "1", "--requests", "5", "--output-tokens", "5")[0] == 0
    assert space.expected == ["100-continue"] * 7, "the API server's proxy drops answers that begin early"
    # One for the object and the model, one for the first question and the load's thread at most.
    assert space.connections <= 3


def test_json_counts_what_the_engine_counted(space: FakeCluster) -> None:
    body = json.loads(ran(space, "bench", "qwen", "-c", "3", "--requests", "6", "-o", "json")[1])
    (level,) = body["levels"]
    assert (body["name"], body["model"], body["asked"]) == ("qwen", "m", {"promptTokens": 256, "outputTokens": 128})
    assert (level["requests"], level["promptTokens"], level["outputTokens"]) == (6, 240, 30)
    assert level["tokensCountedByEngine"] is True
    space.usage = None
    output = ran(space, "bench", "qwen", "-c", "1", "--requests", "1")[1]
    assert "pieces of text were counted instead" in output


def test_an_engine_that_refuses_the_first_request_is_one_sentence(space: FakeCluster) -> None:
    space.refuse_from = 1
    code, output, errors = ran(space, "bench", "qwen", "-c", "1")
    assert (code, output, errors) == (2, "", "kubectl llm bench: cannot ask qwen: 400 the prompt is too long\n")
    assert len(space.asked) == 1


def test_some_that_fail_make_exit_code_1(space: FakeCluster) -> None:
    space.refuse_from = 3
    code, output, errors = ran(space, "bench", "qwen", "-c", "1,2", "--requests", "1000")
    assert code == 1
    assert errors.startswith("kubectl llm bench: 20 failed: cannot ask qwen: 400")
    assert output.splitlines()[1].split()[:3] == ["1", "0", "20"]
    assert len(output.splitlines()) == 2, "the next concurrency was tried on an engine that answers nothing"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-c", "0"), "expected a whole number from 1 to 256"),
        (("-c", ",".join(map(str, range(1, 20)))), "expected at most 16"),
        (("--seconds", "9" * 5000), "expected a whole number from 1 to 3,600"),
        (("--output-tokens", "-1"), "expected a whole number from 1 to 1,000,000"),
    ],
)
def test_the_load_is_bounded(space: FakeCluster, arguments: tuple[str, ...], said: str) -> None:
    code, _, errors = ran(space, "bench", "qwen", *arguments)
    assert code == 2
    assert said in errors
    assert space.asked == []


def test_the_end_of_the_time_cuts_what_runs(space: FakeCluster) -> None:
    space.endless_from = 3
    code, output, _ = ran(space, "bench", "qwen", "-c", "2", "--seconds", "1")
    assert code == 0
    assert "Not finished at the end, and not counted: 2." in output
    assert space.closed.wait(30), "the engine goes on for nobody"


def test_an_engine_that_does_not_end_its_first_answer_is_one_sentence(space: FakeCluster) -> None:
    space.endless_from = 1
    code, output, errors = ran(space, "bench", "qwen", "-c", "1", "--seconds", "1")
    assert (code, output) == (2, "")
    assert errors == "kubectl llm bench: qwen did not answer a question of one token within 1 s\n"


def test_ctrl_c_prints_what_was_measured(space: FakeCluster) -> None:
    space.endless_from = 5
    terminal = Terminal(space, "bench", "qwen", "-c", "1", "--requests", "9", TERM="xterm")
    terminal.until("2 of 9 requests")
    terminal.say("\x03")
    terminal.until("TOKENS/S")
    terminal.until("stopped; this is what was measured")
    assert terminal.ended() == 130


def test_a_plot_of_nothing() -> None:
    assert plot([Level(1, 0.0, ())], 40, blocks=False)[1] == "1  0.0 tokens/s"
