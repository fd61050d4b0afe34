# ruff: noqa: E501 - lines of logs are quoted whole
"""What an engine says while it loads; lines as both engines print them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_operator.api.status import ProgressStatus
from llm_operator.reconcile.starting import FORBIDDEN, STUCK_SECONDS, Start, is_stuck, looked, not_seen, step
from llm_operator.reconcile.status import status_of
from tests.support.build import NOW, applied, pod, resource, situation

VLLM = [
    "(APIServer pid=1) INFO 05-07 12:00:00 [utils.py:1] vLLM API server version 0.33.0",
    "(EngineCore pid=84) INFO 05-07 12:00:01 [gpu_model_runner.py:5251] Starting to load model /models...",
    "(EngineCore pid=84) Loading safetensors checkpoint shards:  43% Completed | 3/7 [00:01<00:02,  1.97it/s]",
    "(EngineCore pid=84) INFO 05-07 12:00:09 [default_loader.py:1] Loading weights took 7.90 seconds",
    "(EngineCore pid=84) INFO 05-07 12:00:20 [backends.py:1156] Dynamo bytecode transform time: 10.66 s",
    "(EngineCore pid=84) INFO 05-07 12:00:21 [kv_cache_utils.py:1] GPU KV cache size: 162,704 tokens",
    "(EngineCore pid=84) Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  67%|██████▋   | 45/67 [00:05<00:02, 11.74it/s]",
    "(EngineCore pid=84) INFO 05-07 12:00:31 [gpu_model_runner.py:6845] Graph capturing finished in 9 secs, took 0.72 GiB",
]
STEPS = [
    "Starting",
    "Reading weights",
    "Reading weights 43 %",
    "Profiling memory",
    "Compiling",
    "Making the KV cache",
    "Capturing CUDA graphs 67 %",
    "Opening the server",
]
HANGS = "(EngineCore pid=84) INFO 05-07 12:0{}:00 [shm_broadcast.py:802] No available shared memory broadcast block found in 60 seconds."


def summary(log: str) -> str:
    found = step(log, None)
    return found.summary if found is not None else ""


@pytest.mark.parametrize("lines", range(1, len(VLLM) + 1))
def test_the_last_known_line_of_vllm_is_the_step(lines: int) -> None:
    assert summary("\n".join([*VLLM[:lines], "something else"])) == STEPS[lines - 1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "Convert to turbomind format:   0%|          | 0/32\rConvert to turbomind format:  81%|████████▏ | 26/32",
            "Reading weights 81 %",
        ),
        ("Loading:  25%|██▌       | 8/32 [00:01<00:04]", "Reading weights 25 %"),
        ("Loading weights from safetensors:  50%|█████     | 1/2 [00:01<00:01]", "Reading weights 50 %"),
        ("[TM][INFO] Object cache budget: 1234.5 MB from free 9.9 MB and ratio 0.8", "Making the KV cache"),
        ("Loading safetensors checkpoint shards: 999% Completed", "Reading weights 100 %"),
        ("INFO:     Started server process [1]", "Opening the server"),
        ("hello", ""),
    ],
)
def test_lines_of_lmdeploy_and_odd_ones(line: str, expected: str) -> None:
    assert summary(line) == expected


def test_bytes_read_are_told_of_bytes_to_read() -> None:
    found = step(VLLM[2], 1_000_000)
    assert found is not None
    assert (found.bytes, found.total_bytes, found.percent) == (430_000, 1_000_000, 43)
    assert step(VLLM[6], 1_000_000) == ProgressStatus(
        stage="Capturing CUDA graphs", summary="Capturing CUDA graphs 67 %", percent=67
    )


@given(st.text(max_size=300))
def test_any_log_is_read(text: str) -> None:
    looked(None, "demo-1", text, 7, 0.0)


def hanging(minutes: int) -> Start:
    start, log = None, VLLM[:3]
    for minute in range(minutes + 1):
        log = [*log, HANGS.format(minute % 10)]
        start = looked(start, "demo-1", "\n".join(log), None, minute * 60.0)
    assert start is not None
    return start


def test_what_is_said_again_and_again_is_no_progress() -> None:
    assert is_stuck(hanging(10), 600.0)
    assert not is_stuck(hanging(9), 540.0)
    assert hanging(3).waits
    moved = looked(hanging(10), "demo-1", "\n".join(VLLM[:4]), None, 660.0)
    assert not is_stuck(moved, 660.0 + STUCK_SECONDS - 1)
    assert not is_stuck(looked(hanging(10), "demo-2", "\n".join(VLLM[:3]), None, 660.0), 660.0)


def told(start: tuple[Start, bool] | None) -> tuple[str, str, str, ProgressStatus | None]:
    of = resource()
    seen = applied(of, observedGeneration=1, replicas=1, updatedReplicas=1)
    loads = pod(of, running=True, phase="Running", container="engine")
    status = status_of(situation(of, type(seen)(children=seen.children, pods=(loads,)), start=start), NOW)
    ready = next(entry for entry in status.conditions if entry.type == "Ready")
    return ready.status, ready.reason, ready.message, status.progress


def test_status_and_column_say_how_far_a_start_is() -> None:
    start = looked(None, "demo-1", "\n".join(VLLM[:3]), 1000, 0.0)
    state, reason, message, progress = told((start, False))
    assert (state, reason) == ("Unknown", "Loading")
    assert message.endswith("1 loading the model: Reading weights 43 %")
    assert progress is not None
    assert (progress.summary, progress.bytes) == ("Reading weights 43 %", 430)


def test_a_start_that_does_not_get_on_is_told_with_a_remedy() -> None:
    state, reason, message, _ = told((hanging(10), True))
    assert (state, reason) == ("False", "StartStuck")
    assert "--disable-custom-all-reduce" in message
    assert "since 1970-01-01T00:00:00Z at 'Reading weights 43 %'" in message
    slow = looked(None, "demo-1", VLLM[2], None, 0.0)
    assert "volume" in told((slow, True))[2]


def test_a_log_that_may_not_be_read_is_told_and_never_stuck() -> None:
    start = not_seen(None, "demo-1", 0.0)
    assert not_seen(start, "demo-1", 9.0) == start
    assert not is_stuck(start, STUCK_SECONDS * 9)
    state, reason, message, progress = told((start, False))
    assert (state, reason, progress) == ("Unknown", "Loading", None)
    assert FORBIDDEN in message
    assert told(None)[1] == "Loading"
