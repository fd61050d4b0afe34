"""vLLM's batch limits between the user's arguments, the spec and the plan."""

from __future__ import annotations

from typing import Any

import pytest

from llm_operator.api import API_VERSION, KIND, LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import EngineRun, KVAllocation, RefusedError, RenderRequest, check, render
from llm_operator.engines.arguments import whole_number


def spec_of(*words: str, version: str = "0.33.0", **fields: Any) -> LLMDeploymentSpec:
    body = {
        "model": {"persistentVolumeClaim": {"claimName": "models"}},
        "engine": {"type": "VLLM", "version": version, "extraArgs": list(words)},
        **fields,
    }
    metadata = {"name": "demo", "namespace": "team"}
    return LLMDeployment.parse({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": body}).spec


def rendered(spec: LLMDeploymentSpec, context: int | None = None, **kv: int) -> EngineRun:
    return render(RenderRequest("demo", "team", spec, tensor=1, context_length=context, kv=KVAllocation(**kv)))


def option(run: EngineRun, name: str) -> str | None:
    return run.args[run.args.index(name) + 1] if name in run.args else None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4096", 4096),
        ("4k", 4000),
        ("4K", 4096),
        ("1.5k", 1500),
        ("1G", 2**30),
        ("1.5K", None),
        ("4Gi", None),
        ("", None),
    ],
)
def test_numbers_are_read_as_vllm_reads_them(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("words", [["--max-num-batched-tokens", "100"], ["--max-num-batched-tokens=100"]])
def test_fewer_tokens_than_sequences_of_the_spec_are_refused_by_check(words: list[str]) -> None:
    (refusal,) = check(spec_of(*words, maxConcurrentSequences=101))
    assert (refusal.reason, refusal.field) == ("ConflictingArgument", "spec.engine.extraArgs")
    for told in (
        "--max-num-batched-tokens 100",
        "101 sequences of spec.maxConcurrentSequences",
        "101 or more",
        "to 100",
    ):
        assert told in refusal.message
    assert check(spec_of(*words, maxConcurrentSequences=100)) == ()
    assert check(spec_of(*words)) == (), "vLLM lowers its own default by itself"


def test_fewer_tokens_than_the_plans_sequences_are_refused_by_render() -> None:
    spec = spec_of("--max-num-batched-tokens=0.1k")
    with pytest.raises(RefusedError, match=r"100 is less than the 256 sequences that the plan passes"):
        rendered(spec, max_sequences=256)
    assert option(rendered(spec, max_sequences=100), "--max-num-seqs") == "100"


def test_what_the_spec_says_goes_before_the_plan() -> None:
    spec = spec_of("--max-num-batched-tokens", "100", maxConcurrentSequences=64)
    assert option(rendered(spec, max_sequences=256), "--max-num-seqs") == "64"


@pytest.mark.parametrize("words", [["--max-num-batched-tokens", "0"], ["--max-num-active-seqs", "0"]])
def test_none_at_all_is_refused(words: list[str]) -> None:
    (refusal,) = check(spec_of(*words))
    assert (refusal.reason, "at least 1" in refusal.message) == ("InvalidArgument", True)


@pytest.mark.parametrize(
    ("version", "off"), [("0.20.2", "--no-enable-chunked-prefill"), ("0.33.0", "--disable-chunked-prefill")]
)
def test_without_chunked_prefill_a_prompt_is_one_batch(version: str, off: str) -> None:
    words = ["--max-num-batched-tokens", "4096"]
    (refusal,) = check(spec_of(off, *words, version=version, contextLength=4097))
    assert "4097 tokens of spec.contextLength" in refusal.message
    assert check(spec_of(off, *words, version=version, contextLength=4096)) == ()
    assert check(spec_of(*words, version=version, contextLength=4097)) == ()
    with pytest.raises(RefusedError, match="the plan passes as --max-model-len"):
        rendered(spec_of(off, *words, version=version), context=8192)


def test_without_chunked_prefill_the_context_is_rendered_as_tokens() -> None:
    off = "--disable-chunked-prefill"
    tokens = "--max-num-batched-tokens"
    assert option(rendered(spec_of(off), context=8192, max_batched_tokens=2048), tokens) == "8192"
    assert option(rendered(spec_of(off, maxConcurrentSequences=9000), context=8192), tokens) == "9000"
    assert option(rendered(spec_of(off), max_batched_tokens=2048), tokens) is None, "the model's context is not known"
    assert option(rendered(spec_of(), context=8192, max_batched_tokens=2048), tokens) == "2048"


def test_more_active_sequences_than_sequences_are_refused() -> None:
    (refusal,) = check(spec_of("--max-num-active-seqs", "9", maxConcurrentSequences=8))
    assert "--max-num-active-seqs 9" in refusal.message
    assert check(spec_of("--max-num-active-seqs", "8", maxConcurrentSequences=8)) == ()


def test_an_unreadable_number_is_told_once() -> None:
    (refusal,) = check(spec_of("--max-num-batched-tokens", "4Gi", maxConcurrentSequences=101))
    assert refusal.reason == "InvalidArgument"


def test_a_share_of_the_total_is_left_to_vllm() -> None:
    run = rendered(spec_of("--gpu-memory-utilization=0.85"), utilization_percent=80)
    assert [word for word in run.args if "utilization" in word or "kv-cache-memory" in word] == [
        "--gpu-memory-utilization=0.85"
    ]


@pytest.mark.parametrize(
    ("share", "cache", "reason"),
    [
        ("0.85", {"memoryPercent": 40}, "ConflictingArgument"),
        ("0.85", {"memory": "10Gi"}, "ConflictingArgument"),
        ("0", {}, "InvalidArgument"),
        ("1.01", {}, "InvalidArgument"),
        ("nan", {}, "InvalidArgument"),
        ("9" * 1000, {}, "InvalidArgument"),
        ("most", {}, "InvalidArgument"),
    ],
)
def test_a_share_that_cannot_be_is_refused(share: str, cache: dict[str, Any], reason: str) -> None:
    refused = check(spec_of(f"--gpu-memory-utilization={share}", kvCache=cache))
    assert {refusal.reason for refusal in refused} == {reason}
