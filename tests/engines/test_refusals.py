"""What the parser lets through and the engine refuses, and what a field owns, is refused by the operator."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_operator.engines import KVAllocation, RefusedError, RenderRequest, check, render
from llm_operator.engines.arguments import check_arguments
from tests.engines.specs import RULES, TYPES, arguments, request_of, serves, spec_of, table_of
from tests.engines.worker import Worker

# What only the pod's files, or the engine's own structures inside an option's JSON, can tell.
POD_OR_STRUCTURE = re.compile(r"validation errors? for |chat template|[Nn]o such file")

TRAPS = [
    ("lmdeploy", ["--cache-max", "0.5"], "ConflictingArgument"),
    ("lmdeploy", ["--cache-max-entry-count", "1.0"], "ConflictingArgument"),
    ("lmdeploy", ["--cache-max-entry-count", "0"], "ConflictingArgument"),
    ("lmdeploy", ["--quant-policy", "42"], "ConflictingArgument"),
    ("lmdeploy", ["--quant-policy", "16"], "ConflictingArgument"),
    ("lmdeploy", ["--tp", "0"], "ConflictingArgument"),
    ("lmdeploy", ["--tool-call-parser", "nosuch"], "InvalidArgument"),
    ("lmdeploy", ["--reasoning-parser", "nosuch"], "InvalidArgument"),
    ("lmdeploy", ["--chat-template", "nosuch"], "InvalidArgument"),
    ("lmdeploy", ["--eager-mode"], "IgnoredArgument"),
    ("lmdeploy", ["--dp", "2"], "UnsupportedArgument"),
    ("vllm", ["--tensor-parallel-s", "2"], "ConflictingArgument"),
    ("vllm", ["--gpu-memory-utilization", "1.5"], "InvalidArgument"),
    ("vllm", ["--tensor-parallel-size", "0"], "ConflictingArgument"),
    ("vllm", ["--quantization", "nosuch"], "ConflictingArgument"),
    ("vllm", ["--max-model-len", "99999999"], "ConflictingArgument"),
    ("vllm", ["--kv_cache_dtype", "fp8"], "ConflictingArgument"),
    ("vllm", ["--load-format", "nosuch"], "InvalidArgument"),
    ("vllm", ["--reasoning-parser", "nosuch"], "InvalidArgument"),
    ("vllm", ["--enable-auto-tool-choice", "--tool-call-parser", "nosuch"], "InvalidArgument"),
]
"""Passed by the newest parsers; --quant-policy 42 and 16 and unknown names also by TurboMind's own configuration."""


@pytest.mark.parametrize(
    ("engine", "words", "reason"), TRAPS, ids=lambda value: "=".join(value) if isinstance(value, list) else str(value)
)
def test_traps_are_refused_although_the_parser_takes_them(
    worker: Worker, engine: str, words: list[str], reason: str
) -> None:
    if worker.engine != engine:
        engine_words = worker.ask("parse", ["m"])
        assert engine_words.error is None
        return
    if worker.version in ("0.18.0", "0.33.0"):
        assert worker.ask("parse", ["m", *words]).error is None
    backend = {"backend": "TurboMind"} if engine == "lmdeploy" else {}
    refused = check(spec_of(engine, worker.version, engine={"extraArgs": words, **backend}))
    assert ("InsecureEngineVersion" in {refusal.reason for refusal in refused}) is not serves(engine, worker.version)
    refusals = [refusal for refusal in refused if refusal.reason != "InsecureEngineVersion"]
    assert reason in {refusal.reason for refusal in refusals}
    assert all(words[0] in refusal.message or words[-2] in refusal.message for refusal in refusals)


