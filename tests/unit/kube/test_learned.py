"""What engines measured, kept in a ConfigMap: read leniently, written once, used for new specs alone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.learned import Learned, read_learned
from llm_operator.memory.calibration import NOTHING_LEARNED, Calibration, Record, StartKind
from llm_operator.planning import calibration_text
from llm_operator.planning.learning import KEY as DATA_KEY
from llm_operator.reconcile.measured import rendered_share
from llm_operator.reconcile.wants import Rendered
from tests.unit.kube.test_plan_source import KEY, KNOWN, Setting

KIND = StartKind("LMDeploy", "PyTorch", "0.18", "LlamaForCausalLM", "", "NVIDIA-L40S", 1, 16 << 30)
KEPT = Calibration((Record(KIND, (1 << 20,)),))


@dataclass
class FakeClient:
    """One ConfigMap."""

    data: Any = None
    error: Exception | None = None
    written: list[str] = field(default_factory=list)

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        assert (kind, namespace, name) == ("ConfigMap", "llm", "learned")
        if self.error is not None:
            raise self.error
        return {"metadata": {}, "data": self.data}

    async def patch(self, kind: str, namespace: str, name: str, patch: Any) -> dict[str, Any]:
        assert (kind, namespace, name) == ("ConfigMap", "llm", "learned")
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        ((operation),) = patch
        assert (operation["op"], operation["path"]) == ("add", "/data")
        self.written.append(operation["value"][DATA_KEY])
        return {}


def client_of(fake: FakeClient) -> ApiClient:
    return cast("ApiClient", fake)


@pytest.mark.parametrize(
    ("data", "error", "kept"),
    [
        ({DATA_KEY: calibration_text(KEPT)}, None, KEPT),
        (None, None, NOTHING_LEARNED),
        ({"other": "x"}, None, NOTHING_LEARNED),
        ({DATA_KEY: "[1"}, None, NOTHING_LEARNED),
        ({DATA_KEY: 7}, None, NOTHING_LEARNED),
        (None, ApiError(404, "NotFound", "no such ConfigMap"), NOTHING_LEARNED),
        (None, ApiError(403, "Forbidden", "not allowed"), NOTHING_LEARNED),
        (None, TimeoutError(), NOTHING_LEARNED),
    ],
)
async def test_what_cannot_be_read_is_left_out(data: Any, error: Exception | None, kept: Calibration) -> None:
    assert await read_learned(client_of(FakeClient(data, error)), "llm", "learned") == kept


async def test_nothing_is_read_or_written_without_a_name() -> None:
    fake = FakeClient(error=AssertionError("asked"))
    assert await read_learned(client_of(fake), "llm", "") == NOTHING_LEARNED
    learned = Learned(client_of(fake), "llm", "", NOTHING_LEARNED)
    learned.saw(KIND, 5)
    await asyncio.sleep(0.05)
    assert learned.calibration.records[0].extras == (5,)


async def test_starts_of_one_moment_are_one_or_two_writes_and_failed_ones_come_later() -> None:
    fake = FakeClient()
    learned = Learned(client_of(fake), "llm", "learned", KEPT)
    for tensor in (2, 4, 8):
        learned.saw(replace(KIND, tensor=tensor), tensor)
    await asyncio.sleep(0.05)
    assert len(fake.written) == 1
    assert [json.loads(fake.written[-1])[n]["tensor"] for n in range(4)] == [1, 2, 4, 8]
    fake.error = ApiError(403, "Forbidden", "not allowed")
    learned.saw(KIND, 7)
    await asyncio.sleep(0.05)
    fake.error = None
    learned.saw(KIND, 9)
    await asyncio.sleep(0.05)
    assert json.loads(fake.written[-1])[-1]["extras"] == [1 << 20, 7, 9]


@pytest.mark.parametrize(
    ("args", "share"),
    [
        (["m", "--cache-max-entry-count", "0.40"], 0.4),
        (["m", "--gpu-memory-utilization=0.9", "x"], 0.9),
        (["m", "--gpu-memory-utilization"], None),
        (["m", "--cache-max-entry-count", "much"], None),
        (["m", "--kv-cache-memory-bytes", "7"], None),
    ],
)
def test_the_share_that_runs_is_read_from_the_command_line(args: list[str], share: float | None) -> None:
    assert rendered_share(args) == share


SPEC: dict[str, Any] = {
    "gpu": {"memory": "80Gi"},
    "engine": {"type": "LMDeploy", "backend": "PyTorch", "version": "0.18.0"},
    "kvCache": {"memoryPercent": 40},
}


async def test_a_start_is_counted_and_planned_with_for_other_specs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch)
    setting.answer = KNOWN
    first = await setting.until("Fits", **SPEC)
    assert first.status is not None
    planned = first.status.kv_tokens
    assert planned is not None
    assert setting.request is not None
    started = Rendered(setting.request, "0.18.0", ("--cache-max-entry-count", "0.4"), 1, 131_072)
    learn, learned = setting.plans.learn, setting.plans._learned
    for args in ((), ("--cache-max-entry-count", "x")):
        learn(replace(started, args=args), planned - 8192)
    learn(replace(started, version="0.17.0"), planned - 8192)
    assert learned.calibration == NOTHING_LEARNED
    learn(started, planned - 8192)
    (record,) = learned.calibration.records
    assert record.extra > 0
    assert setting.outcome(**SPEC) == first, "what was planned stays as it is"
    changed = setting.outcome(**{**SPEC, "maxConcurrentSequences": 64})
    assert changed.status is not None
    assert "beyond the constants" in str(changed.status.explanation)
    setting.plans.forget(KEY)
    anew = setting.outcome(**SPEC)
    assert anew.status is not None
    assert anew.status.kv_tokens == planned - 8192
