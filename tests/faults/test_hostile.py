"""Absurd but valid objects, and absurd words of Jobs, pods and annotations.

Each object gets a status for its generation, or was refused; what its user wrote stands in the pod as it was written;
the log shows no traceback and no endless retries, and its neighbours serve.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from devcluster.client import ApiError
from llm_operator.api import KIND
from llm_operator.pipeline.artifacts import (
    ANNOTATION_LEFTOVER,
    ANNOTATION_REMOVE,
    ANNOTATION_RESULT,
    ANNOTATION_SOURCE,
    ANNOTATION_UNUSED_SINCE,
)
from tests.cluster.helpers import Space
from tests.faults.conftest import Effort, Result
from tests.faults.scenarios import CACHED, claim
from tests.faults.twins import whole
from tests.faults.world import Case, World
from tests.support.objects import llm
from tests.support.strategies import valid_specs
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

JSON = dict[str, Any]
BATCH = 50
SHORT = 20
MOST_FAILURES = 4
"""Of one object: a conflict or a quota may be tried again, what can never succeed must not be."""
UGLY = [
    "$(HOME)", "$$(HOME)", "$(", "`id`", "; rm -rf /", "a\nb", "\r\n", "\t", "\u202e",
    "é" * 500, "\U0001f600" * 100,
    "\x7f", "\x1b[31m", "\ufeff", "{{ .Values }}", "%s%n", "--", "-", "'\"\\", " ", "\u2028", "x" * 2048, "=", "a=b=c",
]  # fmt: skip
GIANT_ENV = [{"name": f"V{number}", "value": "v" * 4096} for number in range(64)]
LONG = "l" * 50
WORDS = [
    "", "null", "[]", "{}", "{", '{"ok": "yes"}', '{"ok": true}', '{"ok": true, "directory": "/etc"}',
    '{"ok": true, "directory": "../.."}', '{"ok": true, "directory": "a\\u0000b"}',
    '{"ok": true, "directory": 7, "bytes": -1}',
    '{"ok": true, "directory": "models/a", "bytes": 1e400}', '{"ok": true, "directory": "models/a", "config": "AAAA"}',
    '{"ok": false, "reason": "not camel", "message": 7}', '{"ok": false, "reason": "' + "A" * 3000 + '"}',
    '{"ok": false, "message": "' + "\\ud800" + '"}', "[" * 20000, "x" * 30000, "\x1b[31m",
    '{"ok": false, "retry": "maybe"}',
    '{"ok": true, "directory": "models/a", "recipe": ' + "[" * 50 + "]" * 50 + "}", "9" * 5000, '{"ok": NaN}',
    '{"ok": true, "directory": "models/' + "d" * 600 + '"}',
    '{"ok": true, "directory": "models/a", "quality": {"a": "b"}}',
]  # fmt: skip
ANNOTATED = (ANNOTATION_RESULT, ANNOTATION_SOURCE, ANNOTATION_LEFTOVER, ANNOTATION_UNUSED_SINCE, ANNOTATION_REMOVE)


def drawn(count: int, number: int) -> list[JSON]:
    """Valid specs of the schema's whole width."""
    found: list[JSON] = []

    @seed(number)
    @settings(max_examples=count, database=None, phases=[Phase.generate], deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(valid_specs)
    def collect(spec: JSON) -> None:
        found.append(spec)

    collect()
    return found


def handmade(draw: random.Random) -> Iterator[JSON]:
    """Specs with values that break careless code."""
    plain = llm("any")["spec"]
    engine = plain["engine"]
    for text in UGLY:
        yield {**plain, "engine": {**engine, "extraArgs": [text]}}
        yield {**plain, "engine": {**engine, "env": [{"name": "A", "value": text}]}}
        yield {**plain, "podTemplate": {"metadata": {"annotations": {"a": text}}}}
    yield {**plain, "engine": {**engine, "env": GIANT_ENV}}
    yield {**plain, "engine": {**engine, "extraArgs": ["x" * 2048] * 64}}
    yield {**plain, "engine": {**engine, "env": [{"name": "PATH", "value": ""}, {"name": "PYTHONPATH", "value": "/"}]}}
    yield {**plain, "contextLength": 16_777_216, "maxConcurrentSequences": 65_536}
    yield {**plain, "gpu": {"memory": "1"}, "sharedMemory": "9P"}


def answered(space: Space) -> list[str]:
    """Names of the objects without a status for their generation."""
    waiting = []
    for body in space.plane.request("GET", space.path(KIND))["items"]:
        status = body.get("status") or {}
        if status.get("observedGeneration") != body["metadata"]["generation"] or not status.get("conditions"):
            waiting.append(body["metadata"]["name"])
    return waiting


def batch(case: Case, specs: list[JSON], result: Result) -> None:
    """Create objects, wait for the answer to each, look at them, delete them."""
    taken = {}
    for index, drawn_spec in enumerate(specs):
        name = f"h{result.count}" if index else f"h{result.count}-{LONG}"[:50]
        result.count += 1
        spec = {**drawn_spec, "replicas": min(int(drawn_spec.get("replicas", 1)), 1)}
        try:
            case.space.create(whole(name, spec))
        except ApiError as error:
            if error.status != 422:
                result.failures.append(f"{json.dumps(spec)[:2000]}: {error}")
            continue
        taken[name] = spec
    try:
        eventually(lambda: not answered(case.space), seconds=120, why=lambda: f"no status: {answered(case.space)}")
    except AssertionError as error:
        unanswered = {name: taken.get(name) for name in answered(case.space)[:3]}
        result.failures.append(f"{error}: {json.dumps(unanswered)[:6000]}\n{case.log.read_text()[-2500:]}")
    for name, spec in taken.items():
        if found := rewritten(case.space, name, spec):
            result.failures.append(found)
    for name in taken:
        case.space.delete(KIND, name)
    eventually(lambda: not case.space.names("Deployment") | case.space.names("Service"), seconds=120, why="all go")


def rewritten(space: Space, name: str, spec: JSON) -> str:
    """Whether an argument of the user's is not in the pod as Kubernetes would hand it on."""
    live = space.get("Deployment", name)
    if live is None:
        return ""
    args = [expanded(text) for text in live["spec"]["template"]["spec"]["containers"][0]["args"]]
    lost = [text for text in spec["engine"].get("extraArgs") or () if text not in args]
    return f"{name}: arguments {lost} are not among {args}" if lost else ""


def expanded(text: str) -> str:
    """What a container gets for an argument, if no variable is set: `$$` is a dollar."""
    return text.replace("$$", "$")


def retried(case: Case) -> str:
    """Objects whose reconciliation failed again and again."""
    found: Counter[str] = Counter()
    for line in case.log.read_text(errors="replace").splitlines():
        if "reconcile failed" in line and (name := re.search(r'"name": "([^"]*)"', line)):
            found[name[1]] += 1
    return "".join(f"{name} failed {count} times\n" for name, count in found.items() if count > MOST_FAILURES)


def test_hostile_objects(
    world: World, effort: Effort, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    with measured("hostile objects", "objects") as result, Case(world, "hostile") as case:
        specs = list(handmade(random.Random(effort.seed))) + drawn(2000 if effort.long else 30, effort.seed)
        if not effort.long:
            specs = random.Random(effort.seed).sample(specs, SHORT)
        deadline = effort.deadline()
        for start in range(0, len(specs), BATCH):
            if time.monotonic() > deadline:
                break
            batch(case, specs[start : start + BATCH], result)
        case.space.create(llm("neighbour"))
        # What its engine says of itself is read after it is ready, and is one more status.
        case.rest(lambda space: space.is_ready("neighbour"))
        wrong = case.quiet() or case.complaints() or retried(case)
        case.stop()
        result.failures += [text for text in (wrong,) if text]
        result.note = f"{case.peak_mib:.0f} MiB"
        for text in result.failures:
            print(text[:6000], flush=True)


def test_hostile_words(
    world: World, effort: Effort, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    draw = random.Random(effort.seed)
    words = [*WORDS, *UGLY] if effort.long else draw.sample(WORDS, 6)
    with measured("hostile last words and annotations of Jobs", "texts") as result, Case(world, "words") as case:
        claim()(case)
        case.space.create(llm("neighbour"))
        case.world.stand.words[case.space.name] = lambda _stage, about: (
            words[int(str(about.get("repository", "0")).rpartition("-")[2]) % len(words)],
            int(str(about.get("repository", "0")).rpartition("-")[2]) % 2,
        )
        for index in range(len(words)):
            repository = {"huggingFace": {"repository": f"org/model-{index}"}}
            case.space.create(llm(f"w{index}", **{**CACHED, "model": repository}))
            result.count += 1
        eventually(lambda: not answered(case.space), seconds=120, why=lambda: f"no status: {answered(case.space)}")
        time.sleep(3)
        for job in sorted(case.space.names("Job")):
            for annotation in ANNOTATED:
                with suppress(ApiError):
                    case.space.patch(job, {"metadata": {"annotations": {annotation: draw.choice(words)[:9000]}}}, "Job")
                    result.count += 1
        for pod in sorted(case.space.names("Pod")):
            lie_of_a_pod(case, pod, draw.choice(words)[:9000])
            result.count += 1
        case.space.patch("neighbour", {"spec": {"contextLength": 4096}})
        eventually(lambda: case.space.is_ready("neighbour"), seconds=60, why="the neighbour serves")
        case.rest(lambda space: not answered(space), quiet=3.0)
        wrong = case.complaints() or retried(case)
        result.failures += [text for text in (wrong,) if text]


def lie_of_a_pod(case: Case, pod: str, text: str) -> None:
    """Let a pod of a Job tell of a container that ended before, in a position and with words that no kubelet uses."""
    live = case.space.get("Pod", pod)
    if live is None or live["status"]["phase"] != "Succeeded":
        return
    end = {"exitCode": 137, "reason": text[:200] or "x", "message": text}
    stranger = {"name": "stranger", "image": "x", "imageID": "", "ready": False, "restartCount": 2**31 - 1}
    containers = [{**stranger, "state": {"terminated": end}}, *(live["status"].get("containerStatuses") or [])]
    body = {"status": {"containerStatuses": containers, "message": text, "reason": text[:100]}}
    with suppress(ApiError):
        path = f"{case.space.path('Pod', pod)}/status"
        case.space.plane.request("PATCH", path, body, "application/merge-patch+json")
