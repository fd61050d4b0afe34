"""Text that another process wrote: bounded, and never an error that nobody expects."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from llm_operator.engines.lmdeploy.capacity import pytorch_tokens, turbomind_tokens
from llm_operator.engines.registry import ENGINES
from llm_operator.engines.vllm.capacity import vllm_tokens, vllm_tokens_in_log
from llm_operator.foreign import (
    LABELS,
    LINE,
    SMALL,
    UnreadableError,
    natural_number,
    read_answer,
    read_json,
    read_object,
    sample_labels,
    shallow,
)
from llm_operator.live.pods import pod_from
from llm_operator.live.scheduling import asked_by
from llm_operator.manifests.chat_page import _context
from llm_operator.manifests.common import ANNOTATION_MODEL
from llm_operator.models.fields import Fields
from llm_operator.models.known.gemma import _global
from llm_operator.models.layers import Core
from llm_operator.modeltools import text as tools_text
from llm_operator.pipeline.artifacts import (
    ANNOTATION_LEFTOVER,
    ANNOTATION_RESULT,
    ANNOTATION_SOURCE,
    ANNOTATION_UNUSED_SINCE,
)
from llm_operator.pipeline.job_view import JobView, job_from
from llm_operator.pipeline.result import parse_result

JSON = dict[str, Any]
NESTED = ["[" * 5000, '{"a":' * 5000, "[" * 5000 + "]" * 5000, '{"ok": ' + "[" * 3000]
NUMBERS = ["9" * 5000, '{"bytes": ' + "9" * 5000 + "}", "1e999999", "-" + "1" * 4400]
ODD = [
    "",
    " ",
    "null",
    "NaN",
    "\x00",
    "\ud800",
    '"\\ud800"',
    "{",
    "{'a': 1}",
    "<html></html>",
    "5",
    '"text"',
    "\ufeff{}",
]
HOSTILE = st.one_of(
    st.sampled_from([*NESTED, *NUMBERS, *ODD]),
    st.text(max_size=200),
    st.text(alphabet='[]{}":,0123456789eE+-.\\u \n', max_size=400),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
        max_leaves=20,
    ).map(json.dumps),
    st.fixed_dictionaries(
        {"ok": st.booleans()},
        optional={
            name: st.one_of(st.text(max_size=600), st.integers(), st.lists(st.integers(), max_size=2), st.none())
            for name in ("reason", "message", "directory", "bytes", "revision", "weightsBytes", "config", "recipe")
        },
    ).map(json.dumps),
)
many = settings(max_examples=1000, deadline=None)


@pytest.mark.parametrize("text", [*NESTED, NUMBERS[1], "", " ", "\ud800", "{", "<html></html>", b"\xff\xfe"])
def test_what_cannot_be_read_is_one_error(text: str | bytes) -> None:
    with pytest.raises(UnreadableError) as raised:
        read_json(text)
    assert len(str(raised.value)) < 300


def test_a_long_text_is_not_parsed() -> None:
    with pytest.raises(UnreadableError, match=f"at most {SMALL:,}"):
        read_json(" " * (SMALL + 1))


@many
@given(HOSTILE)
def test_an_object_is_read_or_nothing(text: str) -> None:
    assert isinstance(dict(read_object(text)), dict)


def pod(message: str, annotation: str) -> JSON:
    ended = {"exitCode": 1, "reason": "Error", "message": message, "finishedAt": "2026-01-01T00:00:00Z"}
    return {
        "metadata": {"name": "p", "uid": "u", "resourceVersion": "1", "annotations": {ANNOTATION_MODEL: annotation}},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "engine", "state": {"terminated": ended}}]},
    }


@many
@given(HOSTILE, HOSTILE)
def test_any_termination_message_and_annotation_of_a_pod(message: str, annotation: str) -> None:
    seen = pod_from(pod(message, annotation))
    assert all(isinstance(directory, str) for directory in seen.models)


def job(**annotations: str) -> JSON:
    return {"metadata": {"name": "j", "uid": "u", "resourceVersion": "1", "annotations": annotations}, "spec": {}}


def check_job(view: JobView) -> None:
    result, leftover = view.result(), view.leftover()
    assert not view.directory().startswith("/")
    assert ".." not in view.directory().split("/")
    assert leftover is None or leftover.directory
    if result is not None:
        assert result.bytes is None or 0 <= result.bytes < 2**53
        assert not result.reason or result.reason.isalnum()
        assert result.config is None or len(result.config) <= 256 << 10
    view.removal()


@many
@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_any_annotations_of_a_job(result: str, source: str, incomplete: str, since: str) -> None:
    annotations = {
        ANNOTATION_RESULT: result,
        ANNOTATION_SOURCE: source,
        ANNOTATION_LEFTOVER: incomplete,
        ANNOTATION_UNUSED_SINCE: since,
    }
    check_job(job_from(job(**annotations)))


@pytest.mark.parametrize("since", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "1e9"])
def test_a_time_that_cannot_be_read_counts_as_absent(since: str) -> None:
    assert job_from(job(**{ANNOTATION_UNUSED_SINCE: since})).unused_since is None


@pytest.mark.parametrize(
    "directory", ["/etc", "../x", "models/../../x", "models//x", "a\nb", "a\x00b", "x" * 600, "models/./x", "a\\b"]
)
def test_a_directory_outside_of_the_volume_is_not_believed(directory: str) -> None:
    assert parse_result(json.dumps({"ok": True, "directory": directory})).directory == ""


@pytest.mark.parametrize("reason", ["no spaces here", "x" * 80, "1st", "Bad\nReason", "bad", "Ünicode"])
def test_a_reason_that_no_condition_can_have_becomes_the_generic_one(reason: str) -> None:
    assert parse_result(json.dumps({"ok": False, "reason": reason})).reason == "ToolFailed"


@many
@given(HOSTILE)
def test_any_answer_of_an_engine(text: str) -> None:
    for tokens in (
        vllm_tokens(text),
        vllm_tokens_in_log(f"INFO GPU KV cache size: {text} tokens\n"),
        pytorch_tokens(text, ""),
        turbomind_tokens(f"Object cache budget: {text} MB from free 1 MB and ratio 0.8", 1000),
    ):
        assert tokens is None or tokens >= 0


##### Metrics


@many
@given(
    st.dictionaries(
        st.from_regex(r"[a-z_][a-z0-9_]{0,10}", fullmatch=True), st.text(max_size=30), min_size=1, max_size=8
    )
)
def test_labels_are_read_as_prometheus_writes_them(labels: dict[str, str]) -> None:
    labels = {f"l_{name}": value for name, value in labels.items()}
    registry = CollectorRegistry()
    Gauge("vllm:cache_config_info", "help", list(labels), registry=registry).labels(**labels).set(1)
    text = generate_latest(registry).decode()
    assert sample_labels(text, "vllm:cache_config_info") == [labels]


def test_a_sample_with_too_many_labels_or_a_long_line_is_left_out() -> None:
    crowd = ",".join(f'l{number}="1"' for number in range(LABELS + 1))
    assert sample_labels(f"m{{{crowd}}} 1\n", "m") == []
    assert sample_labels(f'm{{a="{"x" * LINE}"}} 1\n', "m") == []
    assert sample_labels('m{a="1"} 1\n', "m") == [{"a": "1"}]


def test_a_line_that_was_cut_does_not_count() -> None:
    assert sample_labels('m{a="1"} 1', "m") == []


@given(st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_is_not_nested_too_deeply_stays_as_it_is(value: object) -> None:
    text = json.dumps(value).encode()
    assert shallow(text, 100) == text
    assert read_answer(text) == (value, text)


@given(
    st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
    st.integers(min_value=1, max_value=4),
)
def test_what_is_cut_is_what_is_nested_deeper(value: object, depth: int) -> None:
    def cut(inner: object, left: int) -> object:
        if isinstance(inner, list):
            return [cut(one, left - 1) for one in inner] if left else "nested too deeply"
        if isinstance(inner, dict):
            return {name: cut(one, left - 1) for name, one in inner.items()} if left else "nested too deeply"
        return inner

    assert json.loads(shallow(json.dumps(value).encode(), depth)) == cut(value, depth)


def test_a_megabyte_of_brackets_costs_little() -> None:
    for text in (b"[" * (1 << 20), b"[" * 500_000 + b"]" * 500_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000):
        with contextlib.suppress(UnreadableError):
            read_answer(text)


@pytest.mark.parametrize("read", [natural_number, tools_text.natural_number])
def test_a_whole_number_is_ascii_digits_and_not_too_many(read: Callable[[str, int], int | None]) -> None:
    for said, number in (("0", 0), ("007", 7), ("9" * 15, 10**15 - 1)):
        assert read(said, 15) == number
    for said in ("", "-1", "+1", " 1", "1_0", "1e3", "\u00b2", "\u0663", "9" * 16, "9" * 5_000):
        assert read(said, 15) is None


@given(st.text(max_size=20))
def test_any_text_is_a_whole_number_or_none(said: str) -> None:
    found = natural_number(said)
    assert found is None or int(said) == found


@pytest.mark.parametrize("odd", ["\u00b2", "9" * 5_000])
def test_a_configuration_with_odd_digits_is_read(odd: str) -> None:
    fields = Fields({"per_layer_config": {odd: {"head_dim": 3}, "1": {"head_dim": 5}}}, "A")
    core = Core(2, 8, 8, 8, 2, 1, 4, tied=False, context=8)
    assert _global(fields, core, (1,), same=False) == (5, 1)


@pytest.mark.parametrize("odd", ["\u00b2", "9" * 5_000])
def test_a_forged_template_with_odd_digits_is_read(odd: str) -> None:
    limits = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": odd, "example.com/other": 1}}}]}
    assert asked_by(limits).amounts == {"example.com/other": 1}
    row = next(iter(ENGINES.values()))
    assert _context([f"{row.context_option}={odd}"], row) is None
