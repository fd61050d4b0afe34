"""What an engine's metrics tell of now: both engines' names, buckets, and what requests wait for."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_operator.cli.engine_now import first_token, limit, most_sequences, quantities, read_metrics

VLLM = """# HELP vllm:num_requests_running Number of requests
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b"} 3.0
vllm:num_requests_running{engine="1",model_name="a b"} 1.0
vllm:num_requests_waiting{engine="0",model_name="a b"} 22.0
vllm:kv_cache_usage_perc{engine="0",model_name="a b"} 0.004
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="a b"} 10.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5",model_name="a b"} 18.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="a b"} 20.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="a b"} 20.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="a b"} 9.0
"""
LMDEPLOY = """lmdeploy:num_requests_running{model_name="m"} 2.0
lmdeploy:num_requests_waiting{model_name="m"} 1.0
lmdeploy:num_api_requests_waiting{model_name="m"} 4.0
lmdeploy:gpu_cache_usage_perc{model_name="m"} 0.95
"""


def test_both_engines_say_the_same_things() -> None:
    assert quantities(read_metrics(VLLM), "VLLM") == {
        "requests_running": 4.0, "requests_waiting": 22.0, "kv_cache_usage_ratio": 0.004,
    }  # fmt: skip
    assert quantities(read_metrics(LMDEPLOY), "LMDeploy") == {
        "requests_running": 2.0, "requests_waiting": 5.0, "kv_cache_usage_ratio": 0.95,
    }  # fmt: skip
    assert set(quantities(read_metrics(""), "VLLM").values()) == {None}


def test_the_time_to_first_token_now_is_that_of_the_requests_since_an_earlier_look() -> None:
    before = read_metrics(VLLM)
    assert first_token(before, "VLLM") == {"requests": 20, "p50": 0.1, "p95": 0.5}
    later = VLLM.replace('le="0.5",model_name="a b"} 18.0', 'le="0.5",model_name="a b"} 22.0')
    later = later.replace('le="+Inf",model_name="a b"} 20.0', 'le="+Inf",model_name="a b"} 24.0')
    now = first_token(read_metrics(later), "VLLM", before)
    assert now is not None
    assert (now["requests"], now["p50"]) == (4, pytest.approx(0.3))
    assert first_token(before, "VLLM", before) is None
    assert first_token(read_metrics(LMDEPLOY), "LMDeploy") is None


@given(st.text(max_size=400))
def test_any_text_is_read(text: str) -> None:
    read_metrics(text)
    read_metrics(f'vllm:x_bucket{{le="{text}"}} {text}')


@given(st.lists(st.floats(0.001, 99), min_size=1, max_size=50))
def test_a_quantile_is_right_to_its_bucket(values: list[float]) -> None:
    bounds = [0.01, 0.1, 1.0, 10.0, 100.0]
    text = "".join(
        f'vllm:time_to_first_token_seconds_bucket{{le="{bound}"}} {sum(value <= bound for value in values)}\n'
        for bound in [*bounds, math.inf]
    )
    found = first_token(read_metrics(text), "VLLM")
    assert found is not None
    exact = sorted(values)[math.ceil(0.95 * len(values)) - 1]
    upper = next(bound for bound in bounds if exact <= bound)
    assert upper / 10 <= found["p95"] <= upper or (upper == 0.01 and found["p95"] <= upper)


@pytest.mark.parametrize(
    ("running", "waiting", "used", "most", "expected"),
    [
        (4, 0, 0.99, 4, None),
        (4, 22, 0.004, 4, "sequences"),
        (3, 2, 0.95, 4, "KV tokens"),
        (3, 2, 0.2, 4, "prefill"),
        (3, 2, None, None, None),
        (3, None, 0.2, None, None),
    ],
)
def test_what_requests_wait_for(
    running: int, waiting: int | None, used: float | None, most: int | None, expected: str | None
) -> None:
    now = {"requests_running": running, "requests_waiting": waiting, "kv_cache_usage_ratio": used}
    assert limit(now, most) == expected


@pytest.mark.parametrize(
    ("kind", "args", "spec", "expected"),
    [
        ("VLLM", ["--max-num-seqs", "7"], {}, 7),
        ("VLLM", ["--max-num-seqs=8"], {"maxConcurrentSequences": 3}, 8),
        ("LMDeploy", ["--max-batch-size", "9"], {}, 9),
        ("LMDeploy", ["--max-batch-size"], {}, None),
        ("LMDeploy", [], {"maxConcurrentSequences": 3}, 3),
        ("VLLM", [], {}, None),
    ],
)
def test_most_sequences_are_read_from_the_command_line(
    kind: str, args: list[str], spec: Any, expected: int | None
) -> None:
    assert most_sequences({"spec": spec, "status": {"engine": {"type": kind, "args": args}}}) == expected