def test_batch_limits_are_judged_as_the_engines_configuration_judges_them(
    worker: Worker, models: dict[str, str]
) -> None:
    """Not only what is refused must fail, also what is not refused must pass: the verdicts are the same."""
    table = table_of(worker.engine, worker.version)
    if worker.engine != "vllm":
        assert "--max-num-batched-tokens" not in table.options
        return
    off = next(name for name in ("--disable-chunked-prefill", "--no-enable-chunked-prefill") if name in table.options)
    limits = st.sampled_from(["0", "1", "99", "100", "101", "0.1k", "1k", "1K", "4096"])
    # Up to vLLM's own number of sequences for a CPU, 128: which one it takes of a GPU only the pod can tell.
    active_limits = st.sampled_from(["0", "1", "99", "100", "101"])
    counts = st.none() | st.sampled_from([1, 99, 100, 101, 1000, 1024, 3000])
    verdicts: Counter[bool] = Counter()

    @settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.none() | limits, st.none() | active_limits, st.booleans(), counts, counts, counts, counts)
    def judge(
        tokens: str | None,
        active: str | None,
        chunked: bool,
        sequences: int | None,
        planned_sequences: int | None,
        planned_tokens: int | None,
        context: int | None,
    ) -> None:
        words = [] if tokens is None else ["--max-num-batched-tokens", tokens]
        if active is not None and "--max-num-active-seqs" in table.options:
            words += ["--max-num-active-seqs", active]
        words += [] if chunked else [off]
        parts = {} if sequences is None else {"maxConcurrentSequences": sequences}
        # Without chunked prefill and without a known context nobody can tell; a plan always knows it.
        known = context or (None if chunked else 1000)
        kv = KVAllocation(max_sequences=planned_sequences, max_batched_tokens=planned_tokens)
        spec = spec_of("vllm", worker.version, engine={"extraArgs": words}, **parts)
        request = request_of(spec, context_length=known, kv=kv)
        try:
            rendered = render(request).args[1:]
        except RefusedError:
            rendered = None
        # Refused: as the operator would render it if it did not look.
        told = [*words, *_limits(request)] if rendered is None else rendered
        error = worker.ask("configure", [models["HF"], *told]).error
        assert (error is None) is (rendered is not None), (told, error)
        verdicts[rendered is not None] += 1

    judge()
    assert min(verdicts[True], verdicts[False]) >= 10, verdicts


def _limits(request: RenderRequest) -> list[str]:
    sequences = request.spec.max_concurrent_sequences or request.kv.max_sequences
    given = [word.partition("=")[0] for word in request.spec.engine.extra_args]
    tokens = None if "--max-num-batched-tokens" in given else request.kv.max_batched_tokens
    wanted = {
        "--max-num-seqs": sequences,
        "--max-model-len": request.context_length,
        "--max-num-batched-tokens": tokens and max(tokens, sequences or 0),
    }
    return [word for name, value in wanted.items() if value is not None for word in (name, str(value))]


def test_every_owned_option_is_refused_with_its_field(worker: Worker) -> None:
    table, rules = table_of(worker.engine, worker.version), RULES[worker.engine]
    for name, field in rules.owned.items():
        if name not in table.options:
            continue
        for written in table.options[name].names:
            value = [] if table.options[name].takes == "0" else ["1"]
            for words in ([written, *value], [f"{written}=1"]):
                refusals = check_arguments(TYPES[worker.engine], table, rules, words)
                assert [refusal.reason for refusal in refusals] == ["ConflictingArgument"], words
                assert field in refusals[0].message


def test_what_the_operator_lets_through_the_parser_takes(worker: Worker) -> None:
    table, rules = table_of(worker.engine, worker.version), RULES[worker.engine]
    taken = 0

    @settings(max_examples=300, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(arguments(table, wild=True) | st.lists(st.text(min_size=1, max_size=8), max_size=2))
    def judge(words: list[str]) -> None:
        nonlocal taken
        if any("\0" in word for word in words) or check_arguments(TYPES[worker.engine], table, rules, words):
            return
        reply: Any = worker.ask("parse", ["m", *words])
        if reply.error is not None and POD_OR_STRUCTURE.search(reply.error):
            return
        assert reply.error is None, (words, reply.error)
        assert [word for word in reply.result["inexact"] if word.startswith("--")] == [], words
        taken += 1

    judge()
    assert taken >= 5
