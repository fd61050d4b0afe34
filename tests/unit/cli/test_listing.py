"""The tables of `kubectl llm list` and the screen of `status`: columns, width, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_operator.cli.around import gpus, leader, warnings
from llm_operator.cli.cluster import Cluster
from llm_operator.cli.ends import reason_of, summary
from llm_operator.cli.listing import EXPENDABLE, kv_tokens, lines, progress
from llm_operator.cli.pods import duration, load_left, pod_of
from llm_operator.cli.status_screen import screen
from llm_operator.cli.table import aligned
from llm_operator.manifests.common import LABEL_DEPLOYMENT
from llm_operator.manifests.pod import CONTAINER
from llm_operator.reasons import explain

JSON = dict[str, Any]
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def body(**status: Any) -> JSON:
    spec = {"model": {"huggingFace": {"repository": "org/model"}}, "engine": {"type": "VLLM"}, "replicas": 2}
    return {"metadata": {"namespace": "team", "name": "qwen"}, "spec": spec, "status": status}


def pod(*, ready: bool = True, restarts: int = 0, ended: JSON | None = None) -> JSON:
    engine = {
        "name": "engine",
        "restartCount": restarts,
        "state": {"running": {"startedAt": "2026-11-30T11:59:00Z"}},
        "lastState": {"terminated": ended} if ended else {},
    }
    return {
        "metadata": {
            "name": "qwen-1",
            "namespace": "team",
            "creationTimestamp": "2026-11-28T12:00:00Z",
            "labels": {"llm-operator.dev/deployment": "qwen"},
        },
        "spec": {
            "nodeName": "gpu-1",
            "containers": [{"name": "engine", "resources": {"limits": {"nvidia.com/gpu": "2"}}}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            # The kubelet sorts by name: a sidecar may stand first.
            "containerStatuses": [{"name": "a-sidecar", "restartCount": 9}, engine],
        },
    }


def test_the_names_are_those_of_the_operator() -> None:
    from llm_operator.cli import pods  # noqa: PLC0415

    assert (pods.POD_LABEL, pods.CONTAINER) == (LABEL_DEPLOYMENT, CONTAINER)


@given(
    st.lists(st.lists(st.text("abc", max_size=60), min_size=3, max_size=3), min_size=1, max_size=5),
    st.integers(30, 200),
)
def test_a_table_keeps_to_the_width_and_loses_no_row(rows: list[list[str]], width: int) -> None:
    text = aligned(rows, width)
    assert len(text.split("\n")) == len(rows)
    assert all(len(line) <= width for line in text.split("\n"))
    assert aligned(rows, 10_000) == aligned(rows)


@pytest.mark.parametrize("width", [60, 79])
def test_names_stay_whole_and_less_important_columns_go(width: int) -> None:
    """Two names that begin alike would look the same."""
    rows = lines([named("qwen2-5-72b-prod-a"), named("qwen2-5-72b-prod-b")], every=True, wide=True, pods={})
    text = aligned(rows, width, whole=("NAMESPACE", "NAME"), expendable=EXPENDABLE)
    head, first, second = text.splitlines()
    assert max(len(head), len(first), len(second)) <= width
    assert (first.split()[:2], second.split()[:2]) == (["team", "qwen2-5-72b-prod-a"], ["team", "qwen2-5-72b-prod-b"])
    assert {"READY", "REASON"} <= set(head.split())
    assert "KV" not in head.replace("KV TOKENS", "").split()


def named(name: str) -> JSON:
    ready = {"type": "Ready", "status": "True", "reason": "ReplicasReady", "message": "1 of 1 replicas ready"}
    found = body(conditions=[ready], plan={"kvTokens": 5_000_000, "tensor": 1})
    return {**found, "metadata": {"namespace": "team", "name": name}}


def test_kv_tokens_in_use_and_held() -> None:
    assert kv_tokens({"measured": {"kvTokens": 2000}}, 0.25) == "500/2,000"
    assert kv_tokens({"measured": {"kvTokens": 2000}}) == "2,000"
    assert kv_tokens({"plan": {"kvTokens": 1000}}, 0.5) == "~1,000"
    assert kv_tokens({}) == "-"


def test_progress_has_the_time_that_is_left() -> None:
    told = {"summary": "Fetching 42 %", "secondsLeft": 130}
    assert progress(body(progress=told), []) == "Fetching 42 %, 2 min 10 s left"
    loading = [pod_of(pod(ready=False))]
    assert progress(body(), loading) == "-"
    assert load_left(body(measured={"secondsToReady": 95}), loading, NOW) == 35
    assert load_left(body(measured={"secondsToReady": 95}), [pod_of(pod())], NOW) is None


def test_a_pod_that_ends_is_not_one_that_loads() -> None:
    """It is not ready any more, and started long ago."""
    ending = pod(ready=True)
    ending["metadata"] = {**ending["metadata"], "deletionTimestamp": "2026-11-30T12:00:00Z"}
    old = pod_of(ending)
    assert load_left(body(measured={"secondsToReady": 95}), [old], NOW) is None
    assert f"{old['name']}: ending, on " in screen(body(), {**FOUND, "pods": [old]}, None, NOW)


def test_gpus_of_cordoned_nodes_are_not_free() -> None:
    def node(name: str, *, cordoned: bool) -> JSON:
        status = {"allocatable": {"nvidia.com/gpu": "4"}}
        return {"metadata": {"name": name}, "spec": {"unschedulable": cordoned}, "status": status}

    class Nodes:
        def objects(self, _namespace: None) -> Sequence[JSON]:
            return ()

        def list(self, _prefix: str, plural: str, _namespace: None) -> Sequence[JSON]:
            return [node("a", cordoned=True), node("b", cordoned=False)] if plural == "nodes" else []

    found = gpus(cast("Cluster", Nodes()))
    assert (found["offered"], found["free"], found["mostFreeOnOneNode"], found["cordoned"]) == (8, 4, 4, 4)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.6, "1 min"), (3599, "59 min 59 s"), (3600, "1 h"), (90_000, "1 d 1 h")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_restarts_are_the_engines() -> None:
    table = lines([body()], every=True, wide=False, pods={("team", "qwen"): [pod(restarts=3)]})
    row = dict(zip(*table, strict=True))
    assert (row["RESTARTS"], row["NAMESPACE"]) == ("3", "team")
    assert dict(zip(*lines([body()], every=False, wide=False), strict=True))["RESTARTS"] == "-"


FOUND: JSON = {
    "name": "qwen",
    "namespace": "team",
    "conditions": [{"type": "Ready", "status": "True", "reason": "ReplicasReady", "message": "1 of 1\x1b[2J"}],
    "plan": {"kvTokens": 1000},
    "measured": {"kvTokens": 990, "secondsToReady": 95},
    "progress": None,
    "loadSecondsLeft": None,
    "revision": "qwen-3-0123456789",
    "pods": [
        pod_of(pod(restarts=2, ended={"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-11-30T11:59:00Z"}))
    ],
    "restarts": {"count": 2, "since": "2026-11-28T12:00:00Z"},
    "now": {
        "requests_running": 4,
        "requests_waiting": 22,
        "kv_cache_usage_ratio": 0.004,
        "limit": "sequences",
        "timeToFirstToken": {
            "sinceStart": {"requests": 1000, "p50": 0.2, "p95": 0.5},
            "now": {"requests": 10, "p50": 2.0, "p95": None},
        },
    },
    "warnings": [
        {
            "reason": "EngineExited",
            "count": 2,
            "last": "2026-11-30T11:00:00Z",
            "about": "LLMDeployment qwen",
            "message": "x",
        }
    ],
    "operator": {"holder": "llm-operator-1", "elected": True, "secondsSinceRenewal": 4000, "running": False},
    "gpus": {
        **{"resource": "nvidia.com/gpu", "offered": 8, "held": 6, "free": 2, "mostFreeOnOneNode": 1},
        **{"waitedFor": 4, "wanted": 10, "cordoned": 2},
    },
    "notes": ["cannot list x"],
}


def test_the_screen_answers_what_a_person_on_call_asks() -> None:
    text = screen(body(), FOUND, None, NOW)
    for said in (
        "Ready: True ReplicasReady: 1 of 1\\x1b[2J",
        "planned 1,000, held 990",
        "qwen-3-0123456789; kubectl llm history qwen",
        "1 min 35 s from the container's start to Ready",
        "4 requests running, 22 waiting (one pod); KV cache 0% full",
        "requests wait for a free sequence: raise maxConcurrentSequences",
        "now p50 2.0 s, p95 unknown (10 requests); since the pod's start p50 200 ms, p95 500 ms (1,000 requests)",
        "2 restarts in 2 d; the last one: OOMKilled, exit code 137, 1 min ago",
        "Restarts:   2 since the oldest of these pods was created, 2 d ago; for a week, with pods that",
        "EngineExited 2 times, 1 h ago (LLMDeployment qwen): x",
        "all LLMDeployments want 10; nodes have 8, pods hold 6, 4 more waited for by pods, 2 free (at most 1 on one",
        "node), 2 unused on cordoned nodes",
        "NOT running; llm-operator-1 renewed its Lease 1 h 6 min ago",
        "Next: no operator runs, so this status is old",
        "Not read:   cannot list x",
    ):
        assert said in text, said
    narrow = screen(body(), FOUND, 60, NOW)
    assert all(len(line) < 60 for line in narrow.splitlines())
    assert "".join(narrow.split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ({"reason": "OOMKilled", "exitCode": 137}, "HostMemoryExhausted"),
        (
            {"reason": "Error", "exitCode": 1, "message": "torch.OutOfMemoryError: CUDA out of memory."},
            "GPUOutOfMemory",
        ),
        ({"reason": "Error", "exitCode": 1}, "EngineFailed"),
        ({"reason": "Completed", "exitCode": 0}, "EngineExited"),
    ],
)
def test_the_last_end_has_the_reason_that_explain_knows(ended: JSON, reason: str) -> None:
    assert reason_of(body(), pod(restarts=1, ended=ended)) == reason
    assert explain(reason)


def test_the_screen_has_the_words_of_operator_and_kubelet() -> None:
    end = {"exitCode": 137, "finishedAt": None}
    for reason, explained, said in (
        ("OOMKilled", "HostMemoryExhausted", "HostMemoryExhausted (OOMKilled)"),
        ("Error", "GPUOutOfMemory", "GPUOutOfMemory"),
        ("OOMKilled", None, "OOMKilled"),
        (None, None, "ended"),
    ):
        one = {**pod_of(pod(restarts=1)), "lastEnd": {**end, "reason": reason, "explained": explained}}
        assert f"the last one: {said}, exit code 137" in screen(body(), {**FOUND, "pods": [one]}, None, NOW)


def test_an_engine_that_did_not_end_and_an_unknown_one_have_no_reason() -> None:
    assert reason_of(body(), pod()) is None
    unknown = body()
    unknown["spec"]["engine"]["type"] = "Other"
    assert reason_of(unknown, pod(restarts=1, ended={"exitCode": 1})) is None


CREATED = ("2026-11-01T00:00:00Z", "2026-11-28T12:00:00Z")
"""More and less than a week ago."""


def test_restarts_are_counted_since_the_oldest_pod() -> None:
    first, second = pod_of(pod(restarts=2)), pod_of(pod(restarts=1))
    second["created"] = "2026-11-01T00:00:00Z"
    assert summary([first, second]) == {"count": 3, "since": "2026-11-01T00:00:00Z"}
    assert summary([]) is None
    text = screen(body(), {**FOUND, "restarts": summary([first, second])}, None, NOW)
    assert "Restarts:   3 since the oldest of these pods was created, 29 d 12 h ago\n" in text
    quiet = [screen(body(), {**FOUND, "restarts": {"count": 0, "since": since}}, None, NOW) for since in CREATED]
    assert "Restarts:" not in quiet[0]
    assert "Restarts:   0 since the oldest of these pods was created, 2 d ago; for a week, with pods" in quiet[1]


def test_an_engine_that_hangs_has_a_next_step() -> None:
    silent = {"type": "Healthy", "status": "False", "reason": "EngineSilent", "message": "pod qwen-0: no token"}
    hung = body(conditions=[silent])
    assert "Next: look at the pod's log, then delete the pod" in screen(hung, FOUND, None, NOW)


def event(reason: str, message: str, name: str = "qwen-0", kind: str = "Pod") -> JSON:
    return {
        "reason": reason,
        "message": message,
        "involvedObject": {"kind": kind, "name": name},
        "lastTimestamp": "2026-11-30T11:00:00Z",
    }


class Events:
    """A cluster that has these Warnings."""

    def __init__(self, *events: JSON) -> None:
        self._events = events

    def get(self, _path: str, _what: str) -> JSON:
        return {"items": self._events}


QWEN: JSON = {"metadata": {"namespace": "team", "name": "qwen"}}


def test_probes_that_fail_while_an_engine_loads_are_no_warning() -> None:
    probes = [event("Unhealthy", f"{kind} probe failed: refused") for kind in ("Startup", "Liveness")]
    events = Events(*probes, event("BackOff", "Back-off restarting failed container"))
    found = warnings(cast("Cluster", events), QWEN, ["qwen-0"])
    assert [(one["reason"], one["message"][:8]) for one in found] == [
        ("Unhealthy", "Liveness"),
        ("BackOff", "Back-off"),
    ]


def test_what_several_pods_or_a_condition_say_is_said_once() -> None:
    short, full = "0/1 nodes are available", "The pod cannot be scheduled: 0/1 nodes are available"
    pods = ["qwen-0", "qwen-1", "qwen-2"]
    events = Events(
        *(event("FailedScheduling", short, name) for name in pods),
        event("Unschedulable", full, "qwen", "LLMDeployment"),
        event("EngineExited", "an earlier one", "qwen", "LLMDeployment"),
    )
    unschedulable = {**QWEN, "status": {"conditions": [{"type": "Ready", "message": full}]}}
    found = warnings(cast("Cluster", events), unschedulable, pods)
    assert [(one["reason"], one["about"]) for one in found] == [
        ("FailedScheduling", "Pod qwen-0 and 2 others"),
        ("EngineExited", "LLMDeployment qwen"),
    ]
    assert len(warnings(cast("Cluster", events), QWEN, pods)) == 3


class Installed:
    """A cluster with Leases and pods of operators."""

    def __init__(self, leases: list[JSON], pods: list[JSON]) -> None:
        self._found = {"leases": leases, "pods": pods}

    def list(self, _prefix: str, plural: str, _namespace: None, selector: str = "") -> list[JSON]:
        assert plural == "leases" or selector == "app.kubernetes.io/name=llm-operator"
        return self._found[plural]


def lease(holder: str | None, renewed: str | None) -> JSON:
    return {"metadata": {"name": "llm-operator"}, "spec": {"holderIdentity": holder, "renewTime": renewed}}


LONG_AGO = "2020-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("leases", "pods", "said"),
    [
        ([lease("llm-operator-1_2", "2999-01-01T00:00:00.000000Z")], [], "running (llm-operator-1_2)"),
        ([lease("llm-operator-1_2", LONG_AGO)], [], "NOT running; llm-operator-1_2 renewed its Lease"),
        ([lease("", LONG_AGO)], [], "NOT running: its Lease has no holder, and no pod of it is ready"),
        ([lease(None, None)], [{"metadata": {"name": "llm-operator-9"}, "status": {}}], "NOT running: its Lease"),
        ([], [], "NOT running: its Lease has no holder"),
        ([], [{**pod(), "metadata": {"name": "llm-operator-9"}}], "running (llm-operator-9), without a Lease"),
    ],
)
def test_whether_an_operator_runs(leases: list[JSON], pods: list[JSON], said: str) -> None:
    """One that ended releases its Lease: the Lease stays, without a holder."""
    found = leader(cast("Cluster", Installed(leases, pods)))
    text = screen(body(), {**FOUND, "operator": found}, None, NOW)
    assert f"Operator:   {said}" in text
    assert ("Next: no operator runs" in text) == ("NOT" in said)
