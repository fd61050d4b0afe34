"""What `kubectl llm status` shows to people. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from llm_operator.cli.errors import one_line
from llm_operator.cli.listing import condition, model_of
from llm_operator.cli.pods import duration, load_words, seconds_since

JSON = dict[str, Any]

LABEL = 11
WEEK_SECONDS = 7 * 86_400
_WAITS_FOR = {
    "KV tokens": "room in the KV cache: kvCache.quantization, a shorter contextLength or more replicas help",
    "sequences": "a free sequence: raise maxConcurrentSequences, or add replicas",
    "prefill": "the prompts before them: the engine's compute is the limit",
}


def screen(body: JSON, found: JSON, width: int | None, now: datetime | None = None) -> str:
    """All of it.

    Args:
        body: the LLMDeployment.
        found: what was gathered around it.
        width: columns of the terminal; None: no terminal, and no line is wrapped.
        now: the present time; None: the clock's.
    """
    moment = now or datetime.now(UTC)
    spec = body["spec"]
    lines = [f"{found['namespace']}/{found['name']}: {model_of(spec)} on {(spec.get('engine') or {}).get('type')}", ""]
    for entry in found["conditions"]:
        message = one_line(entry["message"])
        lines.append(f"{entry['type']}: {entry['status']} {entry['reason']}{': ' * bool(message)}{message}")
    if not found["conditions"]:
        lines.append("The operator has not written a status yet.")
    lines.append("")
    for label, text in _facts(body, found, moment):
        lines.append(f"{(label + ':' if label else '').ljust(LABEL)} {text}")
    remedies = [f"Next: {remedy}" for remedy in _next(body, found)]
    lines += ["", *remedies] if remedies else []
    return "\n".join(part for line in lines for part in _wrapped(line, width))


def _wrapped(line: str, width: int | None) -> list[str]:
    if width is None or len(line) < width:
        return [line]
    return textwrap.wrap(
        line, max(20, width - 1), subsequent_indent="  ", break_long_words=True, break_on_hyphens=False
    ) or [""]


def _facts(body: JSON, found: JSON, now: datetime) -> Iterator[tuple[str, str]]:
    plan, measured = found["plan"] or {}, found["measured"] or {}
    if plan.get("kvTokens") is not None or measured.get("kvTokens") is not None:
        yield "KV tokens", f"planned {_number(plan.get('kvTokens'))}, held {_number(measured.get('kvTokens'))}"
    status = body.get("status") or {}
    replicas = body["spec"].get("replicas", 1)
    yield "Replicas", f"{status.get('readyReplicas', 0)} of {replicas} ready"
    yield from _rendering(found)
    load = load_words(found["loadSecondsLeft"])
    if load is not None:
        yield "Loading", load
    elif measured.get("secondsToReady") is not None:
        yield "Last start", f"{duration(measured['secondsToReady'])} from the container's start to Ready"
    if found["now"]:
        yield from _now(found["now"])
    yield from _pods(found["pods"], now)
    yield from _restarts(found, now)
    for event in found["warnings"]:
        age = seconds_since(event["last"], now)
        when = f", {duration(max(0, age))} ago" if age is not None else ""
        times = f" {event['count']:,} times" if event["count"] > 1 else ""
        yield "Warning", f"{event['reason']}{times}{when} ({event['about']}): {one_line(event['message'])[:300]}"
    if found["gpus"]:
        yield "GPUs", _gpus(found["gpus"])
    if found["operator"]:
        yield "Operator", _operator(found["operator"])
    for note in found["notes"]:
        yield "Not read", one_line(note)


def _rendering(found: JSON) -> Iterator[tuple[str, str]]:
    if found["revision"]:
        yield "Revision", f"{one_line(found['revision'])}; kubectl llm history {found['name']}"
    if found["progress"]:
        yield "Progress", _progress(found["progress"])


def _progress(progress: Mapping[str, Any]) -> str:
    left = progress.get("secondsLeft")
    text = one_line(str(progress.get("summary")))
    return f"{text}, about {duration(left)} left" if isinstance(left, int) and "left" not in text else text


def _now(now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    running, waiting = now.get("requests_running") or 0, now.get("requests_waiting") or 0
    text = f"{running:,.0f} request{'s' * (running != 1)} running, {waiting:,.0f} waiting (one pod)"
    if now.get("kv_cache_usage_ratio") is not None:
        text += f"; KV cache {now['kv_cache_usage_ratio']:.0%} full"
    yield "Now", text
    if now.get("limit"):
        yield "", f"requests wait for {_WAITS_FOR[now['limit']]}"
    first = now.get("timeToFirstToken") or {}
    parts = [
        f"{words} p50 {_seconds(entry['p50'])}, p95 {_seconds(entry['p95'])} ({_requests(entry['requests'])})"
        for words, entry in (("now", first.get("now")), ("since the pod's start", first.get("sinceStart")))
        if entry
    ]
    if parts:
        yield "First token", "; ".join(parts)


def _requests(count: float) -> str:
    return f"{count:,} request{'s' * (count != 1)}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.1f} s"


def _pods(pods: list[JSON], now: datetime) -> Iterator[tuple[str, str]]:
    for pod in pods:
        age = seconds_since(pod["created"], now)
        restarts = f"{pod['restarts']:,} restart{'s' * (pod['restarts'] != 1)}"
        since = f" in {duration(max(0, age))}" if age is not None else ""
        end = pod["lastEnd"]
        ago = seconds_since(end["finishedAt"], now) if end else None
        when = f", {duration(max(0, ago))} ago" if ago is not None else ""
        why = f"; the last one: {_reason(end)}, exit code {end['exitCode']}{when}" if end else ""
        state = "ready" if pod["ready"] else "ending" if pod["ending"] else str(pod["phase"]).lower()
        where = f"on {pod['node']}" if pod["node"] else "on no node"
        yield (
            "Pod",
            (f"{pod['name']}: {state}, {where}, {pod['gpus']} GPU{'s' * (pod['gpus'] != 1)}, {restarts}{since}{why}"),
        )


def _reason(end: Mapping[str, Any]) -> str:
    """The operator's word, with the kubelet's if it says more than that it ended."""
    said, explained = end["reason"] or "ended", end.get("explained")
    if not explained:
        return str(said)
    return f"{explained} ({said})" if said not in ("Error", "Completed", "ended") else str(explained)


def _restarts(found: Mapping[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    """All pods together, with the time that they cover: Kubernetes keeps nothing of pods that are gone."""
    total = found.get("restarts")
    age = seconds_since(total["since"], now) if total else None
    if not total or age is None or (not total["count"] and age >= WEEK_SECONDS):
        return
    text = f"{total['count']:,} since the oldest of these pods was created, {duration(max(0, age))} ago"
    if age < WEEK_SECONDS:
        text += "; for a week, with pods that are gone: dashboard LLM engines, or docs/cli.md, On call"
    yield "Restarts", text


def _gpus(found: Mapping[str, Any]) -> str:
    free = f"{found['free']:,} free (at most {found['mostFreeOnOneNode']:,} on one node)"
    waited = f", {found['waitedFor']:,} more waited for by pods" if found["waitedFor"] else ""
    cordoned = f", {found['cordoned']:,} unused on cordoned nodes" if found["cordoned"] else ""
    return (
        f"{found['resource']}: all LLMDeployments want {found['wanted']:,}; nodes have {found['offered']:,}, pods hold "
        f"{found['held']:,}{waited}, {free}{cordoned}"
    )


def _operator(found: Mapping[str, Any]) -> str:
    if found["holder"] is None:
        return "NOT running: its Lease has no holder, and no pod of it is ready"
    if not found["elected"]:
        return f"running ({found['holder']}), without a Lease that it holds"
    if found["running"]:
        return f"running ({found['holder']})"
    return f"NOT running; {found['holder']} renewed its Lease {duration(found['secondsSinceRenewal'])} ago"


def _next(body: JSON, found: JSON) -> Iterator[str]:
    from llm_operator.reasons import explain  # noqa: PLC0415

    operator = found["operator"]
    if operator and not operator["running"]:
        yield "no operator runs, so this status is old: kubectl get pods -A -l app.kubernetes.io/name=llm-operator"
    reason = condition(body, "Ready").get("reason", "")
    yield from dict.fromkeys(entry.remedy for entry in explain(reason) if entry.remedy and "Ready" in entry.conditions)
    healthy = condition(body, "Healthy")
    if healthy.get("status") == "False":
        yield from (entry.remedy for entry in explain(healthy.get("reason", "")) if "Healthy" in entry.conditions)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "not known"
