"""What an engine says of itself now: requests, KV cache and time to first token, from its own metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llm_operator.cli.errors import BadInputError
from llm_operator.cli.serving import Serving
from llm_operator.engines.metric_names import metric_names
from llm_operator.engines.registry import ENGINES
from llm_operator.foreign import natural_number

JSON = dict[str, Any]

METRICS_BYTES = 4 << 20
LINE_CHARACTERS = 8192
WINDOW_SECONDS = 2.0
FULL = 0.9
"""Share of the KV cache from which requests wait for room in it."""
_TTFT = "time_to_first_token_seconds"


@dataclass(frozen=True, slots=True)
class Sums:
    """The samples of one answer of `/metrics`, added up over labels.

    Attributes:
        values: by name.
        buckets: of histograms: requests by upper bound in seconds, cumulative.
    """

    values: Mapping[str, float]
    buckets: Mapping[str, Mapping[float, float]]


def read_metrics(text: str) -> Sums:
    """The samples in the exposition format of Prometheus; a line that is none is passed over."""
    values: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {}
    for line in text.split("\n"):
        if line.startswith("#") or not 0 < len(line) <= LINE_CHARACTERS:
            continue
        name = line.split("{", 1)[0].split(" ", 1)[0]
        try:
            number = float(line.rsplit(" ", 1)[-1])
            bound = float(line.rsplit('le="', 1)[1].split('"', 1)[0]) if 'le="' in line else None
        except (ValueError, IndexError):
            continue
        if not math.isfinite(number):
            continue
        if bound is None:
            values[name] = values.get(name, 0.0) + number
        elif not math.isnan(bound):
            of = buckets.setdefault(name.removesuffix("_bucket"), {})
            of[bound] = of.get(bound, 0.0) + number
    return Sums(values, buckets)


def quantities(sums: Sums, engine: str) -> JSON:
    """Requests running and waiting, and the share of the KV cache in use; None if the engine does not say."""
    found: JSON = {}
    for quantity in ("requests_running", "requests_waiting", "kv_cache_usage_ratio"):
        names = [metric.name for metric in metric_names(engine, quantity)]
        values = [sums.values[name] for name in names if name in sums.values]
        found[quantity] = sum(values) if values else None
    return found


def first_token(sums: Sums, engine: str, before: Sums | None = None) -> JSON | None:
    """Median and 95th percentile of the time to first token, by its buckets; None: there was no request.

    Args:
        sums: an answer.
        engine: name of the engine.
        before: an earlier answer; what it had counted is left out.
    """
    for metric in metric_names(engine, _TTFT):
        counted = dict(sums.buckets.get(metric.name, {}))
        earlier = before.buckets.get(metric.name, {}) if before is not None else {}
        rest = {bound: counted[bound] - earlier.get(bound, 0.0) for bound in sorted(counted)}
        total = max(rest.values(), default=0.0)
        if total >= 1:
            return {"requests": round(total), "p50": _quantile(rest, total, 0.5), "p95": _quantile(rest, total, 0.95)}
    return None


def _quantile(buckets: Mapping[float, float], total: float, share: float) -> float | None:
    """As Prometheus' histogram_quantile: linear within a bucket; the last finite bound beyond all."""
    below = bound_below = 0.0
    for bound, count in buckets.items():
        if count >= share * total:
            if math.isinf(bound):
                return bound_below or None
            inside = (share * total - below) / (count - below) if count > below else 1.0
            return bound_below + (bound - bound_below) * inside
        below, bound_below = count, bound
    return None


def engine_now(serving: Serving, body: JSON, sleep: Callable[[float], None] = time.sleep) -> JSON:
    """What one pod says: requests, KV cache, first tokens since it started and, while it works, in a short window.

    Raises:
        BadInputError: the engine does not answer, or this user may not ask it.
    """
    engine = str((body["spec"].get("engine") or {}).get("type"))
    first = read_metrics(serving.metrics(METRICS_BYTES))
    found = quantities(first, engine)
    if found["requests_running"] is None:
        raise BadInputError([f"{serving.name} reports no metric that is known of {engine}"])
    found["timeToFirstToken"] = {"sinceStart": first_token(first, engine), "now": None}
    if found["requests_running"] or found["requests_waiting"]:
        sleep(WINDOW_SECONDS)
        second = read_metrics(serving.metrics(METRICS_BYTES))
        found |= quantities(second, engine)
        found["timeToFirstToken"]["now"] = first_token(second, engine, first)
    found["limit"] = limit(found, most_sequences(body))
    return found


def most_sequences(body: JSON) -> int | None:
    """Requests that one pod runs at a time, as its command line says."""
    engine = (body.get("status") or {}).get("engine") or {}
    row = ENGINES.get(str(engine.get("type")))
    option = row.max_sequences_option if row else ""
    arguments = engine.get("args") or []
    for index, word in enumerate(arguments):
        name, _, value = str(word).partition("=")
        if name == option:
            text = value or str(arguments[index + 1]) if value or index + 1 < len(arguments) else ""
            return natural_number(text, 8)
    most = body["spec"].get("maxConcurrentSequences")
    return most if isinstance(most, int) else None


def limit(now: Mapping[str, Any], most: int | None) -> str | None:
    """What requests wait for; None: none wait."""
    if not now.get("requests_waiting"):
        return None
    used = now.get("kv_cache_usage_ratio")
    if used is not None and used >= FULL:
        return "KV tokens"
    if most is not None and (now.get("requests_running") or 0) >= most:
        return "sequences"
    return "prefill" if used is not None else None
