"""The end of a dead engine's log: read once per death, only where the termination message does not say why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_operator.kube.client import ApiError
from llm_operator.kube.last_logs import LAST_BYTES, LastLogs
from llm_operator.live.pods import pod_from
from llm_operator.manifests.pod import CONTAINER
from llm_operator.reconcile.diagnose import trouble_of
from llm_operator.reconcile.last_words import deaths, with_last_words
from llm_operator.reconcile.observed import Observed
from tests.support.build import resource
from tests.support.sources import wants

OF = resource()
KEY = ("default", "qwen")
CAUSE = "torch.OutOfMemoryError: CUDA out of memory."


def dead(message: str = "", code: int = 0, restarts: int = 1) -> Observed:
    end = {"exitCode": code, "message": message, "finishedAt": f"2026-01-01T00:00:0{restarts}Z"}
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    container = {"name": CONTAINER, "restartCount": restarts, "state": state, "lastState": {"terminated": end}}
    raw: dict[str, Any] = {
        "metadata": {"name": "qwen-0", "uid": "u", "resourceVersion": "1"},
        "status": {"containerStatuses": [container]},
    }
    return Observed(pods=(pod_from(raw),))


class Api:
    """Stands in for the API client: the kubelet's part is played."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer
        self.asked: list[bool] = []
        self.added: list[tuple[str, str]] = []

    async def read_log(self, *_: object, previous: bool) -> str:
        self.asked.append(previous)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def add(self, key: tuple[str, str]) -> None:
        self.added.append(key)


async def seen(api: Api, observed: Observed) -> Observed:
    logs = LastLogs(api, api)  # type: ignore[arg-type]
    assert logs.known(KEY) == {}
    logs.follow(KEY, wants(OF, deaths=deaths(observed, "VLLM")))
    for _ in range(5):
        await asyncio.sleep(0)
    logs.follow(KEY, wants(OF, deaths=deaths(observed, "VLLM")))
    return with_last_words(observed, logs.known(KEY), "VLLM")


def reason(observed: Observed) -> str:
    trouble = trouble_of(observed.pods, "VLLM")
    assert trouble is not None
    return trouble.reason


def test_a_silent_death_gets_its_cause_from_the_log_once() -> None:
    api = Api("x\n" * LAST_BYTES + CAUSE)
    assert reason(dead()) == "EngineExited"
    observed = asyncio.run(seen(api, dead()))
    assert reason(observed) == "GPUOutOfMemory"
    assert api.asked == [True]
    assert api.added == [KEY]
    assert observed.pods[0].end is not None
    assert len(observed.pods[0].end.message) <= LAST_BYTES


def test_a_crash_without_a_message_gets_its_cause_from_the_log() -> None:
    """The signal says that the engine crashed, and its log may say that the GPU is broken."""
    api = Api("RuntimeError: CUDA error: uncorrectable ECC error encountered\nSegmentation fault (core dumped)")
    assert reason(asyncio.run(seen(api, dead("", 139)))) == "GPUFaulty"
    assert api.asked == [True]


CUT = (
    "(Worker_TP1 pid=4) "
    + "RuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO for details)\n" * 25
)


def test_a_symptom_in_a_message_that_was_cut_is_not_the_last_word() -> None:
    """The kubelet keeps 2,048 bytes: the process that failed first may have said why before them."""
    api = Api(f"(Worker_TP0 pid=3) {CAUSE}\n{CUT}")
    assert reason(dead(CUT[-2048:], 1)) == "NCCLFailed"
    assert reason(asyncio.run(seen(api, dead(CUT[-2048:], 1)))) == "GPUOutOfMemory"
    assert api.asked == [True]


@pytest.mark.parametrize("message", [CUT[:200], f"{CUT}{CAUSE}"[-2048:]])
def test_a_whole_message_and_a_cause_cost_no_request(message: str) -> None:
    api = Api("")
    asyncio.run(seen(api, dead(message, 1)))
    assert api.asked == []


def test_a_message_that_says_why_costs_no_request() -> None:
    api = Api("")
    assert asyncio.run(seen(api, dead(CAUSE, 1))) == dead(CAUSE, 1)
    assert api.asked == []


@pytest.mark.parametrize(("status", "told"), [(403, "the operator may not read pods/log"), (500, "it did not come")])
def test_a_log_that_cannot_be_read_is_told(status: int, told: str) -> None:
    api = Api(ApiError(status, "refused", "refused"))
    observed = asyncio.run(seen(api, dead()))
    trouble = trouble_of(observed.pods, "VLLM")
    assert trouble is not None
    assert trouble.reason == "EngineExited"
    assert told in trouble.message
    assert api.asked == [True]
