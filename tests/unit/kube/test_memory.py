"""What one tenant writes costs the operator little memory, however it is made: it works for all of them."""

from __future__ import annotations

import base64
import gc
import gzip
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from llm_operator.kube.cache import Cache
from llm_operator.live.pods import pod_from
from llm_operator.pipeline.artifacts import (
    ANNOTATION_DAMAGED,
    ANNOTATION_JOB_TEMPLATE,
    ANNOTATION_LEFTOVER,
    ANNOTATION_MADE_FOR,
    ANNOTATION_RESULT,
    ANNOTATION_SOURCE,
)
from llm_operator.pipeline.job_view import job_from
from llm_operator.pipeline.result import parse_result
from llm_operator.reconcile import inspected_facts
from tests.support.objects import llm

COUNT = 20
MOST_KIB = 64.0
"""Of one Job or pod; the operator has 512 MiB."""
ANNOTATION_BYTES = 250_000
"""The API server takes 256 KiB of annotations."""


def job(number: int, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    meta = {"name": f"j-{number}", "uid": f"u-{number}", "resourceVersion": "1", "annotations": annotations or {}}
    return {"metadata": meta, "spec": {"template": {"spec": spec}}}


def kept(raw: dict[str, Any]) -> object:
    """What the operator keeps of a Job, once its result was read."""
    view = job_from(raw)
    return view, view.result()


def bomb(number: int) -> object:
    """A termination message of 4 KiB with a config.json of a megabyte."""
    config = json.dumps({"architectures": ["X"], "n": number, "pad": "a" * 1_000_000}).encode()
    packed = base64.b64encode(gzip.compress(config, mtime=0)).decode()
    result = parse_result(json.dumps({"ok": True, "directory": ".", "config": packed}))
    assert result.packed_config is not None
    return result, inspected_facts._facts(result.packed_config, None, None)


def nested(number: int, size: int = ANNOTATION_BYTES) -> str:
    """JSON of which every three bytes become a list."""
    return json.dumps({"ok": True, "n": number, "more": [[]] * (size // 4)}, separators=(",", ":"))


def pod(number: int, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": f"p-{number}", "uid": f"u-{number}", "resourceVersion": "1"}, "status": status}


def state(number: int, **of: Any) -> dict[str, Any]:
    return pod(number, containerStatuses=[{"name": "engine", "state": of, "restartCount": 0}])


LONG = "\N{FIRE}" * 300_000
TAKES: dict[str, Callable[[int], object]] = {
    "config.json that unpacks to much": bomb,
    "a long result": lambda n: kept(job(n, {ANNOTATION_RESULT: f"{n}" + "\N{FIRE}" * (ANNOTATION_BYTES // 4)})),
    "a result of many values": lambda n: kept(job(n, {ANNOTATION_RESULT: nested(n)})),
    "a short result of many values": lambda n: kept(job(n, {ANNOTATION_RESULT: nested(n, 8000)})),
    "a source of many values": lambda n: kept(job(n, {ANNOTATION_SOURCE: nested(n)})),
    "a short source of many values": lambda n: kept(job(n, {ANNOTATION_SOURCE: nested(n, 8000)})),
    "a leftover of many values": lambda n: kept(job(n, {ANNOTATION_LEFTOVER: nested(n)})),
    "other long annotations": lambda n: kept(
        job(
            n, dict.fromkeys((ANNOTATION_DAMAGED, ANNOTATION_JOB_TEMPLATE, ANNOTATION_MADE_FOR), f"{n}" + LONG[:20_000])
        )
    ),
    "a placement of many values": lambda n: kept(job(n, affinity={"n": n, "x": [{} for _ in range(100_000)]})),
    "a placement of long keys": lambda n: kept(job(n, nodeSelector={f"{n}{LONG}": "a"})),
    "a placement of long texts": lambda n: kept(job(n, nodeSelector={"a": f"{n}{LONG}"})),
    "a long failure": lambda n: kept(
        job(n) | {"status": {"conditions": [{"type": "Failed", "status": "True", "message": f"{n}{LONG}"}]}}
    ),
    "a pod's last words": lambda n: pod_from(state(n, terminated={"exitCode": 1, "message": f"{n}{LONG}"})),
    "a pod's reasons": lambda n: pod_from(state(n, terminated={"exitCode": 1, "reason": f"{n}{LONG}"})),
    "what a pod waits for": lambda n: pod_from(state(n, waiting={"reason": f"{n}{LONG}", "message": f"{n}{LONG}"})),
    "why a pod fails": lambda n: pod_from(pod(n, reason=f"{n}{LONG}", message=f"{n}{LONG}")),
    "a scheduler's message": lambda n: pod_from(
        pod(
            n,
            conditions=[
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": f"{n}{LONG}"}
            ],
        )
    ),
}


def served(number: int, **spec: Any) -> dict[str, Any]:
    made = llm(f"d-{number}", **spec)
    made["metadata"] |= {"namespace": "team", "uid": f"u-{number}", "resourceVersion": "1", "generation": 1}
    return made


def cached(raw: dict[str, Any]) -> object:
    """What the cache keeps of an object of the API server's, which it parses anew each time."""
    cache = Cache()
    cache.update(json.loads(json.dumps(raw)))
    return cache


def with_metadata(number: int, **meta: Any) -> object:
    raw = served(number)
    return cached({**raw, "metadata": {**raw["metadata"], **meta}})


def template(number: int, value: object) -> dict[str, Any]:
    return {"podTemplate": {"spec": {"x": value, "n": number}}}


MANY = 6_000
TAKES |= {
    "a pod template of many values": lambda n: cached(served(n, **template(n, [{}] * MANY))),
    "a pod template of lists": lambda n: cached(served(n, **template(n, [[]] * MANY))),
    "a pod template of many fields": lambda n: cached(served(n, **template(n, {f"a{m}": 1 for m in range(MANY)}))),
    "a pod template of a long text": lambda n: cached(served(n, **template(n, LONG))),
    "the Jobs' pod template": lambda n: cached(served(n, tools=template(n, [{}] * MANY))),
    "the chat page's pod template": lambda n: cached(served(n, webUI=template(n, [{}] * MANY))),
    "a long spec": lambda n: cached(served(n, engine={"type": "VLLM", "extraArgs": [LONG]})),
    "labels": lambda n: with_metadata(n, labels={f"a{m}": "b" for m in range(MANY)}),
    "finalizers": lambda n: with_metadata(n, finalizers=[f"a/{m}" for m in range(MANY)]),
    "owners": lambda n: with_metadata(n, ownerReferences=[{"uid": f"{m}"} for m in range(MANY)]),
    "managers": lambda n: with_metadata(
        n, managedFields=[{"manager": f"m{m}", "subresource": "status"} for m in range(MANY)]
    ),
}


@pytest.mark.parametrize("what", TAKES)
def test_what_is_kept_is_bounded(what: str) -> None:
    take = TAKES[what]
    take(COUNT)
    gc.collect()
    tracemalloc.start()
    try:
        found = [take(number) for number in range(COUNT)]
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == COUNT
    assert grown / COUNT / 1024 < MOST_KIB
