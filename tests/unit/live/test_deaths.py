"""Restarts are counted since the pod was Ready last; pods as the kubelet writes them."""

from __future__ import annotations

from typing import Any

import pytest

from llm_operator.live.pods import Pod, pod_from
from llm_operator.reconcile.diagnose import trouble_of

BOUND = "2026-01-01T00:00:00Z"


def seen(
    restarts: int,
    *,
    ready: bool = False,
    since: str = BOUND,
    began: str | None = None,
    before: Pod | None = None,
    uid: str = "1",
) -> Pod:
    """A pod whose Ready condition changed at `since` and whose container that died last had begun at `began`."""
    last = {"terminated": {"exitCode": 1, "reason": "Error", "message": "x", "startedAt": began}} if began else {}
    status: dict[str, Any] = {
        "phase": "Running",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": BOUND},
            {"type": "Ready", "status": str(ready), "lastTransitionTime": since},
        ],
        "containerStatuses": [
            {"name": "engine", "restartCount": restarts, "state": {"running": {}}, "lastState": last}
        ],
    }
    return pod_from({"metadata": {"name": "demo-1", "uid": uid, "resourceVersion": "2"}, "status": status}, before)


def test_three_deaths_in_three_months_stall_nothing() -> None:
    pod = seen(0, ready=True)
    for month in (1, 2, 3):
        pod = seen(month, since=f"2026-0{month}-20T00:00:00Z", began=f"2026-0{month}-01T00:00:00Z", before=pod)
        assert pod.deaths == 1
        found = trouble_of([pod], "VLLM")
        assert found is not None
        assert not found.stalls
        assert "(1 restart)" in found.message
        pod = seen(
            month, ready=True, since=f"2026-0{month}-20T00:05:00Z", began=f"2026-0{month}-01T00:00:00Z", before=pod
        )
        assert pod.deaths == 0


def test_three_deaths_in_a_row_stall_also_after_a_healthy_life() -> None:
    pod = seen(4, ready=True)
    for restarts in (5, 6, 7):
        pod = seen(restarts, since="2026-02-01T00:00:00Z", began="2026-02-01T00:00:01Z", before=pod)
    assert pod.deaths == 3
    found = trouble_of([pod], "VLLM")
    assert found is not None
    assert found.stalls


@pytest.mark.parametrize(
    ("restarts", "since", "began", "deaths"),
    [
        (3, "2026-01-01T00:00:02Z", "2026-01-01T00:03:00Z", 3),  # never Ready
        (3, "2026-01-05T00:00:00Z", "2026-01-04T00:00:00Z", 1),  # the last death ended its readiness
        (3, "2026-01-05T00:00:00Z", "2026-01-05T00:01:00Z", 2),  # a death after that
        (1, "2026-01-05T00:00:00Z", "2026-01-05T00:01:00Z", 1),
        (0, "2026-01-05T00:00:00Z", None, 0),
        (3, "not a time", None, 3),
    ],
)
def test_an_operator_that_sees_a_pod_for_the_first_time_reads_its_times(
    restarts: int, since: str, began: str | None, deaths: int
) -> None:
    assert seen(restarts, since=since, began=began).deaths == deaths


def test_what_is_remembered_is_of_this_pod() -> None:
    before = seen(5, ready=True)
    assert seen(3, since="2026-01-01T00:00:01Z", before=before, uid="2").deaths == 3
    assert seen(3, since="2026-01-01T00:00:01Z", before=before).deaths == 0
