"""Whether engines that answer their health check also work: from a few of their metrics, seen now and then. Pure.

vLLM's /health is 200 over a core that is stuck, and no probe sees a queue that only grows. What decides is how the
numbers change from one look to the next, with the time of each look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from llm_operator.api.finding import Finding
from llm_operator.api.resource import LLMDeployment
from llm_operator.engines import engine_of
from llm_operator.engines.metric_names import metric_names
from llm_operator.foreign import sample_sum
from llm_operator.live.pods import Pod
from llm_operator.reconcile.wants import Identity, identity

NOT_SEEN_YET = "NotSeenYet"
SILENT_SECONDS = 300.0
"""Requests that run for this long without a token, of a prompt or an answer, hang; a queue that grows this long while
the KV cache is full does not end by itself. The operator's option --engine-silent-seconds sets another time."""
FULL_RATIO = 0.95
"""Of the KV cache: beyond it there is no room for one more request of usual size."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at an engine.

    Attributes:
        at: seconds since 1970.
        running: requests that it works on.
        waiting: requests in its queue.
        tokens: tokens of prompts and answers since it started; it only grows.
        kv: share of the KV cache in use, 0 to 1; None if it does not say.
    """

    at: float
    running: float
    waiting: float
    tokens: float
    kv: float | None


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is remembered of an engine.

    Attributes:
        latest: the last look at it.
        moved_at: when a token came last, or nothing ran.
        queue_since: since when the KV cache is full and the queue has not been shorter; None while it is not so.
        queue_length: its length then.
    """

    latest: Sample
    moved_at: float
    queue_since: float | None = None
    queue_length: float = 0.0


def sample_of(engine: str, metrics: str, at: float) -> Sample | None:
    """What the metrics of an engine tell; None if they do not say what runs and what came of it.

    Args:
        engine: LMDeploy or VLLM.
        metrics: the answer of /metrics, perhaps cut.
        at: seconds since 1970.
    """

    def value(quantity: str) -> float | None:
        found = [sample_sum(metrics, metric.name) for metric in metric_names(engine, quantity)]
        known = [one for one in found if one is not None]
        return sum(known) if known else None

    running, answers = value("requests_running"), value("generation_tokens")
    if running is None or answers is None:
        return None
    tokens = answers + (value("prompt_tokens") or 0.0)
    return Sample(at, running, value("requests_waiting") or 0.0, tokens, value("kv_cache_usage_ratio"))


def followed(before: Vitals | None, sample: Sample) -> Vitals:
    """What is remembered after one more look."""
    still = before is not None and sample.running > 0 and sample.tokens == before.latest.tokens
    moved_at = before.moved_at if before is not None and still else sample.at
    if sample.kv is None or sample.kv < FULL_RATIO or sample.waiting <= 0:
        return Vitals(sample, moved_at)
    if before is None or before.queue_since is None or sample.waiting < before.queue_length:
        return Vitals(sample, moved_at, sample.at, sample.waiting)
    return Vitals(sample, moved_at, before.queue_since, before.queue_length)


@dataclass(frozen=True, slots=True)
class Seen:
    """A pod that serves, and what is known of it.

    Attributes:
        pod: its name.
        vitals: None while it has reported nothing.
        closed: why its metrics are not read; empty: they are, or will be.
    """

    pod: str
    vitals: Vitals | None = None
    closed: str = ""


def health_of(
    resource: LLMDeployment, pods: Iterable[Pod], reported: Mapping[Identity, Seen], silent_seconds: float
) -> Finding:
    """The condition Healthy of an object.

    Args:
        resource: the object.
        pods: its pods.
        reported: what was read from its engines, by container.
        silent_seconds: how long an engine may be silent, or its queue grow.
    """
    guarded, serving = guards(resource), serving_pods(pods)
    if guarded:
        return health(Seen(pod.name, closed=guarded) for pod in serving)
    return health((reported.get(identity(pod)) or Seen(pod.name) for pod in serving), silent_seconds=silent_seconds)


def serving_pods(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """The pods that serve."""
    return tuple(pod for pod in pods if pod.ready and not pod.deleting)


def guards(resource: LLMDeployment) -> str:
    """Why the metrics of an object's engines cannot be read at all; empty: they can."""
    engine = resource.spec.engine
    row = engine_of(engine.type)
    if row.metrics_need_key and engine.api_key is not None:
        return f"an API key guards {row.title}'s metrics, and the operator reads no Secrets"
    return ""


def health(pods: Iterable[Seen], silent_seconds: float = SILENT_SECONDS) -> Finding:
    """The condition Healthy of an object.

    Args:
        pods: those that are Ready.
        silent_seconds: how long an engine may be silent, or its queue grow.
    """
    seen = sorted(pods, key=lambda one: one.pod)
    if not seen:
        return Finding("Healthy", "Unknown", "NoReadyReplica", "no replica is available")
    wrong = [found for one in seen if one.vitals is not None and (found := _wrong(one.pod, one.vitals, silent_seconds))]
    if wrong:
        return min(wrong, key=lambda found: _WEIGHT[found.reason])
    # Only once every pod was looked at: which of them answers first would change the message, and the status with it.
    looked = all(one.vitals is not None or one.closed for one in seen)
    closed = next((one for one in seen if one.closed), None) if looked else None
    if closed is not None:
        return Finding("Healthy", "Unknown", "MetricsClosed", f"not seen: {closed.closed} (pod {closed.pod})")
    if all(one.vitals is not None for one in seen):
        return Finding("Healthy", "True", "EnginesWork", "requests get their tokens, or there are none")
    return Finding("Healthy", "Unknown", NOT_SEEN_YET, "the engines' metrics are read first")


_WEIGHT: Mapping[str, int] = {"EngineSilent": 0, "QueueGrowing": 1}


def _wrong(pod: str, vitals: Vitals, silent_seconds: float) -> Finding | None:
    """What is wrong with one engine. The words last as long as the trouble: a status is not written for numbers."""
    if vitals.latest.at - vitals.moved_at >= silent_seconds:
        text = (
            f"pod {pod}: requests run and no token has come since {_time(vitals.moved_at)}; its health check does not "
            "see it: look at its log, then delete the pod to get a new engine"
        )
        return Finding("Healthy", "False", "EngineSilent", text)
    since = vitals.queue_since
    if since is None or vitals.latest.at - since < silent_seconds or vitals.latest.waiting <= vitals.queue_length:
        return None
    text = (
        f"pod {pod}: its KV cache is full and its queue has grown since {_time(since)}: raise replicas, or give the KV "
        "cache more room with kvCache.quantization, kvCache.memoryPercent or parallelism.tensor"
    )
    return Finding("Healthy", "False", "QueueGrowing", text)


def _time(at: float) -> str:
    return datetime.fromtimestamp(math.floor(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
